"""Laws of tile grids and pyramid levels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsicomp.geometry import LEVEL_STEP, SHARD_TILES, Level, TileGrid, pyramid

small_grids = st.builds(TileGrid, st.integers(1, 60), st.integers(1, 60), st.integers(1, 25))
sides = st.integers(1, 300_000)


@given(small_grids)
def test_tiles_partition_the_image(grid: TileGrid) -> None:
    covered = np.zeros((grid.height_px, grid.width_px), dtype=int)
    for tile in grid:
        assert min(tile.width_px, tile.height_px) >= 1
        assert max(tile.width_px, tile.height_px) <= grid.tile_size
        covered[tile.y_px : tile.y_px + tile.height_px, tile.x_px : tile.x_px + tile.width_px] += 1
        assert (tile.x_px, tile.y_px) == (tile.col * grid.tile_size, tile.row * grid.tile_size)
        assert tile.x_px + tile.width_px <= grid.width_px
        assert tile.y_px + tile.height_px <= grid.height_px
    assert (covered == 1).all()


@given(small_grids)
def test_tiles_come_row_by_row_and_are_counted(grid: TileGrid) -> None:
    places = [(tile.row, tile.col) for tile in grid]
    assert places == [(row, col) for row in range(grid.rows) for col in range(grid.cols)]
    assert len(grid) == len(places)


@given(small_grids, st.integers(-70, 70), st.integers(-70, 70), st.integers(-5, 150), st.integers(-5, 150))
def test_covering_is_what_brute_force_finds(grid: TileGrid, x: int, y: int, width: int, height: int) -> None:
    touched = [
        tile
        for tile in grid
        if max(tile.x_px, x) < min(tile.x_px + tile.width_px, x + width)
        and max(tile.y_px, y) < min(tile.y_px + tile.height_px, y + height)
    ]
    assert list(grid.covering(x, y, width, height)) == touched


@given(small_grids)
def test_covering_the_whole_image_is_every_tile(grid: TileGrid) -> None:
    assert list(grid.covering(0, 0, grid.width_px, grid.height_px)) == list(grid)


@given(st.builds(TileGrid, st.integers(1, 60), st.integers(1, 60), st.just(1)))
def test_shards_partition_the_grid(grid: TileGrid) -> None:
    counted = np.zeros((grid.rows, grid.cols), dtype=int)
    for rows, cols in grid.shards():
        assert 1 <= len(rows) <= SHARD_TILES
        assert 1 <= len(cols) <= SHARD_TILES
        assert rows.start % SHARD_TILES == cols.start % SHARD_TILES == 0
        counted[rows.start : rows.stop, cols.start : cols.stop] += 1
    assert (counted == 1).all()


@pytest.mark.parametrize(("row", "col"), [(-1, 0), (0, -1), (2, 0), (0, 3)])
def test_a_tile_outside_the_grid_is_an_error(row: int, col: int) -> None:
    with pytest.raises(IndexError, match="no tile"):
        TileGrid(300, 200, 100).tile(row, col)


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-3, 1, 1)])
def test_a_grid_of_nothing_is_an_error(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        TileGrid(*sizes)


@given(sides, sides, st.integers(1, 1024))
def test_downsamples_are_powers_of_four_and_sizes_are_floored(width: int, height: int, tile_size: int) -> None:
    for k, level in enumerate(pyramid(width, height, tile_size)):
        assert level.index == k
        assert level.downsample == LEVEL_STEP**k == 4**k
        assert level.width_px == max(width // 4**k, 1)
        assert level.height_px == max(height // 4**k, 1)


@given(sides, sides, st.integers(1, 1024))
def test_a_pyramid_ends_at_its_first_level_of_one_tile(width: int, height: int, tile_size: int) -> None:
    levels = pyramid(width, height, tile_size)
    assert [len(level.grid(tile_size)) == 1 for level in levels] == [False] * (len(levels) - 1) + [True]
    assert levels[0] == Level(0, 1, width, height)


@given(sides, sides, st.integers(1, 1024), st.integers(1, 12))
def test_fewer_levels_are_the_finest_ones(width: int, height: int, tile_size: int, count: int) -> None:
    assert pyramid(width, height, tile_size, count) == pyramid(width, height, tile_size)[:count]


@pytest.mark.parametrize("count", [0, -1])
def test_a_pyramid_without_levels_is_an_error(count: int) -> None:
    with pytest.raises(ValueError, match="at least one level"):
        pyramid(10, 10, 4, count)


@given(sides, sides, st.integers(1, 1024))
def test_a_level_has_the_grid_of_its_own_size(width: int, height: int, tile_size: int) -> None:
    for level in pyramid(width, height, tile_size):
        assert level.grid(tile_size) == TileGrid(level.width_px, level.height_px, tile_size)


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_pyramid_of_nothing_is_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        pyramid(*sizes)
