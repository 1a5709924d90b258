"""Open a complete store and read single tiles of it; the structure is checked on opening, each chunk on reading.

    path -> container (folder or zip)
         -> manifest: its own digest, then every file there with its size and no file beside them
         -> SHA-256 of every file but the latents (metadata, tissue, colour profile)
         -> header -> arrays -> read_latents(level, row, col), checked by crc32c before it is decoded

Opening costs one listing and some small files however large the store is; the latents' own SHA-256 is `verify`'s work.
It knows nothing of models: what comes out is the quantised latent, as it was written. Where the header names an entropy
model, no more than the header can be read until that model has been registered.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from wsicomp.errors import StoreCorrupt
from wsicomp.store.container import Container, open_container
from wsicomp.store.manifest import MANIFEST, Manifest, is_chunk
from wsicomp.store.schema import StoreHeader

if TYPE_CHECKING:
    from wsicomp.store.arrays import StoreArrays

__all__ = ["StoreReader", "read_header", "read_manifest"]


class StoreReader:
    """A complete latent store, open for reading; `read_latents` may be called from several threads.

    Parameters
    ----------
    path
        A folder `NAME.zarr` or a file `NAME.zarr.zip`.

    Raises
    ------
    StoreError
        If there is no latent store at `path`, or it cannot be read.
    StoreIncomplete
        If the run that wrote it did not end.
    StoreVersion
        If a newer format wrote it.
    StoreCorrupt
        If its files are not those of its manifest.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._container = open_container(self.path)
        try:
            self._manifest = read_manifest(self._container, str(path))
            for name, reason in self._manifest.differences(self._container.sizes).items():
                raise StoreCorrupt(f"{path}: {name} is {reason}; restore the store, or encode the slide again")
            for name in self._manifest.files:
                if not is_chunk(name):
                    self._check_hash(name)
            self.header = read_header(self._container, str(path))
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the file handles; reading afterwards is an error."""
        self._container.close()

    @property
    def store_bytes(self) -> int:
        """Size of the store on disk: every file, index, metadata and manifest."""
        return self._container.total_bytes

    @property
    def icc_profile(self) -> bytes | None:
        """Colour profile of the decoded pixels; None where there is none.

        Raises
        ------
        StoreError
            If the latents' entropy model is not registered.
        """
        return self._arrays.icc_profile

    def tissue(self, level: int) -> NDArray[np.bool_]:
        """Mask of one level's tiles, (rows, cols) bool, read-only; True is tissue, and False is glass.

        Raises
        ------
        IndexError
            If the store has no such level.
        StoreError
            If the latents' entropy model is not registered.
        """
        self.header.grid(level)
        return self._arrays.tissue[level]

    def read_latents(self, level: int, row: int, col: int) -> NDArray[Any] | None:
        """Latents of one tile, checked against their checksum.

        A tile that sticks out of the image was stored without the part outside; that part is mirrored here from the
        part inside, so that every tile has the full size.

        Returns
        -------
        ndarray or None
            (C, T / 2**depth, T / 2**depth) in the store's dtype; None for a glass tile.

        Raises
        ------
        IndexError
            If the store has no such tile.
        StoreError
            If the latents' entropy model is not registered.
        StoreCorrupt
            If the tile's bytes are damaged or gone.
        """
        self.header.grid(level).tile(row, col)
        if not self._arrays.tissue[level][row, col]:
            return None
        inside = self._arrays.block(level, range(row, row + 1), range(col, col + 1))
        _, height, width = inside.shape
        full = self.header.chunk_px
        if (height, width) == (full, full):
            return inside
        return np.pad(inside, ((0, 0), (0, full - height), (0, full - width)), mode="symmetric")

    @cached_property
    def _arrays(self) -> StoreArrays:
        # zarr takes longer to import than a header takes to read, and `wsicomp info` needs only the header
        from wsicomp.store.arrays import StoreArrays

        return StoreArrays(self._container, self._manifest, self.header, str(self.path))

    def _check_hash(self, name: str) -> None:
        try:
            data = self._container.read(name, 0, self._manifest.files[name].bytes)
        except (OSError, EOFError) as error:
            raise StoreCorrupt(f"{self.path}: {name} cannot be read; restore the store") from error
        if hashlib.sha256(data).hexdigest() != self._manifest.files[name].sha256:
            raise StoreCorrupt(f"{self.path}: {name} does not match its checksum; restore it or encode the slide again")


def read_manifest(container: Container, store: str) -> Manifest:
    """Read a store's manifest and check its own digest.

    Raises
    ------
    StoreCorrupt
        If it is damaged.
    StoreVersion
        If a newer format wrote it.
    """
    try:
        raw = container.read(MANIFEST, 0, container.sizes[MANIFEST])
    except (OSError, EOFError) as error:
        raise StoreCorrupt(
            f"{store}: its manifest cannot be read; restore {MANIFEST} or encode the slide again"
        ) from error
    return Manifest.from_bytes(raw, store)


def read_header(container: Container, store: str) -> StoreHeader:
    """Read a store's header from the attributes of its root group.

    Raises
    ------
    StoreCorrupt
        If it is missing or damaged.
    StoreVersion
        If a newer format wrote it.
    """
    try:
        record = json.loads(container.read("zarr.json", 0, container.sizes["zarr.json"]))
        attributes = record["attributes"]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise StoreCorrupt(f"{store}: zarr.json cannot be read; restore it or encode the slide again") from error
    if not isinstance(attributes, dict):
        raise StoreCorrupt(f"{store}: zarr.json has no attributes; restore it or encode the slide again")
    return StoreHeader.from_attributes(attributes, store)
