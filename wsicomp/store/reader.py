"""Open a complete store and read single tiles of it; the structure is checked on opening, each chunk on reading.

    path -> container (folder or zip)
         -> manifest: its own digest, then every file there with its size and no file beside them
         -> SHA-256 of every file but the chunks of tiles (metadata, tissue, colour profile)
         -> header -> arrays -> read_tile(level, row, col), checked by crc32c before it is decoded
                                -> Glass | Latent | Picture

Opening costs one listing and some small files however large the store is; the chunks' own SHA-256 is `verify`'s work.
It knows nothing of networks: what comes out is what was written. Where the header names an entropy model, a latent
needs that model to be registered, and nothing else does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from wsicomp.errors import StoreCorrupt, StoreVersion
from wsicomp.store.container import Container, open_container
from wsicomp.store.manifest import MANIFEST, Manifest, is_chunk
from wsicomp.store.quality import from_steps
from wsicomp.store.schema import StoreHeader
from wsicomp.store.tiles import IS_PICTURE, Glass, Latent, StoredTile, TileCounts, completed

if TYPE_CHECKING:
    from wsicomp.store.arrays import StoreArrays

__all__ = ["StoreReader", "read_header", "read_manifest"]


class StoreReader:
    """A complete latent store, open for reading; `read_tile` may be called from several threads.

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
        """Colour profile of the decoded pixels; None where there is none."""
        return self._arrays.icc_profile

    @property
    def damaged(self) -> tuple[tuple[int, int, int], ...]:
        """Level, row and column of each tile that the slide could not give: it is a plain marked tile here."""
        return self._arrays.damaged if "damaged/zarr.json" in self._manifest.files else ()

    def tissue(self, level: int) -> NDArray[np.bool_]:
        """Return the mask of one level's tiles, (rows, cols) bool, read-only; True is tissue, and False is glass.

        Raises
        ------
        IndexError
            If the store has no such level.
        """
        self.header.grid(level)
        return self._arrays.tissue[level]

    def read_tile(self, level: int, row: int, col: int) -> StoredTile:
        """Read one tile, checked against its checksum, and say of which kind it is.

        Raises
        ------
        IndexError
            If the store has no such tile.
        StoreError
            If it is a latent, and its entropy model is not registered.
        StoreCorrupt
            If the tile's bytes are damaged or gone.
        """
        self.header.grid(level).tile(row, col)
        arrays, quality = self._arrays, self.header.quality
        if not arrays.tissue[level][row, col]:
            return Glass()
        if self.header.has_pictures:
            steps = int(arrays.quality[level][row, col])
            if steps == IS_PICTURE:
                picture = arrays.picture(level, row, col)
                if picture is None:
                    raise StoreCorrupt(
                        f"{self.path}: level {level}, tile row {row}, col {col} is damaged (its JPEG XL stream is gone)"
                        "; restore the store or encode the slide again"
                    )
                return picture
            quality = None if quality is None else from_steps(steps)
        inside = arrays.block(level, range(row, row + 1), range(col, col + 1))
        return Latent(completed(inside, self.header.chunk_px, mirrored=self.header.entropy is None), quality)

    def tile_counts(self) -> TileCounts:
        """Count the tiles of each kind."""
        header = self.header
        steps = self._arrays.quality if header.has_pictures else ()
        return TileCounts.of(header.total_tiles, header.tissue_tiles, header.quality, steps)

    def quality(self, level: int) -> NDArray[np.uint8] | None:
        """Return the quality of one level's tiles in steps, (rows, cols) uint8, read-only; 255 is a picture, glass 0.

        None for a store in which no tile can be a picture. Raises IndexError if the store has no such level.
        """
        self.header.grid(level)
        return self._arrays.quality[level] if self.header.has_pictures else None

    def fidelity(self, level: int) -> NDArray[np.float32] | None:
        """Return PSNR in dB and MS-SSIM of one level's tiles, (rows, cols, 2) float32, read-only; NaN on glass.

        None for a store without a floor. Raises IndexError if the store has no such level.
        """
        self.header.grid(level)
        return None if self.header.floor is None else self._arrays.fidelity[level]

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
    try:
        return Manifest.from_bytes(raw, store)
    except StoreVersion:
        with contextlib.suppress(StoreCorrupt):
            read_header(container, store)  # its own StoreVersion names the features that are lacking
        raise


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
