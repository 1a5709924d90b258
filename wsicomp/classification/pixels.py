"""8-bit RGB tiles as the float arrays that networks and SSIM take; one conversion, so that all see the same pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_tiles", "to_float_nchw"]


def check_tiles(tiles: NDArray[np.uint8], what: str) -> None:
    """Refuse anything but a batch of RGB tiles.

    Parameters
    ----------
    tiles
        The array to look at; (N, H, W, 3) uint8 passes.
    what
        How the message calls it.

    Raises
    ------
    ValueError
        If the shape or the dtype is another.
    """
    if tiles.dtype != np.uint8 or tiles.ndim != 4 or tiles.shape[3] != 3:
        raise ValueError(f"{what} must be (N, H, W, 3) uint8, not {tiles.shape} {tiles.dtype}")


def to_float_nchw(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Tiles as a network takes them: (N, H, W, 3) uint8 -> (N, 3, H, W) float32 in [0, 1], contiguous, writable."""
    scaled: NDArray[np.float32] = np.ascontiguousarray(tiles.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)
    return scaled
