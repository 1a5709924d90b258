"""The arrays of a store, read through zarr, with every lost byte turned into an error.

    zarr array -> CheckedStore.get(key, range) -> container (folder or zip)

zarr takes a file that is not there for fill values, and a range that comes back empty for a missing chunk. So zarr
reads here through a store of our own, which answers only from what the manifest lists: a key that is not listed is
truly absent, and a listed one is there to the last byte or raises. Chunks and shard indexes carry crc32c, checked
before they are decoded; so a tissue tile that reads as zeros was written as zeros.

A range is read straight from the folder or the zip, so a tile of a packed store costs no more than one of a folder.
Nothing is ever written here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from threading import Lock
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from wsicomp.errors import StoreCorrupt
from wsicomp.store.coding import check_model, is_coded
from wsicomp.store.container import Container
from wsicomp.store.floored import FlooredArrays
from wsicomp.store.manifest import Manifest
from wsicomp.store.schema import StoreHeader

__all__ = ["CHUNK_DAMAGE", "StoreArrays", "one_line", "open_floored"]

CHUNK_DAMAGE = (ValueError, RuntimeError, OSError, EOFError, ExceptionGroup)
"""What reading a damaged chunk raises: checksums, zstd, rANS (LatentError is a ValueError), the disk, a file cut short;
newer zarr may group them."""

CACHED_INDEXES = 256
"""Shard indexes kept in memory, of 4 kB at most each."""


class CheckedStore(Store):
    """A read-only zarr store over exactly the files of a manifest."""

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, container: Container, manifest: Manifest) -> None:
        super().__init__(read_only=True)
        self._container = container
        self._files = manifest.files
        self._indexes: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = Lock()

    def __eq__(self, value: object) -> bool:
        return self is value

    __hash__ = object.__hash__

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Bytes of a listed file, or None for a file that is not listed."""
        entry = self._files.get(key)
        if entry is None:
            return None
        match byte_range:
            case None:
                data = self._container.read(key, 0, entry.bytes)
            case RangeByteRequest(start, end):
                if not 0 <= start < end <= entry.bytes:
                    raise ValueError("a chunk lies outside its shard")
                data = self._container.read(key, start, end - start)
            case OffsetByteRequest(offset):
                data = self._container.read(key, offset, entry.bytes - offset)
            case SuffixByteRequest(suffix):
                data = self._suffix(key, entry.bytes, suffix)
        if prototype is None:
            prototype = default_buffer_prototype()
        return prototype.buffer.from_bytes(data)

    def _suffix(self, key: str, size: int, suffix: int) -> bytes:
        with self._lock:
            cached = self._indexes.get((key, suffix))
            if cached is not None:
                self._indexes.move_to_end((key, suffix))
                return cached
        if suffix > size:
            raise ValueError("a shard is shorter than its index")
        data = self._container.read(key, size - suffix, suffix)
        with self._lock:
            self._indexes[key, suffix] = data
            if len(self._indexes) > CACHED_INDEXES:
                self._indexes.popitem(last=False)
        return data

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Several ranges, one after the other."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether a file is listed."""
        return key in self._files

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse: a complete store is never written to."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Refuse: a complete store is never written to."""
        self._check_writable()

    async def list(self) -> AsyncIterator[str]:
        """Every listed file."""
        for name in self._files:
            yield name

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Every listed file whose path starts with `prefix`."""
        for name in self._files:
            if name.startswith(prefix):
                yield name

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names directly under a folder."""
        start = prefix.rstrip("/") + "/" if prefix else ""
        for name in dict.fromkeys(n[len(start) :].split("/")[0] for n in self._files if n.startswith(start)):
            yield name


class StoreArrays:
    """The arrays of a store whose structure has been checked against its manifest.

    Parameters
    ----------
    container, manifest, header
        The store's files, what they should be, and how the arrays are laid out.
    store
        How an error message calls the store.

    Raises
    ------
    StoreError
        If the latents' entropy model is not registered.
    StoreCorrupt
        If the arrays are not those that the header promises.
    """

    def __init__(self, container: Container, manifest: Manifest, header: StoreHeader, store: str) -> None:
        self._header = header
        self._name = store
        check_model(header, store)
        try:
            root = open_root(container, manifest)
            self._latents = [self._array(root, f"latents/{level.index}") for level in header.levels]
            self.tissue = tuple(self._tissue(root, level.index) for level in header.levels)
            self.icc_profile = self._read(root, "icc_profile").tobytes() if "icc_profile" in root else None
        except (*CHUNK_DAMAGE, KeyError, TypeError) as error:
            raise StoreCorrupt(f"{store}: its arrays cannot be read ({one_line(error)}); restore it") from error
        for level, array in zip(header.levels, self._latents, strict=True):
            expected = header.latent_shape(level.index), np.dtype(header.latent_dtype)
            if (array.shape, array.dtype) != expected or not is_coded(array, header):
                raise StoreCorrupt(f"{store}: latents of level {level.index} are not those of its header; restore it")

    def block(self, level: int, rows: range, cols: range) -> NDArray[Any]:
        """Latents of a rectangle of tiles, cropped at the image's edge, (C, h, w) in the store's dtype.

        Raises
        ------
        StoreCorrupt
            If a chunk does not match its checksum or cannot be read.
        """
        step = self._header.chunk_px
        y, x = (slice(tiles.start * step, tiles.stop * step) for tiles in (rows, cols))
        try:
            return np.asarray(self._latents[level][:, y, x])
        except CHUNK_DAMAGE as error:
            raise StoreCorrupt(
                f"{self._name}: level {level}, tile row {rows.start}, col {cols.start} is damaged ({one_line(error)});"
                " restore the store or encode the slide again"
            ) from error

    @staticmethod
    def _array(root: zarr.Group, name: str) -> zarr.Array[Any]:
        array = root[name]
        if not isinstance(array, zarr.Array):
            raise TypeError(f"{name} is not an array")
        return array

    def _read(self, root: zarr.Group, name: str) -> NDArray[Any]:
        return np.asarray(self._array(root, name)[...])

    def _tissue(self, root: zarr.Group, level: int) -> NDArray[np.bool_]:
        mask, grid = self._read(root, f"tissue/{level}"), self._header.grid(level)
        if mask.shape != (grid.rows, grid.cols) or mask.dtype != np.bool_:
            raise ValueError(f"tissue of level {level} is not a mask of its tiles")
        mask.setflags(write=False)
        return mask


def open_root(container: Container, manifest: Manifest) -> zarr.Group:
    """Open the group of a store through its manifest."""
    return zarr.open_group(CheckedStore(container, manifest), mode="r", zarr_format=3, use_consolidated=False)


def open_floored(container: Container, manifest: Manifest, header: StoreHeader, store: str) -> FlooredArrays | None:
    """Open what a store with a floor adds; None for a store without one. No entropy model is needed.

    Raises
    ------
    StoreCorrupt
        If the arrays are not those that the header promises.
    """
    if header.floor is None:
        return None
    try:
        return FlooredArrays(open_root(container, manifest), header)
    except (*CHUNK_DAMAGE, KeyError, TypeError) as error:
        raise StoreCorrupt(f"{store}: its arrays cannot be read ({one_line(error)}); restore it") from error


def one_line(error: BaseException) -> str:
    """Put an error's own words on one line, cut to a length that fits."""
    return " ".join(str(error).split())[:120] or type(error).__name__
