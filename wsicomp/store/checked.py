"""A zarr store over exactly the files of a manifest, so that zarr takes no lost byte for a fill value.

    zarr array -> CheckedStore.get(key, range) -> container (folder or zip)

zarr takes a file that is not there for fill values, and a range that comes back empty for a missing chunk. This store
answers only from what the manifest lists: a key that is not listed is truly absent, and a listed one is there to the
last byte or raises. A range is read straight from the folder or the zip, so a tile of a packed store costs no more than
one of a folder. Nothing is ever written here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from threading import Lock

import zarr
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from wsicomp.store.container import Container
from wsicomp.store.manifest import Manifest

__all__ = ["CheckedStore", "open_root"]

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


def open_root(container: Container, manifest: Manifest) -> zarr.Group:
    """Open the group of a store through its manifest."""
    return zarr.open_group(CheckedStore(container, manifest), mode="r", zarr_format=3, use_consolidated=False)
