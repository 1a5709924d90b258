"""JPEG XL and AVIF of single tiles, by as many threads as there are cores, each tile on one thread.

What is theirs is only the codec: tiles are in memory, and streams are not written. AVIF is at speed 6, JPEG XL at
effort 7, both at settings in the middle of what slides are kept at; their speed hardly depends on that.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
from numpy.typing import NDArray

__all__ = ["ENCODERS", "encode_tiles", "jpegxl_decode_tiles"]

JPEG_XL_DISTANCE, JPEG_XL_EFFORT = 3.0, 7
AVIF_QUALITY, AVIF_SPEED = 45, 6


def jpeg_xl(tile: NDArray[np.uint8]) -> bytes:
    """Encode a tile as JPEG XL."""
    return bytes(
        imagecodecs.jpegxl_encode(
            tile, distance=JPEG_XL_DISTANCE, effort=JPEG_XL_EFFORT, usecontainer=False, numthreads=1
        )
    )


def avif(tile: NDArray[np.uint8]) -> bytes:
    """Encode a tile as AVIF."""
    return bytes(imagecodecs.avif_encode(tile, level=AVIF_QUALITY, speed=AVIF_SPEED, pixelformat="444", numthreads=1))


ENCODERS = {f"JPEG XL effort {JPEG_XL_EFFORT}": jpeg_xl, f"AVIF speed {AVIF_SPEED}": avif}


def encode_tiles(name: str, tiles: Iterable[NDArray[np.uint8]], cores: int) -> list[bytes]:
    """Encode tiles by a peer."""
    with ThreadPoolExecutor(cores) as pool:
        return list(pool.map(ENCODERS[name], tiles))


def jpegxl_decode_tiles(streams: Iterable[bytes], cores: int) -> None:
    """Decode JPEG XL, and let go of the pixels."""
    with ThreadPoolExecutor(cores) as pool:
        sum(pool.map(lambda stream: len(imagecodecs.jpegxl_decode(stream, numthreads=1)), streams))
