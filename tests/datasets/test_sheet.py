"""A sheet of patches shows the face of a slide: patch i is tile i, and nothing else counts as tissue."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsicomp.datasets.sheet import PatchSheet
from wsicomp.errors import DataError
from wsicomp.slides.source import SourceInfo, TileSource


def patches(count: int, side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@given(st.integers(1, 40), st.integers(2, 40))
def test_tile_i_is_patch_i_and_the_mask_counts_the_patches(count: int, side: int) -> None:
    tiles = patches(count, side)
    sheet: TileSource = PatchSheet("sheet", tiles)
    (level,) = sheet.levels
    grid = level.grid(sheet.tile_size)
    assert sheet.tile_size % 16 == 0
    assert 0 <= sheet.tile_size - side < 16
    assert (level.index, level.downsample) == (0, 1)
    assert len(grid) >= count
    assert len(grid) - count < grid.cols  # less than a row is left over
    assert abs(grid.rows - grid.cols) <= 1
    (mask,) = sheet.tissue().tiles
    assert mask.shape == (grid.rows, grid.cols)
    assert mask.dtype == np.bool_
    assert mask.ravel().tolist() == [k < count for k in range(len(grid))]
    for tile, patch in zip(grid, tiles, strict=False):
        read = sheet.read_tile(0, tile.row, tile.col)
        assert read.shape == (sheet.tile_size, sheet.tile_size, 3)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read[:side, :side], patch)


def test_places_without_a_patch_show_glass() -> None:
    sheet = PatchSheet("sheet", patches(5, 20))
    assert not sheet.tissue().tiles[0][1, 2]
    np.testing.assert_array_equal(sheet.read_tile(0, 1, 2), np.full((32, 32, 3), sheet.tissue().glass_rgb))


@pytest.mark.parametrize("side", [9, 20, 28, 31, 100, 250])
def test_what_is_added_is_the_reflection_at_the_edge(side: int) -> None:
    (patch,) = tile = patches(1, side)
    read = PatchSheet("sheet", tile).read_tile(0, 0, 0)
    for k in range(len(read) - side):
        np.testing.assert_array_equal(read[side + k, :side], patch[side - 2 - k])
        np.testing.assert_array_equal(read[:side, side + k], patch[:, side - 2 - k])


@pytest.mark.parametrize("side", [16, 224, 256])
def test_nothing_is_added_to_patches_of_a_whole_size(side: int) -> None:
    tiles = patches(2, side)
    sheet = PatchSheet("sheet", tiles)
    assert sheet.tile_size == side
    np.testing.assert_array_equal(sheet.read_tile(0, 0, 1), tiles[1])


def test_a_single_pixel_is_repeated() -> None:
    tile = patches(1, 1)
    assert (PatchSheet("sheet", tile).read_tile(0, 0, 0) == tile[0, 0, 0]).all()


@pytest.mark.parametrize("shape", [(2, 16, 32, 3), (0, 16, 16, 3), (16, 16, 3)])
def test_what_is_no_sheet_of_squares_is_refused_by_name(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="lung test: patches must be square, and at least one"):
        PatchSheet("lung test", np.zeros(shape, np.uint8))


def test_a_sheet_says_nothing_of_a_scanner() -> None:
    sheet = PatchSheet("sheet", patches(1, 16))
    assert sheet.info == SourceInfo()
    assert sheet.tissue().rule == {"method": "patches"}
    assert sheet.tissue().glass_rgb == (255, 255, 255)
