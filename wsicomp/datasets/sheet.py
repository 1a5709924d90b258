"""Patches laid side by side as one picture, so that they pass through the same store as a slide does.

Each patch is one tile; a side that is no multiple of 16 is filled up by reflection, which the decoder's reader crops.
What the store then weighs on disk, divided by the patches, is what a patch really costs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wsicomp.errors import DataError
from wsicomp.geometry import Level
from wsicomp.slides.source import SourceInfo, TissueMask

__all__ = ["PatchSheet"]

SIDE_MULTIPLE = 16


class PatchSheet:
    """A sheet of patches as a source of tiles; patch i is tile (i // cols, i % cols).

    Parameters
    ----------
    name
        How messages call the sheet.
    patches
        (N, S, S, 3) uint8, N at least 1.

    Raises
    ------
    DataError
        If the patches are not square.
    """

    def __init__(self, name: str, patches: NDArray[np.uint8]) -> None:
        if patches.ndim != 4 or patches.shape[1] != patches.shape[2] or not len(patches):
            raise DataError(f"{name}: patches must be square, and at least one, not {patches.shape}")
        self.name = name
        self.info = SourceInfo()
        self.damaged = ()
        self.patches = patches
        self.tile_size = -(-patches.shape[1] // SIDE_MULTIPLE) * SIDE_MULTIPLE
        self.cols = math.isqrt(len(patches) - 1) + 1
        self.rows = -(-len(patches) // self.cols)
        self.levels = (Level(0, 1, self.cols * self.tile_size, self.rows * self.tile_size),)

    def tissue(self) -> TissueMask:
        """Every patch, and none of the places left over in the last row."""
        tiles = np.arange(self.rows * self.cols).reshape(self.rows, self.cols) < len(self.patches)
        return TissueMask((tiles,), rule={"method": "patches"})

    def read_tile(self, level: int, row: int, col: int) -> NDArray[np.uint8]:
        """Give one patch, (tile_size, tile_size, 3) uint8; the places left over in the last row show plain glass."""
        index = row * self.cols + col
        if index >= len(self.patches):
            tile = np.empty((self.tile_size, self.tile_size, 3), np.uint8)
            tile[...] = TissueMask(()).glass_rgb
            return tile
        patch = self.patches[index]
        missing = self.tile_size - patch.shape[0]
        return np.pad(patch, ((0, missing), (0, missing), (0, 0)), mode="reflect") if missing else patch
