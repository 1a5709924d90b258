"""Tile grids and pyramid levels as pure integer arithmetic; no pixels, no files.

Coordinate planes, by prefix of the name:

    l0_   pixels of the slide's own level 0
    (none) pixels of one level of the encoded pyramid; level k has 4**k times the downsample of level 0
    row, col   tiles of one level's grid

The encoded pyramid keeps downsamples 1, 4, 16, ... of its base, until a level fits one tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["LEVEL_STEP", "SHARD_TILES", "Level", "Tile", "TileGrid", "pyramid"]

LEVEL_STEP = 4
"""Downsample between one encoded level and the next."""

SHARD_TILES = 16
"""Side of a shard, in tiles: a shard is 16 x 16 tiles and the unit of parallel work."""


@dataclass(frozen=True)
class Tile:
    """One tile of a grid: its place, and the part of it that lies inside the image."""

    row: int
    col: int
    x_px: int
    y_px: int
    width_px: int
    height_px: int


@dataclass(frozen=True)
class TileGrid:
    """The grid of square tiles that covers an image; tiles at the right and bottom may stick out.

    Parameters
    ----------
    width_px, height_px
        Size of the image, at least 1 each.
    tile_size
        Side of a tile in pixels.
    """

    width_px: int
    height_px: int
    tile_size: int

    def __post_init__(self) -> None:
        if min(self.width_px, self.height_px, self.tile_size) < 1:
            raise ValueError(f"a grid needs positive sizes, not {self.width_px}x{self.height_px} by {self.tile_size}")

    @property
    def cols(self) -> int:
        """Number of tile columns."""
        return -(-self.width_px // self.tile_size)

    @property
    def rows(self) -> int:
        """Number of tile rows."""
        return -(-self.height_px // self.tile_size)

    def __len__(self) -> int:
        return self.rows * self.cols

    def tile(self, row: int, col: int) -> Tile:
        """Place and inside size of one tile.

        Raises
        ------
        IndexError
            If the grid has no such tile.
        """
        if not (0 <= row < self.rows and 0 <= col < self.cols):
            raise IndexError(f"no tile ({row}, {col}) in a grid of {self.rows} x {self.cols}")
        x, y = col * self.tile_size, row * self.tile_size
        return Tile(row, col, x, y, min(self.tile_size, self.width_px - x), min(self.tile_size, self.height_px - y))

    def __iter__(self) -> Iterator[Tile]:
        return (self.tile(row, col) for row in range(self.rows) for col in range(self.cols))

    def covering(self, x_px: int, y_px: int, width_px: int, height_px: int) -> Iterator[Tile]:
        """Tiles that a region touches, row by row; parts of the region outside the image touch none."""
        x0, y0 = max(x_px, 0), max(y_px, 0)
        x1, y1 = min(x_px + width_px, self.width_px), min(y_px + height_px, self.height_px)
        if x0 >= x1 or y0 >= y1:
            return
        for row in range(y0 // self.tile_size, (y1 - 1) // self.tile_size + 1):
            for col in range(x0 // self.tile_size, (x1 - 1) // self.tile_size + 1):
                yield self.tile(row, col)

    def shards(self) -> Iterator[tuple[range, range]]:
        """Rows and columns of tiles of each shard, row by row."""
        for row in range(0, self.rows, SHARD_TILES):
            for col in range(0, self.cols, SHARD_TILES):
                yield range(row, min(row + SHARD_TILES, self.rows)), range(col, min(col + SHARD_TILES, self.cols))


@dataclass(frozen=True)
class Level:
    """One level of an encoded pyramid.

    Parameters
    ----------
    index
        0 is the finest.
    downsample
        Pixels of the pyramid's base per pixel of this level: 4**index.
    width_px, height_px
        Size of this level's image.
    """

    index: int
    downsample: int
    width_px: int
    height_px: int

    def grid(self, tile_size: int) -> TileGrid:
        """Tile grid of this level."""
        return TileGrid(self.width_px, self.height_px, tile_size)


def pyramid(width_px: int, height_px: int, tile_size: int, max_levels: int | None = None) -> tuple[Level, ...]:
    """Levels of a pyramid over a base image: downsamples 1, 4, 16, ... until one tile holds the whole image.

    Sizes are floored, so that each pixel of a level lies wholly inside the image; a side thinner than the downsample
    keeps one pixel.

    Parameters
    ----------
    width_px, height_px
        Size of the base image.
    tile_size
        Side of a tile in pixels.
    max_levels
        Keep at most this many levels, at least 1; None keeps all.

    Raises
    ------
    ValueError
        If a size or the number of levels is below 1.
    """
    TileGrid(width_px, height_px, tile_size)  # refuses sizes below 1
    if max_levels is not None and max_levels < 1:
        raise ValueError(f"a pyramid has at least one level, not {max_levels}")
    levels: list[Level] = []
    while max_levels is None or len(levels) < max_levels:
        downsample = LEVEL_STEP ** len(levels)
        width, height = max(width_px // downsample, 1), max(height_px // downsample, 1)
        levels.append(Level(len(levels), downsample, width, height))
        if max(width, height) <= tile_size:
            break
    return tuple(levels)
