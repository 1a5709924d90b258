"""Tells bare glass from tissue by the whole area of each tile at low resolution; in doubt a tile is tissue.

    overview, band by band -> least and greatest value per tile -> departure from the glass colour -> tissue or glass
                           -> histograms of near-neutral pixels  -> Otsu, mode: the glass colour  -'

The overview has cells of at most 8 um (within 1 %) and at most 16 x 16 level-0 pixels, each the mean of its pixels. An
object of 16 um covers at least one such cell whole wherever it lies, so it cannot be averaged away. A tile is glass
only if no cell in its footprint, one cell of margin around included, departs from the glass colour by more than the
threshold in any channel. Cells that the scanner never visited count as glass.

Memory does not grow with the slide: one band of the overview is held at a time, and six bytes per tile.

What this does not do: it does not outline tissue, tell it from pen or dust (both are kept), or guess: where no glass
colour is plausible (fluorescence, an image filled with tissue) every tile is tissue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsicomp.geometry import LEVEL_STEP, TileGrid
from wsicomp.slides.cells import Native, read_cells
from wsicomp.slides.source import TissueMask

__all__ = ["all_tissue", "find_tissue"]

OVERVIEW = "the overview for the tissue mask"
OVERVIEW_UM = 8.0
OVERVIEW_DOWNSAMPLE = 16.0
"""An overview cell is as wide as the smaller of the two."""

BAND_CELLS = 128
"""Least height of a band of the overview: lower ones would decode the file's tiles again for each band."""

GLASS_MIN_LEVEL = 190
GLASS_MAX_CHROMA = 20
GLASS_MIN_SHARE = 0.005
"""A plausible glass colour: bright, near neutral, and shared by some part of the slide."""


def all_tissue(grids: Sequence[TileGrid], rule: dict[str, str | int | float]) -> TissueMask:
    """Mask that calls every tile of the grids tissue."""
    return TissueMask(tuple(np.ones((grid.rows, grid.cols), np.bool_) for grid in grids), rule=rule)


def find_tissue(native: Native, grids: Sequence[TileGrid], base_downsample: float, threshold: int) -> TissueMask:
    """Tell glass from tissue on every level of a pyramid.

    Parameters
    ----------
    native
        The open slide.
    grids
        Tile grids of the pyramid over the slide's bounds, finest first; each 4 times coarser than the one before.
    base_downsample
        Level-0 pixels per pixel of the first grid.
    threshold
        Grey levels by which any overview cell may depart from the glass colour, in any channel.

    Returns
    -------
    TissueMask
        `rule` records the method, the threshold, the overview's downsample and the share of glass among the finest
        tiles. A tile of a coarse level is glass only if all tiles under it are.

    Raises
    ------
    SlideError
        If the slide cannot be read.
    """
    downsample = OVERVIEW_DOWNSAMPLE
    if native.facts.mpp is not None:
        downsample = max(min(downsample, OVERVIEW_UM / max(native.facts.mpp)), 1.0)
    level = native.facts.level_for(downsample, tolerance=0.01)
    # Whole cells of native pixels, so that rounding cannot let the overview drift away from the tiles.
    step = max(int(downsample / native.facts.downsamples[level] * 1.01), 1)
    cell = step * native.facts.downsamples[level]

    least, greatest, colours = _survey(native, grids[0], level, step, base_downsample)
    glass = colours.glass_rgb()
    rule: dict[str, str | int | float] = {
        "method": "departure-from-glass",
        "threshold": threshold,
        "overview_downsample": round(cell, 4),
        "glass_share": 0.0,
    }
    if glass is None:
        return all_tissue(grids, {**rule, "method": "no-plausible-glass"})
    # A tile without one scanned cell has least 255 and greatest 0, which departs from no colour.
    colour = np.array(glass, np.int16)
    departs = (colour - least > threshold) | (greatest - colour > threshold)
    tissue: NDArray[np.bool_] = np.logical_or.reduce(departs, axis=2)
    rule["glass_share"] = round(1 - float(tissue.mean()), 4)
    return TissueMask(tuple(_coarser(tissue, grids)), glass, rule)


class _Colours:
    """Histograms of an overview, gathered band by band, from which the glass colour is told."""

    def __init__(self) -> None:
        self._luminance = np.zeros(256, np.int64)
        # Near-neutral cells only: channel, luminance, value of the channel.
        self._neutral = np.zeros((3, 256, 256), np.int64)

    def add(self, cells: NDArray[np.uint8]) -> None:
        """Count scanned cells, (n, 3) uint8."""
        luminance = np.rint(cells @ np.array([0.299, 0.587, 0.114])).astype(np.intp)
        self._luminance += np.bincount(luminance, minlength=256)
        neutral = np.ptp(cells, axis=1) <= GLASS_MAX_CHROMA
        for channel in range(3):
            pairs = luminance[neutral] * 256 + cells[neutral, channel]
            self._neutral[channel] += np.bincount(pairs, minlength=65536).reshape(256, 256)

    def glass_rgb(self) -> tuple[int, int, int] | None:
        """Mode of the bright, near-neutral cells; None where that is no plausible glass."""
        total = int(self._luminance.sum())
        if total == 0:
            return None
        seen = np.flatnonzero(self._luminance)
        split = int(seen[0])
        if len(seen) > 1:
            from skimage.filters import threshold_otsu  # half a second that `wsicomp info` has no use for

            levels = np.arange(seen[0], seen[-1] + 1)
            split = int(threshold_otsu(hist=(self._luminance[levels], levels)))  # type: ignore[no-untyped-call]
        bright = self._neutral[:, split:, :].sum(axis=1)
        # Five levels together, so that noise does not decide between neighbours.
        smooth = np.stack([np.convolve(counts, np.ones(5), mode="same") for counts in bright])
        red, green, blue = (int(level) for level in smooth.argmax(axis=1))
        plausible = (
            min(red, green, blue) >= GLASS_MIN_LEVEL
            and max(red, green, blue) - min(red, green, blue) <= GLASS_MAX_CHROMA
            and smooth.max(axis=1).min() >= GLASS_MIN_SHARE * total
        )
        return (red, green, blue) if plausible else None


def _survey(
    native: Native, grid: TileGrid, level: int, step: int, base_downsample: float
) -> tuple[NDArray[np.int16], NDArray[np.int16], _Colours]:
    """Least and greatest overview value in each tile's footprint, (rows, cols, 3) each, and all colours met."""
    scale = native.facts.downsamples[level]
    level_size = native.facts.level_sizes[level]
    # The lattice of cells begins at the bounds' corner and covers them to the last native pixel.
    corner = [int(start / scale) for start in native.facts.bounds_px[:2]]
    ends = [
        min(math.ceil((start + side) / scale), limit)
        for start, side, limit in zip(native.facts.bounds_px[:2], native.facts.bounds_px[2:], level_size, strict=True)
    ]
    width, height = (max(math.ceil((end - start) / step), 1) for start, end in zip(corner, ends, strict=True))
    cells_per_tile = grid.tile_size * base_downsample / (scale * step)
    col_first, col_last = _footprints(grid.cols, cells_per_tile, width)
    row_first, row_last = _footprints(grid.rows, cells_per_tile, height)

    least = np.empty((grid.rows, grid.cols, 3), np.int16)
    greatest = np.empty((grid.rows, grid.cols, 3), np.int16)
    colours = _Colours()
    rows_per_band = max(math.ceil(BAND_CELLS / cells_per_tile), 1)
    for row in range(0, grid.rows, rows_per_band):
        rows = slice(row, min(row + rows_per_band, grid.rows))
        top, bottom = int(row_first[rows][0]), int(row_last[rows][-1])
        band = read_cells(
            native,
            level,
            corner[0],
            corner[1] + top * step,
            step,
            width,
            bottom - top,
            OVERVIEW,
        )
        scanned = band[..., 3:] > 0
        # A quarter of the cells tells the colour of glass as well as all of them.
        colours.add(band[::2, ::2][scanned[::2, ::2, 0], :3])
        for extreme, neutral, out in ((np.minimum, 255, least), (np.maximum, 0, greatest)):
            values = np.where(scanned, band[..., :3], np.uint8(neutral))
            values = _reduce(extreme, values, row_first[rows] - top, row_last[rows] - top, axis=0)
            out[rows] = _reduce(extreme, values, col_first, col_last, axis=1)
    return least, greatest, colours


def _footprints(count: int, cells_per_tile: float, limit: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and past-the-last overview cell of each tile along one axis, one cell of margin around, at least one."""
    edges = np.arange(count + 1) * cells_per_tile
    first = np.clip(np.floor(edges[:-1]).astype(np.intp) - 1, 0, limit - 1)
    last = np.clip(np.ceil(edges[1:]).astype(np.intp) + 1, first + 1, limit)
    return first, last


def _reduce(
    extreme: np.ufunc, values: NDArray[np.uint8], first: NDArray[np.intp], last: NDArray[np.intp], axis: int
) -> NDArray[np.uint8]:
    """Extreme of values[first:last] for each pair, along an axis; the intervals overlap."""
    parts = [extreme.reduce(values.take(range(start, end), axis), axis) for start, end in zip(first, last, strict=True)]
    return np.stack(parts, axis)


def _coarser(tissue: NDArray[np.bool_], grids: Sequence[TileGrid]) -> list[NDArray[np.bool_]]:
    """Masks of all levels from that of the finest: a coarse tile is tissue if any tile under it is."""
    masks = [tissue]
    for grid in grids[1:]:
        fine = masks[-1]
        any_row = np.logical_or.reduceat(fine, np.arange(0, fine.shape[0], LEVEL_STEP), axis=0)
        coarse = np.logical_or.reduceat(any_row, np.arange(0, fine.shape[1], LEVEL_STEP), axis=1)
        masks.append(coarse[: grid.rows, : grid.cols])
    return masks
