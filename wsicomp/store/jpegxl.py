"""One tile as a JPEG XL stream, and back: what a tile falls back to where the learned codec cannot reach its floor.

    tile (T, T, 3) uint8 -> a bare code stream (no container), at a Butteraugli distance; 0 is lossless

JPEG XL reaches every fidelity up to the tile itself, so one fallback is enough. The coder is libjxl, by imagecodecs,
imported where it is first needed. Streams are of one thread, and the same for the same tile.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsicomp.errors import LatentError

__all__ = ["decode", "encode"]

EFFORT = 7


def encode(tile: NDArray[np.uint8], distance: float) -> bytes:
    """Code a tile (T, T, 3) uint8 as one stream.

    Parameters
    ----------
    distance
        1 can hardly be told from the original; 0 is lossless.
    """
    import imagecodecs

    how = {"distance": distance} if distance else {"lossless": True}
    return bytes(imagecodecs.jpegxl_encode(tile, effort=EFFORT, usecontainer=False, numthreads=1, **how))


def decode(stream: bytes, tile_size: int) -> NDArray[np.uint8]:
    """Decode a stream to its tile, (tile_size, tile_size, 3) uint8.

    Raises
    ------
    LatentError
        If the stream is damaged, or is of a picture of another size.
    """
    import imagecodecs

    tile = np.empty((tile_size, tile_size, 3), np.uint8)  # given, so that no stream chooses how much memory is taken
    try:
        decoded = imagecodecs.jpegxl_decode(stream, out=tile, numthreads=1)
    except (RuntimeError, ValueError, TypeError) as error:
        raise LatentError("a JPEG XL stream is damaged, or is no tile of this size") from error
    if decoded.shape != tile.shape:
        raise LatentError("a JPEG XL stream is damaged, or is no tile of this size")
    return tile
