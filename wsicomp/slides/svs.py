"""Writes demo and test slides: an image as a pyramidal, JPEG-tiled SVS that OpenSlide opens as vendor "aperio".

Pages in Aperio's order: the image in tiles, a thumbnail in strips, coarser levels in tiles, a label, a macro image.
OpenSlide tells levels from associated images by their tiles, and names the latter by the second line of their text.

What this does not do: it is no archive format for slides; the whole image is held in memory, and pixels pass
through JPEG.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsicomp.geometry import TileGrid

__all__ = ["write_svs"]

LIBRARY = "Aperio Image Library v11.2.1 "
REDUCED = 1
MACRO = 9


def write_svs(
    path: str | os.PathLike[str],
    image: NDArray[np.uint8],
    *,
    mpp: float,
    objective_power: float = 20.0,
    jpeg_quality: int = 85,
    tile_size: int = 240,
    downsamples: Sequence[int] = (4, 16),
    associated: Mapping[str, NDArray[np.uint8]] | None = None,
    description_extra: str = "",
    icc_profile: bytes | None = None,
) -> None:
    """Write an image as an Aperio slide.

    Parameters
    ----------
    path
        The file to write; an existing one is replaced.
    image
        (H, W, 3) uint8 RGB, level 0.
    mpp
        Micrometres per pixel of level 0.
    objective_power
        Magnification to claim.
    jpeg_quality
        1 to 100; chroma is subsampled 2 x 2, as scanners do.
    tile_size
        Side of the file's tiles in pixels, a multiple of 16.
    downsamples
        Area-downsampled levels to add, each smaller than the image; none gives a slide of one level.
    associated
        Images (h, w, 3) uint8 to add as "thumbnail", "label" or "macro".
    description_extra
        Fields to append to the description, such as "|Title = demo".
    icc_profile
        Colour profile to attach to every level.

    Raises
    ------
    ValueError
        If the tile size is no multiple of 16, a level would be empty, or an associated image has another name.
    """
    import tifffile  # only this maker of slides needs it

    height, width, _ = image.shape
    if tile_size < 16 or tile_size % 16:
        raise ValueError(f"TIFF tiles are a multiple of 16 px wide, not {tile_size}")
    if any(not 1 <= downsample <= min(width, height) for downsample in downsamples):
        raise ValueError(f"downsamples {tuple(downsamples)} leave an empty level of {width} x {height}")
    extras = dict(associated or {})
    if unknown := set(extras) - {"thumbnail", "label", "macro"}:
        raise ValueError(f"an Aperio slide has a thumbnail, a label and a macro image, not {sorted(unknown)}")

    base = f"{LIBRARY}\n{width}x{height} ({tile_size}x{tile_size}) JPEG/RGB Q={jpeg_quality}"
    fields = f"|AppMag = {objective_power:g}|MPP = {mpp:.6g}{description_extra}"
    sizes = defaultdict(str, {name: f"{extra.shape[1]}x{extra.shape[0]}" for name, extra in extras.items()})
    picture = Image.fromarray(image)
    with tifffile.TiffWriter(path) as writer:

        def write_level(pixels: NDArray[np.uint8], description: str) -> None:
            writer.write(
                _padded_tiles(pixels, tile_size),
                shape=pixels.shape,
                dtype=pixels.dtype,
                photometric="rgb",
                tile=(tile_size, tile_size),
                compression="jpeg",
                compressionargs={"level": jpeg_quality},
                iccprofile=icc_profile,
                description=description,
                software=False,
                metadata=None,
            )

        def write_associated(name: str, description: str, subfiletype: int, *, lossless: bool = False) -> None:
            if name not in extras:
                return
            writer.write(
                extras[name],
                photometric="rgb",
                compression=None if lossless else "jpeg",
                compressionargs=None if lossless else {"level": jpeg_quality},
                rowsperstrip=16,
                description=description,
                subfiletype=subfiletype,
                software=False,
                metadata=None,
            )

        write_level(image, base + fields)
        write_associated("thumbnail", f"{LIBRARY}\n{width}x{height} -> {sizes['thumbnail']} - {fields}", 0)
        for downsample in downsamples:
            # Whole cells only, so that the level's downsample is exact wherever the image allows it.
            whole = picture.crop((0, 0, width // downsample * downsample, height // downsample * downsample))
            level = np.asarray(whole.reduce(downsample))
            write_level(level, f"{base} -> {level.shape[1]}x{level.shape[0]} JPEG/RGB Q={jpeg_quality}{fields}")
        write_associated("label", f"{LIBRARY}\nlabel {sizes['label']}", REDUCED, lossless=True)
        write_associated("macro", f"{LIBRARY}\nmacro {sizes['macro']}", MACRO)


def _padded_tiles(pixels: NDArray[np.uint8], tile_size: int) -> Iterator[NDArray[np.uint8]]:
    """Tiles row by row, the edge repeated past it: black there would ring into the image through JPEG."""
    height, width, _ = pixels.shape
    for tile in TileGrid(width, height, tile_size):
        inside = pixels[tile.y_px : tile.y_px + tile.height_px, tile.x_px : tile.x_px + tile.width_px]
        padding = ((0, tile_size - tile.height_px), (0, tile_size - tile.width_px), (0, 0))
        yield np.pad(inside, padding, mode="edge")
