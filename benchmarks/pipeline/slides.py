"""The slides that the pipeline is measured on: tissue on the left half, glass on the right, in every size asked for.

    picture of tissue, repeated | glass with a sensor's noise  ->  JPEG-tiled pyramidal SVS

The picture is CMU-1-Small-Region, a real slide, where WSICOMP_DATA has it; else scikit-image's immunohistochemistry. It
is mirrored to the size of the smallest slide's half, and that is repeated: so a slide of twice the area has exactly
twice the tissue.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray

from tests.factories import glass, tissue_image
from wsicomp.slides.svs import write_svs

__all__ = ["half_glass", "mirrored", "tissue_picture", "write_half_glass"]

SLIDE = "CMU-1-Small-Region.svs"
GLASS_SIDE_PX = 512
MARGIN_PX = 64
"""The last column of tissue tiles ends in so much glass, so that JPEG smears hardly any tissue into a glass tile."""
MPP = 0.5


def tissue_picture() -> tuple[str, NDArray[np.uint8]]:
    """Name of a picture of tissue, and the picture, (H, W, 3) uint8."""
    path = Path(os.environ.get("WSICOMP_DATA", "")) / "slides" / SLIDE
    if not path.is_file():
        return "immunohistochemistry of scikit-image", tissue_image(512, 512, 0, 0)
    with openslide.OpenSlide(path) as slide:
        return SLIDE, np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))


def mirrored(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Crop a picture to a size, or mirror it up to that."""
    part = picture[:height, :width]
    return np.pad(part, ((0, height - part.shape[0]), (0, width - part.shape[1]), (0, 0)), "symmetric")


def half_glass(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Repeat a picture over the left half of (height, width, 3) uint8; the rest is glass."""
    image = repeated(glass(GLASS_SIDE_PX, GLASS_SIDE_PX), width, height)
    tissue = width // 2 - MARGIN_PX
    image[:, :tissue] = repeated(picture, tissue, height)
    return image


def repeated(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Repeat a picture to a size."""
    down, right = -(-height // picture.shape[0]), -(-width // picture.shape[1])
    return np.tile(picture, (down, right, 1))[:height, :width].copy()


def write_half_glass(path: Path, picture: NDArray[np.uint8], width: int, height: int) -> Path:
    """Write such a slide, and return its path."""
    downsamples = [step for step in (4, 16) if min(width, height) >= 2 * step]
    write_svs(path, half_glass(picture, width, height), mpp=MPP, downsamples=downsamples)
    return path
