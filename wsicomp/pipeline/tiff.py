"""Write a pyramid of tiles as a pyramidal tiled BigTIFF that OpenSlide and libvips open.

    levels, finest first, each an iterator of tiles, row by row
        -> threads compress a few tiles at a time -> sibling of the target -> sync, rename

Memory holds a few tiles and one index entry per tile, never a level. A level is one TIFF page; all but the first are
marked as reduced images, the layout that OpenSlide calls "generic-tiff". Each page carries its own resolution in
pixels per centimetre, so that mpp survives. TIFF has no field for the objective power and OpenSlide takes one from
vendors' formats alone, none of which this file pretends to be: the description of the first page is "AppMag = 20",
the notation of Aperio, which wsicomp and large_image read in any TIFF and OpenSlide passes on as a comment.

What it does NOT do: label and macro images, sub-IFDs, OME metadata. The file holds no date, no other description and no
name of a program, a host or a source.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsicomp.disk import explain, replacing
from wsicomp.errors import ConfigError, StoreError
from wsicomp.geometry import TileGrid

__all__ = ["PyramidLevel", "write_pyramid"]

_UM_PER_CM = 10_000
_AHEAD_PER_WORKER = 4
"""Tiles that are read ahead for each thread that compresses."""


@dataclass(frozen=True)
class PyramidLevel:
    """One level of the pyramid to be written.

    Parameters
    ----------
    width_px, height_px
        Size of the level's image, at least 1 each.
    tiles
        Exactly the tiles of the level's grid, row by row, each (tile_size, tile_size, 3) uint8 RGB. What sticks out
        of the image is stored but never shown.
    """

    width_px: int
    height_px: int
    tiles: Iterator[NDArray[np.uint8]]


def write_pyramid(
    path: str | os.PathLike[str],
    levels: Sequence[PyramidLevel],
    *,
    tile_size: int,
    mpp: tuple[float, float] | None,
    objective_power: float | None = None,
    icc_profile: bytes | None,
    jpeg_quality: int | None = None,
    workers: int | None = None,
) -> None:
    """Write a BigTIFF, whole or not at all; an old file of that name is replaced only once the new one is complete.

    Parameters
    ----------
    path
        Target in an existing folder.
    levels
        The pyramid, finest level first; their iterators are consumed in this order, a few tiles ahead of the disk.
    tile_size
        Side of a tile in pixels, a multiple of 16 as TIFF demands.
    mpp
        Micrometres per pixel of the first level, x and y; None writes no resolution.
    objective_power
        Magnification of the objective; None writes none.
    icc_profile
        Colour profile, written as it is; None writes none.
    jpeg_quality
        None stores the pixels without loss (deflate); 1 to 100 stores them as JPEG, YCbCr 4:2:0.
    workers
        Threads that compress; None takes one per core, up to 8.

    Raises
    ------
    ConfigError
        If `tile_size`, `mpp` or `jpeg_quality` is out of range.
    StoreError
        If the file system refuses: a full disk, a folder that cannot be written.
    ValueError
        If there is no level, or a level yields tiles of another size or number than its grid.
    """
    if tile_size < 16 or tile_size % 16:
        raise ConfigError(f"TIFF tiles have a side that is a multiple of 16 px, not {tile_size}; choose another one")
    if mpp is not None and not all(math.isfinite(value) and value > 0 for value in mpp):
        raise ConfigError(f"mpp must be positive, not {mpp[0]} x {mpp[1]}")
    if jpeg_quality is not None and not 1 <= jpeg_quality <= 100:
        raise ConfigError(f"JPEG quality goes from 1 to 100, not {jpeg_quality}")
    if not levels:
        raise ValueError("a pyramid has at least one level")

    target = Path(path)
    threads = workers or min(os.cpu_count() or 1, 8)
    try:
        with replacing(target) as partial, tifffile.TiffWriter(partial, bigtiff=True, byteorder="<") as tiff:
            for index, level in enumerate(levels):
                grid = TileGrid(level.width_px, level.height_px, tile_size)
                tiff.write(
                    _checked(level.tiles, grid),
                    shape=(level.height_px, level.width_px, 3),
                    dtype=np.uint8,
                    photometric="rgb",
                    tile=(tile_size, tile_size),
                    subfiletype=int(index > 0),
                    description=None if index or objective_power is None else f"AppMag = {objective_power:g}",
                    iccprofile=icc_profile,
                    # tifffile writes its name and the array's shape unless told not to
                    software=False,
                    metadata=None,
                    maxworkers=threads,
                    buffersize=_AHEAD_PER_WORKER * threads * tile_size * tile_size * 3,
                    **_compression(jpeg_quality),
                    **_resolution(mpp, levels[0], level),
                )
                if next(level.tiles, None) is not None:
                    raise ValueError(f"level {index} yields more than its {len(grid)} tiles")
    except OSError as error:
        raise StoreError(f"{target}: cannot be written: {explain(error)}") from error


def _checked(tiles: Iterator[NDArray[np.uint8]], grid: TileGrid) -> Iterator[NDArray[np.uint8]]:
    """Pass on as many tiles as the grid has, refusing what would shift or distort all that follow."""
    expected = (grid.tile_size, grid.tile_size, 3)
    for place in grid:
        tile = next(tiles, None)
        if tile is None:
            raise ValueError(f"tile ({place.row}, {place.col}) of {grid.rows} x {grid.cols} is missing")
        if tile.shape != expected or tile.dtype != np.uint8:
            raise ValueError(f"tile ({place.row}, {place.col}) is {tile.shape} {tile.dtype}, not {expected} uint8")
        yield tile


def _compression(jpeg_quality: int | None) -> dict[str, Any]:
    if jpeg_quality is not None:
        return {"compression": "jpeg", "compressionargs": {"level": jpeg_quality}, "subsampling": (2, 2)}
    # Higher levels of deflate gain 1 % on tissue and cost a third more time; the predictor gains 20 % for nothing.
    return {"compression": "adobe_deflate", "compressionargs": {"level": 1}, "predictor": True}


def _resolution(mpp: tuple[float, float] | None, base: PyramidLevel, level: PyramidLevel) -> dict[str, Any]:
    """Pixels per centimetre of one level, whose pixels are larger than the base's by the ratio of the sizes."""
    if mpp is None:
        return {}
    x = _UM_PER_CM / mpp[0] * level.width_px / base.width_px
    y = _UM_PER_CM / mpp[1] * level.height_px / base.height_px
    return {"resolution": (x, y), "resolutionunit": "CENTIMETER"}
