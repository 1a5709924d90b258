"""A store, or a region of it, into an image file.

region or level -> PNG, JPEG or TIFF of that picture
whole store     -> pyramidal tiled BigTIFF with the store's resolution, a row of tiles at a time
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsicomp.disk import explain, replacing
from wsicomp.errors import ConfigError, StoreError
from wsicomp.pipeline.tiff import PyramidLevel, write_pyramid
from wsicomp.pipeline.view import LatentSlide
from wsicomp.progress import Progress, silent

__all__ = ["decode_picture", "decode_pyramid"]

PICTURE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
MAX_PICTURE_PX = 2**28
"""Pixels of a picture that is held in memory as a whole."""


def decode_picture(
    slide: LatentSlide,
    output: Path,
    *,
    level: int = 0,
    region: tuple[int, int, int, int] | None = None,
    overwrite: bool = False,
) -> tuple[int, int]:
    """Decode a region of a level, or a whole level, into a picture.

    Parameters
    ----------
    output
        The picture; its suffix chooses the format.
    region
        Left, top, width and height in pixels of that level; None is the whole level.

    Returns
    -------
    tuple
        Width and height of the picture in pixels.

    Raises
    ------
    ConfigError
        If there is no such level, the region is not inside it, the picture is too large, or the file exists.
    StoreError
        If the disk refuses, or a tile is damaged.
    """
    if not 0 <= level < slide.level_count:
        raise ConfigError(f"level {level} is unknown; the store has levels 0 to {slide.level_count - 1}")
    width, height = slide.level_dimensions[level]
    x, y, w, h = region or (0, 0, width, height)
    if min(x, y) < 0 or min(w, h) < 1 or x + w > width or y + h > height:
        raise ConfigError(f"region {x},{y},{w},{h} is not inside level {level}, which is {width} x {height} pixels")
    kind = PICTURE_FORMATS.get(output.suffix.lower())
    if kind is None:
        raise ConfigError(f"{output}: a picture ends in one of {', '.join(PICTURE_FORMATS)}")
    if w * h > MAX_PICTURE_PX:
        raise ConfigError(
            f"a picture of {w} x {h} pixels is too large; take a region, a coarser level, or a .tif pyramid"
        )
    check_output(output, overwrite)
    image = Image.fromarray(slide.read_rgb(level, x, y, w, h))
    quality = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    try:
        with replacing(output) as partial:
            image.save(partial, kind, icc_profile=slide.reader.icc_profile, **quality)
    except OSError as error:
        raise StoreError(f"{output}: cannot be written: {explain(error)}") from error
    return w, h


def decode_pyramid(
    slide: LatentSlide,
    output: Path,
    *,
    jpeg_quality: int | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> None:
    """Decode a whole store into a pyramidal BigTIFF that OpenSlide and libvips open.

    Parameters
    ----------
    jpeg_quality
        Store tiles as JPEG of that quality; None keeps the decoded pixels exactly.

    Raises
    ------
    ConfigError
        If the file exists.
    StoreError
        If the disk refuses, or a tile is damaged.
    """
    check_output(output, overwrite)
    total = slide.header.total_tiles
    done = 0

    def tiles(level: int) -> Iterator[NDArray[np.uint8]]:
        nonlocal done
        for _, pixels in slide.decode_tiles(level, iter(slide.header.grid(level))):
            yield pixels
            done += 1
            progress(done, total)

    levels = [PyramidLevel(level.width_px, level.height_px, tiles(level.index)) for level in slide.header.levels]
    write_pyramid(
        output,
        levels,
        tile_size=slide.header.tile_size,
        mpp=slide.header.mpp,
        icc_profile=slide.reader.icc_profile,
        jpeg_quality=jpeg_quality,
    )


def check_output(output: Path, overwrite: bool) -> None:
    """Refuse an output that exists already, or whose folder does not.

    Raises
    ------
    ConfigError
        If so.
    """
    if output.exists() and not overwrite:
        raise ConfigError(f"{output}: exists already; give --overwrite to replace it, or another name")
    if not output.parent.is_dir():
        raise ConfigError(f"{output}: its folder does not exist; create {output.parent} first")
