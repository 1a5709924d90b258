"""Reads the mean colour of every cell of a lattice laid over a native level, block by block.

    lattice of cells -> blocks of at most 1 Mpx -> read_block, here or in a reader process -> (h, w, 4) uint8

What this does not do: it opens no file, and holds no more than the cells that were asked for.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wsicomp.slides.facts import SlideFacts

__all__ = ["READ_SIDE_PX", "Native", "read_cells"]

READ_SIDE_PX = 1024
"""Side of the largest block in pixels of the level: 1 Mpx, so that memory does not grow with the averaged area."""


class Native(Protocol):
    """An open slide file, in this process or in another. Its methods may be called from several threads at once."""

    @property
    def name(self) -> str:
        """Path as the user gave it."""

    @property
    def facts(self) -> SlideFacts:
        """What is known of the file."""

    def read_block(
        self, level: int, x: float, y: float, step: float, rows: range, cols: range, what: str
    ) -> NDArray[np.uint8]:
        """Mean colour of a block of cells of the lattice of `read_cells`, (len(rows), len(cols), 4) uint8.

        Raises
        ------
        SlideDamaged
            If the slide cannot be read there; the message names the path and `what`.
        """

    def read_encoded(self, level: int, row: int, col: int) -> bytes:
        """Return a tile of the grid in `facts.encoded_levels`: a whole JPEG stream, the level's tables joined.

        Raises
        ------
        SlideDamaged
            If the tile is missing or cannot be read.
        """

    def close(self) -> None:
        """Close the file; later reads raise SlideError."""


def read_cells(
    native: Native, level: int, x: float, y: float, step: float, width: int, height: int, what: str
) -> NDArray[np.uint8]:
    """Read the mean colour of each cell of a lattice laid over a native level.

    Parameters
    ----------
    native
        The open slide.
    level
        Native level.
    x, y
        Upper left corner of the lattice in pixels of that level, not negative, inside it.
    step
        Side of a cell in pixels of that level, at least 1. A whole `step` at whole `x`, `y` is the fast case.
    width, height
        Cells per row and per column. Cells that stick out of the level average their inside part, and cells that
        lie outside repeat their neighbour.
    what
        What is being read, for the message of an error, such as "level 0 tile (3, 4)".

    Returns
    -------
    (height, width, 4) uint8
        RGB over the background colour, and the share of the cell that was scanned: 0 nothing, 255 all of it.

    Raises
    ------
    SlideDamaged
        If the slide cannot be read there; the message names the path and `what`.
    """
    level_width, level_height = native.facts.level_sizes[level]
    cols = min(width, math.ceil((level_width - x) / step))
    rows = min(height, math.ceil((level_height - y) / step))
    side = max(int(READ_SIDE_PX / step), 1)
    if max(rows, cols) <= side:
        cells = native.read_block(level, x, y, step, range(rows), range(cols), what)
    else:
        cells = np.empty((rows, cols, 4), np.uint8)
        for top in range(0, rows, side):
            for left in range(0, cols, side):
                block = range(top, min(top + side, rows)), range(left, min(left + side, cols))
                part = native.read_block(level, x, y, step, *block, what)
                cells[top : top + side, left : left + side] = part
    if (rows, cols) != (height, width):
        cells = np.pad(cells, ((0, height - rows), (0, width - cols), (0, 0)), mode="edge")
    return cells
