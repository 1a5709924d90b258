"""Area averages against their definition: a sum over every source pixel, weighted by shared area."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsicomp.slides.resample import cell_means


def weights(edges: NDArray[np.floating], size: int) -> NDArray[np.float64]:
    """(cells, pixels): share of each cell that each pixel covers."""
    pixels = np.arange(size)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    covered: NDArray[np.float64] = np.clip(shared, 0, None) / np.diff(edges)[:, None]
    return covered


@settings(deadline=None)
@given(
    step=st.one_of(st.integers(1, 6), st.floats(1, 6)),
    start=st.sampled_from([0.0, 0.25, 0.7]),
    cells=st.integers(1, 6),
    cut=st.floats(0, 0.9),
    seed=st.integers(0, 2**16),
)
def test_cells_are_area_weighted_means(step: float, start: float, cells: int, cut: float, seed: int) -> None:
    x_edges: NDArray[np.floating] = start + step * np.arange(cells + 1)
    # The lattice may stick out of the image: its last cells are narrower then.
    x_edges[-1] = max(int(x_edges[-1] - cut * step), int(x_edges[-2]) + 1)
    y_edges = start + step * np.arange(3)
    width, height = math.ceil(x_edges[-1]), math.ceil(y_edges[-1])
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    rows, cols = weights(y_edges, height), weights(x_edges, width)
    expected = np.tensordot(cols, np.tensordot(rows, pixels.astype(float), 1), (1, 1)).transpose(1, 0, 2)
    means = cell_means(pixels, x_edges, y_edges, step)
    assert means.shape == expected.shape
    assert np.abs(means - expected).max() <= 0.67


def test_unit_cells_are_the_pixels_themselves() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    np.testing.assert_array_equal(cell_means(pixels, np.arange(8), np.arange(6), 1), pixels)


@pytest.mark.parametrize("step", [2, 2.5])
def test_alpha_does_not_weight_the_colours(step: float) -> None:
    pixels = np.zeros((5, 5, 4), np.uint8)
    pixels[..., 0] = 200
    pixels[:, :2, 3] = 255
    edges = step * np.arange(3)
    assert (cell_means(pixels[: math.ceil(edges[-1]), : math.ceil(edges[-1])], edges, edges, step)[..., 0] == 200).all()
