"""Write a store, or a part of it, as an image file that other programs read.

    store           -> .tif         pyramidal tiled BigTIFF, all levels
    level or region -> .tif         tiled BigTIFF of one level
    level or region -> .png, .jpg   picture, held in memory as a whole

A TIFF keeps the resolution of what it holds, and the objective power where its first level is the store's. It is no
OME-TIFF: a name that ends in .ome.tif is refused, because readers would look for metadata that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsicomp.disk import explain, replacing
from wsicomp.errors import ConfigError, StoreError
from wsicomp.geometry import TileGrid
from wsicomp.pipeline.tiff import PyramidLevel, write_pyramid
from wsicomp.pipeline.view import LatentSlide
from wsicomp.progress import Progress, silent
from wsicomp.store.place import check_place

__all__ = ["Exported", "Rectangle", "export"]

PICTURE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
TIFF_SUFFIXES = (".tif", ".tiff")
MAX_PICTURE_PX = 2**28
"""Pixels of a picture that is held in memory as a whole."""


class Rectangle(NamedTuple):
    """Left, top, width and height of a region, in pixels of its level."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int


class Exported(NamedTuple):
    """Size of the first level that was written, in pixels, and the number of levels."""

    width_px: int
    height_px: int
    levels: int


def export(
    slide: LatentSlide,
    output: Path,
    *,
    level: int | None = None,
    region: tuple[int, int, int, int] | None = None,
    jpeg_quality: int | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Exported:
    """Decode a store, a level of it or a region of a level into an image file, whole or not at all.

    Parameters
    ----------
    output
        The file; its suffix chooses the format: .tif, .tiff, .png, .jpg or .jpeg.
    level
        Level to decode; None is all of them for a TIFF without a region, else 0.
    region
        Left, top, width and height in pixels of the level; None is the whole level.
    jpeg_quality
        Store a TIFF's tiles as JPEG of that quality, 1 to 100; None keeps the decoded pixels exactly.
    overwrite
        Whether a file that exists may be replaced.

    Raises
    ------
    ConfigError
        If there is no such level, the region is not inside it, the format is unknown or takes no JPEG quality, the
        picture is too large, or the file exists.
    StoreError
        If the disk refuses, or a tile is damaged.
    """
    check_output(output, overwrite)
    tiff = output.suffix.lower() in TIFF_SUFFIXES
    if jpeg_quality is not None and not tiff:
        raise ConfigError(f"{output}: only a .tif takes a --jpeg-quality; leave it out")
    if tiff and level is None and region is None:
        write_levels(slide, output, jpeg_quality, progress)
        return Exported(*slide.dimensions, slide.level_count)
    level = level or 0
    if not 0 <= level < slide.level_count:
        raise ConfigError(f"level {level} is unknown; the store has levels 0 to {slide.level_count - 1}")
    width, height = slide.level_dimensions[level]
    found = Rectangle(*(region or (0, 0, width, height)))
    x, y, w, h = found
    if min(x, y) < 0 or min(w, h) < 1 or x + w > width or y + h > height:
        raise ConfigError(f"region {x},{y},{w},{h} is not inside level {level}, which is {width} x {height} pixels")
    if tiff:
        write_region(slide, output, level, found, jpeg_quality, progress)
    else:
        write_picture(slide, output, level, found)
    return Exported(w, h, 1)


def write_levels(slide: LatentSlide, output: Path, jpeg_quality: int | None, progress: Progress) -> None:
    """Write all levels as a pyramid, a row of tiles at a time."""
    header, done = slide.header, 0

    def tiles(level: int) -> Iterator[NDArray[np.uint8]]:
        nonlocal done
        for _, pixels in slide.decode_tiles(level, iter(header.grid(level))):
            yield pixels
            done += 1
            progress(done, header.total_tiles)

    write_pyramid(
        output,
        [PyramidLevel(level.width_px, level.height_px, tiles(level.index)) for level in header.levels],
        tile_size=header.tile_size,
        mpp=header.mpp,
        objective_power=header.objective_power,
        icc_profile=slide.reader.icc_profile,
        jpeg_quality=jpeg_quality,
    )


def write_region(
    slide: LatentSlide, output: Path, level: int, region: Rectangle, jpeg_quality: int | None, progress: Progress
) -> None:
    """Write a region of a level as a tiled TIFF, a row of tiles at a time."""
    header = slide.header
    x, y, width, height = region
    side, downsample = header.tile_size, header.levels[level].downsample
    rows = TileGrid(width, height, side).rows

    def tiles() -> Iterator[NDArray[np.uint8]]:
        for row in range(rows):
            inside = min(side, height - row * side)
            strip = slide.read_rgb(level, x, y + row * side, width, inside)
            strip = np.pad(strip, ((0, side - inside), (0, -width % side), (0, 0)), mode="edge")
            yield from (np.ascontiguousarray(strip[:, col : col + side]) for col in range(0, width, side))
            progress(row + 1, rows)

    write_pyramid(
        output,
        [PyramidLevel(width, height, tiles())],
        tile_size=side,
        mpp=None if header.mpp is None else (header.mpp[0] * downsample, header.mpp[1] * downsample),
        objective_power=header.objective_power if level == 0 else None,
        icc_profile=slide.reader.icc_profile,
        jpeg_quality=jpeg_quality,
    )


def write_picture(slide: LatentSlide, output: Path, level: int, region: Rectangle) -> None:
    """Write a region of a level as PNG or JPEG."""
    kind = PICTURE_FORMATS.get(output.suffix.lower())
    if kind is None:
        raise ConfigError(f"{output}: an image ends in one of {', '.join((*TIFF_SUFFIXES, *PICTURE_FORMATS))}")
    if region.width_px * region.height_px > MAX_PICTURE_PX:
        raise ConfigError(
            f"a picture of {region.width_px} x {region.height_px} pixels is too large; take a region, a coarser level, "
            "or a .tif"
        )
    image = Image.fromarray(slide.read_rgb(level, *region))
    quality = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    try:
        with replacing(output) as partial:
            image.save(partial, kind, icc_profile=slide.reader.icc_profile, **quality)
    except OSError as error:
        raise StoreError(f"{output}: cannot be written: {explain(error)}") from error


def check_output(output: Path, overwrite: bool) -> None:
    """Refuse an output that exists already, lies inside a store, has no folder, or has a name that promises too much.

    Raises
    ------
    ConfigError
        If so.
    """
    if output.name.lower().endswith((".ome.tif", ".ome.tiff")):
        raise ConfigError(f"{output}: OME-TIFF is not written; leave .ome out of the name for a plain pyramidal TIFF")
    if output.is_dir() or (output.exists() and not overwrite):
        raise ConfigError(f"{output}: exists already; give --overwrite to replace a file, or another name")
    check_place(output)
    if not output.parent.is_dir():
        raise ConfigError(f"{output}: its folder does not exist; create {output.parent} first")
