"""Downsamples by area: takes the mean of every cell of a lattice, of whole or fractional size.

What this does not do: it never interpolates and never enlarges; every source pixel counts by the area it shares with a
cell, so that no detail is skipped.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["cell_means"]


def cell_means(
    pixels: NDArray[np.uint8], x_edges: NDArray[np.number], y_edges: NDArray[np.number], step: float
) -> NDArray[np.uint8]:
    """Mean of each cell between consecutive edges, as an integer within 0.67 of it.

    Parameters
    ----------
    pixels
        (h, w, 4) uint8; all four channels are averaged alike.
    x_edges, y_edges
        Edges of the columns and rows of cells in pixels, rising; the first within the first pixel, the last within or
        at the end of the last.
    step
        Distance between edges, at least 1; the last cells may be narrower.

    Returns
    -------
    (len(y_edges) - 1, len(x_edges) - 1, 4) uint8
    """
    if step == int(step) and x_edges[0] == 0 and y_edges[0] == 0:
        if step == 1:
            return pixels
        height, width, _ = pixels.shape
        # RGBX, because Pillow would weight the colours of RGBA by alpha, which is already spent.
        image = Image.frombuffer("RGBX", (width, height), np.ascontiguousarray(pixels), "raw", "RGBX", 0, 1)
        return np.asarray(image.reduce(int(step)))
    means = _mean_rows(pixels.astype(np.float32), y_edges)
    means = _mean_rows(means.transpose(1, 0, 2), x_edges).transpose(1, 0, 2)
    rounded: NDArray[np.uint8] = np.floor(means + 0.5).astype(np.uint8)
    return rounded


def _mean_rows(values: NDArray[np.float32], edges: NDArray[np.number]) -> NDArray[np.float32]:
    """Mean over the first axis of each interval between edges: (h, w, c) -> (len(edges) - 1, w, c) float32."""
    starts, ends = edges[:-1].astype(np.float64), edges[1:].astype(np.float64)
    first = np.floor(starts).astype(np.intp)
    taps = int((np.ceil(ends) - first).max())
    means = np.zeros((len(starts), *values.shape[1:]), np.float32)
    for tap in range(taps):
        index = first + tap
        shared = np.clip(np.minimum(ends, index + 1) - np.maximum(starts, index), 0, None) / (ends - starts)
        means += shared.astype(np.float32)[:, None, None] * values[np.minimum(index, len(values) - 1)]
    return means
