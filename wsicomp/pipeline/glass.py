"""A floor holds for glass too: glass tiles that the glass colour does not do justice to are coded like tissue.

    tissue mask -> each of its glass tiles read, and held against a tile of the glass colour -> below the floor?
                                                                          no: glass          yes: tissue

So every glass tile of a slide is read once, which a slide without a floor is spared. What this does not do: it does not
look for tissue, and no tissue tile becomes glass.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wsicomp.geometry import Tile
from wsicomp.pipeline.floor import FloorCoder
from wsicomp.slides.source import TileSource, TissueMask

__all__ = ["above_floor"]

BATCH = 64
"""Tiles in memory at once."""


def above_floor(source: TileSource, mask: TissueMask, coder: FloorCoder, readers: int) -> TissueMask:
    """Return a mask in which no glass tile is below the floor.

    Parameters
    ----------
    source, mask
        The slide, and which of its tiles hold tissue.
    coder
        Knows the floor.
    readers
        Threads that read tiles.

    Raises
    ------
    SlideError
        If a tile cannot be read.
    ModelError
        If the floor's classifier cannot take the tiles.
    """
    shown = np.empty((source.tile_size, source.tile_size, 3), np.uint8)
    shown[...] = mask.glass_rgb
    found = [tiles.copy() for tiles in mask.tiles]
    with ThreadPoolExecutor(readers, "read") as reading:
        for level, kept in zip(source.levels, found, strict=True):

            def read(tile: Tile, index: int = level.index) -> NDArray[np.uint8]:
                return source.read_tile(index, tile.row, tile.col)

            glass = [tile for tile in level.grid(source.tile_size) if not kept[tile.row, tile.col]]
            for start in range(0, len(glass), BATCH):
                batch = glass[start : start + BATCH]
                pixels = np.stack(list(reading.map(read, batch)))
                sizes = np.array([(tile.height_px, tile.width_px) for tile in batch], np.int64)
                for tile, holds in zip(batch, coder.holds(pixels, sizes, shown), strict=True):
                    kept[tile.row, tile.col] = not holds
    return replace(mask, tiles=tuple(found))
