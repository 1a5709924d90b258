"""The demo's picture: what each depth makes of one place, at 1:1, enlarged, and as a map of its errors.

    columns: the original, then one for each depth
    rows:    labels | a crop at 1:1 | the part of it in which nuclei of the last column err most, at 4:1 | its errors

At 1:1 a pixel of the slide is a pixel of the picture, and at 4:1 a square of 4 x 4, so nothing is smoothed. The errors
of all columns are multiplied by one whole number, which stands beside them with its colour scale. Crops are chosen by
the red channel alone: haematoxylin absorbs red and eosin does not, so that is where nuclei are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from wsicomp.slides.source import TileSource

__all__ = ["Column", "Region", "draw", "read_region", "telling_region"]

CROP_PX = 192
ZOOM = 4
GAP_PX = 6
MARGIN_PX = 64
LABEL_PX = 56
QUALITY = 92

Pixels = NDArray[np.uint8]

Region = tuple[int, int, int, int]
"""Left, top, width and height in pixels of level 0."""


@dataclass(frozen=True)
class Column:
    """Labels of one column, a line each, and its pixels (side, side, 3) uint8."""

    labels: Sequence[str]
    pixels: Pixels


def telling_region(source: TileSource) -> Region:
    """Choose the crop: of the corners of up to 64 tissue tiles the one with the most detail in its nuclei."""
    level, size = source.levels[0], source.tile_size
    side = min(CROP_PX, size, level.width_px, level.height_px)
    tissue = np.argwhere(source.tissue().tiles[0])
    best: tuple[float, int, int] = (-1.0, 0, 0)
    for row, col in tissue[:: len(tissue) // 64 + 1]:
        x, y = int(col) * size, int(row) * size
        if x + side <= level.width_px and y + side <= level.height_px:
            tile = source.read_tile(0, int(row), int(col))
            best = max(best, (contrast(tile[:side, :side]), x, y))
    return best[1], best[2], side, side


def contrast(pixels: Pixels) -> float:
    """Mean difference of neighbours in the red of pixels (H, W, 3), in grey levels."""
    red = pixels[..., 0].astype(np.float32)
    return float(np.abs(np.diff(red, axis=0)).mean() + np.abs(np.diff(red, axis=1)).mean())


def read_region(source: TileSource, region: Region) -> Pixels:
    """Pixels of a region of level 0, (height, width, 3) uint8."""
    x, y, width, height = region
    size = source.tile_size
    rows = [
        np.concatenate([source.read_tile(0, row, col) for col in range(x // size, -(-(x + width) // size))], axis=1)
        for row in range(y // size, -(-(y + height) // size))
    ]
    return np.concatenate(rows)[y % size :][:height, x % size :][:, :width]


def draw(columns: Sequence[Column], mpp: float | None, path: Path) -> None:
    """Draw the columns side by side; the first is the original, `mpp` the micrometres per pixel."""
    original = columns[0].pixels.astype(np.int16)
    differences = [np.abs(column.pixels - original) for column in columns]
    errors = [difference.mean(axis=2) for difference in differences]
    gain = max(1, int(255 / max(float(np.percentile(errors[-1], 99.5)), 1.0)))
    side = original.shape[0]
    x, y, part = worst_part(differences[-1][..., 0], side // ZOOM)
    sheet = Image.new("RGB", (MARGIN_PX + len(columns) * (side + GAP_PX), LABEL_PX + 3 * (side + GAP_PX)), "white")
    pen = ImageDraw.Draw(sheet)
    bold, plain = ImageFont.load_default(15), ImageFont.load_default(13)
    heads = [("1:1", side), (f"{ZOOM}:1", part)]
    rows = [[name, f"{px} px", "" if mpp is None else f"{px * mpp:.0f} um"] for name, px in heads]
    for row, words in enumerate([*rows, ["error", f"x {gain}"]]):
        for line, word in enumerate(words):
            at = 4, LABEL_PX + row * (side + GAP_PX) + side // 2 - 26 + 18 * line
            pen.text(at, word, "black", plain if line else bold)
    for number, (column, error) in enumerate(zip(columns, errors, strict=True)):
        left = MARGIN_PX + number * (side + GAP_PX)
        for line, label in enumerate(column.labels):
            pen.text((left, 2 + 18 * line), label, "black", plain if line else bold)
        crop = Image.fromarray(column.pixels)
        enlarged = crop.crop((x, y, x + part, y + part)).resize((ZOOM * part, ZOOM * part), Image.Resampling.NEAREST)
        last = coloured(gain * error) if number else scale(side, gain)
        for row, tile in enumerate([crop, enlarged, last]):
            sheet.paste(tile, (left, LABEL_PX + row * (side + GAP_PX)))
        pen.rectangle((left + x - 1, LABEL_PX + y - 1, left + x + part, LABEL_PX + y + part), outline="black")
    sheet.save(path, quality=QUALITY, subsampling="4:4:4")


def worst_part(error: NDArray[np.int16], part: int) -> tuple[int, int, int]:
    """Left, top and side of the square of side `part` in which an error map (H, W) has its largest mean."""
    corners = [(x, y) for y in range(0, len(error) - part, 8) for x in range(0, len(error) - part, 8)]
    x, y = max(corners, key=lambda at: float(error[at[1] : at[1] + part, at[0] : at[0] + part].mean()), default=(0, 0))
    return x, y, part


def scale(side: int, gain: int) -> Image.Image:
    """Colour scale of the error maps, with its ends in grey levels of 255."""
    picture = Image.new("RGB", (side, side), "white")
    bar = np.tile(np.linspace(255, 0, side - 8)[:, None], (1, 20))
    picture.paste(coloured(bar), (0, 4))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    pen.text((28, 2), f"{255 // gain} grey levels or more", "black", font)
    pen.text((28, side // 2 - 18), "mean error of\nred, green and blue", "black", font)
    pen.text((28, side - 20), "none", "black", font)
    return picture


def coloured(values: NDArray[np.float64]) -> Image.Image:
    """Picture of values (H, W), black at 0 and bright from 255 on."""
    colours = mpl.colormaps["magma"](np.clip(values / 255, 0, 1))
    return Image.fromarray(np.rint(255 * colours[..., :3]).astype(np.uint8))
