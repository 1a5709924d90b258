"""Reads a PNG, JPEG or plain TIFF picture as a slide of one level.

    file -> size against the bound -> decoder, all of it at once -> (H, W, 3) uint8 -> mean of square cells

A picture has no levels and no tiles to be read by themselves, so all of its pixels are held in memory. Transparent
pixels stand on white.

What this does not do: it keeps no colour profile, no resolution and no text of the file, and reads no picture of more
than 8 bits per channel.
"""

from __future__ import annotations

import math
import os
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from wsicomp.errors import SlideDamaged, SlideError
from wsicomp.slides.facts import SlideFacts
from wsicomp.slides.fingerprint import fingerprint
from wsicomp.slides.jpeg import DamagedJpeg, decode_jpeg
from wsicomp.slides.resample import cell_means

__all__ = ["MAX_PIXELS", "NativePicture"]

MAX_PIXELS = 2**28
"""Pixels of the largest picture: 16,384 x 16,384, which take 768 MiB of memory."""

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
"""Pillow's names of pixels with at most 8 bits per channel that become RGB without a colour profile."""


class NativePicture:
    """A decoded picture, as `wsicomp.slides.cells.Native` describes an open slide.

    Parameters
    ----------
    path
        The file, as the user gave it; messages repeat it.

    Raises
    ------
    SlideError
        If the file is no picture, damaged, too large, or of more than 8 bits per channel.
    """

    def __init__(self, path: str) -> None:
        self.name = path
        self._pixels: NDArray[np.uint8] | None = _decode(path)
        height, width, _ = self._pixels.shape
        self.facts = SlideFacts(
            vendor=None,
            level_sizes=((width, height),),
            downsamples=(1.0,),
            bounds_px=(0, 0, width, height),
            has_bounds=False,
            mpp=None,
            objective_power=None,
            has_icc_profile=False,
            icc_profile=None,
            associated_images=(),
            other_associated_images=0,
            properties=0,
            source_bytes=os.stat(path).st_size,
            fingerprint=fingerprint(path, width, height),
            encoded_levels=(None,),
        )

    def close(self) -> None:
        """Free the pixels."""
        self._pixels = None

    def read_block(
        self, level: int, x: float, y: float, step: float, rows: range, cols: range, what: str
    ) -> NDArray[np.uint8]:
        """Mean colour of a block of cells, as `Native.read_block` says.

        Raises
        ------
        SlideError
            If the picture is closed.
        """
        if self._pixels is None:
            raise SlideError(f"{self.name}: {what} was asked of a picture that is closed; open it again")
        height, width, _ = self._pixels.shape
        y_edges = np.minimum(y + step * np.arange(rows.start, rows.stop + 1), height)
        x_edges = np.minimum(x + step * np.arange(cols.start, cols.stop + 1), width)
        left, top = int(x_edges[0]), int(y_edges[0])
        inside = self._pixels[top : math.ceil(y_edges[-1]), left : math.ceil(x_edges[-1])]
        opaque = np.full((*inside.shape[:2], 1), 255, np.uint8)
        return cell_means(np.concatenate([inside, opaque], axis=2), x_edges - left, y_edges - top, step)

    def read_encoded(self, level: int, row: int, col: int) -> bytes:
        """Refuse: a picture has no tiles.

        Raises
        ------
        SlideDamaged
            Always.
        """
        raise SlideDamaged(f"{self.name}: is a picture, which has no encoded tiles; read its pixels")


def _decode(path: str) -> NDArray[np.uint8]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, in words that may quote the file
            with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as picture:
                width, height = picture.size
                if width * height > MAX_PIXELS:
                    raise SlideError(
                        f"{path}: a picture of {width} x {height} pixels is too large to be read as a whole; make it a "
                        "tiled pyramidal TIFF"
                    )
                if picture.mode not in MODES:
                    raise SlideError(
                        f"{path}: a picture of mode {picture.mode} is not read; convert it to RGB of 8 bits per channel"
                    )
                if picture.format == "JPEG" and picture.mode == "RGB":
                    with open(path, "rb") as file:
                        return decode_jpeg(file.read(), width, height)
                if picture.has_transparency_data:
                    opaque = Image.new("RGBA", picture.size, (255, 255, 255, 255))
                    opaque.alpha_composite(picture.convert("RGBA"))
                    return np.array(opaque.convert("RGB"))
                return np.array(picture.convert("RGB"))
    except UnidentifiedImageError:
        raise SlideError(f"{path}: no slide and no picture that can be read; copy it again from its source") from None
    except (DamagedJpeg, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise SlideError(f"{path}: the picture is damaged or cut short; copy it again from its source") from None
