"""Open a complete store and read single tiles of it; the structure is checked on opening, each chunk on reading.

    path -> container (folder or zip)
         -> manifest: its own digest, then every file there with its size and no file beside them
         -> SHA-256 of every file but the latents (metadata, tissue, colour profile)
         -> header -> arrays -> read_latents(level, row, col), checked by crc32c before it is decoded
                                read_picture(level, row, col), for tiles that are JPEG XL in a store with a floor

Opening costs one listing and some small files however large the store is; the latents' own SHA-256 is `verify`'s work.
It knows nothing of models: what comes out is the quantised latent, as it was written. Where the header names an entropy
model, no more than the header can be read until that model has been registered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from wsicomp.errors import StoreCorrupt, StoreError, StoreVersion
from wsicomp.store.container import Container, open_container
from wsicomp.store.manifest import MANIFEST, Manifest, is_chunk
from wsicomp.store.schema import StoreHeader

if TYPE_CHECKING:
    from wsicomp.store.arrays import StoreArrays
    from wsicomp.store.floored import FlooredArrays

__all__ = ["StoreReader", "completed", "read_header", "read_manifest"]


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

        A tile that sticks out of the image was stored without the part outside, which `completed` fills in.

        Returns
        -------
        ndarray or None
            (C, T / 2**depth, T / 2**depth) in the store's dtype; None for a glass tile.

        Raises
        ------
        IndexError
            If the store has no such tile.
        StoreError
            If the latents' entropy model is not registered, or the tile is JPEG XL and has none.
        StoreCorrupt
            If the tile's bytes are damaged or gone.
        """
        self.header.grid(level).tile(row, col)
        if self._in_jpegxl(level, row, col):
            raise StoreError(
                f"{self.path}: level {level}, tile row {row}, col {col} is JPEG XL and has no latent; read its picture"
            )
        if not self._arrays.tissue[level][row, col]:
            return None
        inside = self._arrays.block(level, range(row, row + 1), range(col, col + 1))
        return completed(inside, self.header.chunk_px, mirrored=self.header.entropy is None)

    def read_picture(self, level: int, row: int, col: int) -> NDArray[np.uint8] | None:
        """Pixels of a tile that is stored as JPEG XL, checked against its checksum.

        Returns
        -------
        ndarray or None
            (tile_size, tile_size, 3) uint8; None for a tile that has a latent, and for glass.

        Raises
        ------
        IndexError
            If the store has no such tile.
        StoreCorrupt
            If the tile's bytes are damaged or gone.
        """
        self.header.grid(level).tile(row, col)
        if self._floored is None or not self._in_jpegxl(level, row, col):
            return None
        from wsicomp.store.arrays import CHUNK_DAMAGE, one_line

        try:
            return self._floored.picture(level, row, col)
        except CHUNK_DAMAGE as error:
            raise StoreCorrupt(
                f"{self.path}: level {level}, tile row {row}, col {col} is damaged ({one_line(error)});"
                " restore the store or encode the slide again"
            ) from error

    def tile_quality(self, level: int, row: int, col: int) -> float | None:
        """Quality that a tile's latent was encoded with; None for a codec without qualities.

        Raises
        ------
        IndexError
            If the store has no such tile.
        """
        self.header.grid(level).tile(row, col)
        if self._floored is None or self.header.quality is None:
            return self.header.quality
        return int(self._floored.quality[level][row, col]) / 16

    def quality(self, level: int) -> NDArray[np.uint8] | None:
        """Quality of one level's tiles in sixteenths, (rows, cols) uint8, read-only; 255 is JPEG XL, and glass is 0.

        None for a store without a floor. Raises IndexError if the store has no such level.
        """
        self.header.grid(level)
        return None if self._floored is None else self._floored.quality[level]

    def fidelity(self, level: int) -> NDArray[np.float32] | None:
        """PSNR in dB and MS-SSIM of one level's tiles, (rows, cols, 2) float32, read-only; NaN on glass.

        None for a store without a floor. Raises IndexError if the store has no such level.
        """
        self.header.grid(level)
        return None if self._floored is None else self._floored.fidelity[level]

    def _in_jpegxl(self, level: int, row: int, col: int) -> bool:
        from wsicomp.store.floored import IN_JPEGXL

        return self._floored is not None and int(self._floored.quality[level][row, col]) == IN_JPEGXL

    @cached_property
    def _arrays(self) -> StoreArrays:
        # zarr takes longer to import than a header takes to read, and `wsicomp info` needs only the header
        from wsicomp.store.arrays import StoreArrays

        return StoreArrays(self._container, self._manifest, self.header, str(self.path))

    @cached_property
    def _floored(self) -> FlooredArrays | None:
        if self.header.floor is None:
            return None
        from wsicomp.store.arrays import open_floored

        return open_floored(self._container, self._manifest, self.header, str(self.path))

    def _check_hash(self, name: str) -> None:
        try:
            data = self._container.read(name, 0, self._manifest.files[name].bytes)
        except (OSError, EOFError) as error:
            raise StoreCorrupt(f"{self.path}: {name} cannot be read; restore the store") from error
        if hashlib.sha256(data).hexdigest() != self._manifest.files[name].sha256:
            raise StoreCorrupt(f"{self.path}: {name} does not match its checksum; restore it or encode the slide again")


def completed(inside: NDArray[Any], side: int, *, mirrored: bool) -> NDArray[Any]:
    """Bring a latent that was cropped at the image's edge back to its full size.

    Parameters
    ----------
    inside
        (..., h, w), the part that is stored.
    side
        Height and width of a whole latent.
    mirrored
        Whether what is missing is mirrored from the part inside, which spares the border of the picture a seam; else it
        is zeros: what an encoder that predicts symbols from their neighbours took it for.

    Returns
    -------
    ndarray
        (..., side, side); `inside` itself where nothing is missing.
    """
    *_, height, width = inside.shape
    if (height, width) == (side, side):
        return inside
    missing = [(0, 0)] * (inside.ndim - 2) + [(0, side - height), (0, side - width)]
    return np.pad(inside, missing, mode="symmetric") if mirrored else np.pad(inside, missing)


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
