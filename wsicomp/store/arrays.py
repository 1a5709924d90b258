"""The arrays of a store, with every lost or damaged byte turned into an error that names the tile.

    zarr arrays over `checked` -> tissue, quality, fidelity, colour profile: whole, when the arrays are opened
                               -> latents and JPEG XL streams: tile by tile, when they are asked for

Chunks and shard indexes carry crc32c, checked before they are decoded; so a tissue tile that reads as zeros was written
as zeros. Latents coded with an entropy model need that model, and nothing else does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from wsicomp.errors import StoreCorrupt
from wsicomp.store.checked import open_root
from wsicomp.store.coding import check_model, is_coded
from wsicomp.store.container import Container
from wsicomp.store.manifest import Manifest
from wsicomp.store.records import capacity, stream_in
from wsicomp.store.schema import StoreHeader
from wsicomp.store.tiles import Picture

__all__ = ["CHUNK_DAMAGE", "StoreArrays", "one_line"]

CHUNK_DAMAGE = (ValueError, RuntimeError, OSError, EOFError, ExceptionGroup)
"""What reading a damaged chunk raises: checksums, zstd, rANS (LatentError is a ValueError), the disk, a file cut short;
newer zarr may group them."""


class StoreArrays:
    """The arrays of a store whose structure has been checked against its manifest.

    Parameters
    ----------
    container, manifest, header
        The store's files, what they should be, and how the arrays are laid out.
    store
        How an error message calls the store.

    Attributes
    ----------
    tissue
        Mask of each level, (rows, cols) bool, read-only.
    quality
        Quality of each level's tiles in steps, (rows, cols) uint8, read-only; empty where no tile can be a picture.
    fidelity
        PSNR and MS-SSIM of each level's tiles, (rows, cols, 2) float32, read-only; empty where there is no floor.
    icc_profile
        Colour profile; None where there is none.
    damaged
        Level, row and column of each tile that the slide could not give.

    Raises
    ------
    StoreCorrupt
        If the arrays are not those that the header promises.
    """

    def __init__(self, container: Container, manifest: Manifest, header: StoreHeader, store: str) -> None:
        self._header = header
        self._name = store
        try:
            self._root = open_root(container, manifest)
            self.tissue: tuple[NDArray[np.bool_], ...] = self._small("tissue", np.bool_)
            self.quality: tuple[NDArray[np.uint8], ...] = ()
            self.fidelity: tuple[NDArray[np.float32], ...] = ()
            self._jpegxl: list[zarr.Array[Any]] = []
            if header.has_pictures:
                self.quality = self._small("quality", np.uint8)
                room = capacity(header.tile_size)
                self._jpegxl = [self._of_tiles("jpegxl", k, np.uint8, (room,)) for k in range(len(header.levels))]
            if header.floor is not None:
                self.fidelity = self._small("fidelity", np.float32, (2,))
            self.icc_profile: bytes | None = None
            if "icc_profile" in self._root:
                self.icc_profile = np.asarray(self._array("icc_profile")[...]).tobytes()
            self.damaged: tuple[tuple[int, int, int], ...] = ()
            if "damaged" in self._root:
                places = np.asarray(self._array("damaged")[...])
                for level, row, col in places.tolist():
                    header.grid(level).tile(row, col)
                self.damaged = tuple((level, row, col) for level, row, col in places.tolist())
            self._latents = [self._array(f"latents/{level.index}") for level in header.levels]
        except (*CHUNK_DAMAGE, LookupError, TypeError) as error:
            raise StoreCorrupt(f"{store}: its arrays cannot be read ({one_line(error)}); restore it") from error
        for level, array in zip(header.levels, self._latents, strict=True):
            expected = header.latent_shape(level.index), np.dtype(header.latent_dtype)
            if (array.shape, array.dtype) != expected or not is_coded(array, header):
                raise StoreCorrupt(f"{store}: latents of level {level.index} are not those of its header; restore it")

    def block(self, level: int, rows: range, cols: range) -> NDArray[Any]:
        """Read the latents of a rectangle of tiles, cropped at the image's edge, (C, h, w) in the store's dtype.

        Raises
        ------
        StoreError
            If the latents' entropy model is not at hand.
        StoreCorrupt
            If a chunk does not match its checksum or cannot be read.
        """
        step = self._header.chunk_px
        y, x = (slice(tiles.start * step, tiles.stop * step) for tiles in (rows, cols))
        check_model(self._header, self._name)
        try:
            return np.asarray(self._latents[level][:, y, x])
        except CHUNK_DAMAGE as error:
            raise self._damaged(level, rows.start, cols.start, error) from error

    def picture(self, level: int, row: int, col: int) -> Picture | None:
        """Read the stream of a tile in a store that may have pictures; None for a tile that has none.

        Raises
        ------
        StoreCorrupt
            If its chunk is damaged.
        """
        try:
            stream = stream_in(np.asarray(self._jpegxl[level][row, col]))
        except CHUNK_DAMAGE as error:
            raise self._damaged(level, row, col, error) from error
        return None if stream is None else Picture(stream, self._header.tile_size, self._place(level, row, col))

    def _place(self, level: int, row: int, col: int) -> str:
        return f"{self._name}: level {level}, tile row {row}, col {col}"

    def _damaged(self, level: int, row: int, col: int, error: BaseException) -> StoreCorrupt:
        return StoreCorrupt(
            f"{self._place(level, row, col)} is damaged ({one_line(error)});"
            " restore the store or encode the slide again"
        )

    def _array(self, name: str) -> zarr.Array[Any]:
        array = self._root[name]
        if not isinstance(array, zarr.Array):
            raise TypeError(f"{name} is not an array")
        return array

    def _of_tiles(self, name: str, level: int, dtype: type, beyond: tuple[int, ...]) -> zarr.Array[Any]:
        array, grid = self._array(f"{name}/{level}"), self._header.grid(level)
        if (array.shape, array.dtype) != ((grid.rows, grid.cols, *beyond), np.dtype(dtype)):
            raise ValueError(f"{name}/{level} is not an array of the level's tiles")
        return array

    def _small(self, name: str, dtype: type, beyond: tuple[int, ...] = ()) -> tuple[NDArray[Any], ...]:
        found = []
        for level in self._header.levels:
            values = np.asarray(self._of_tiles(name, level.index, dtype, beyond)[...])
            values.setflags(write=False)
            found.append(values)
        return tuple(found)


def one_line(error: BaseException) -> str:
    """Put an error's own words on one line, cut to a length that fits."""
    return " ".join(str(error).split())[:120] or type(error).__name__
