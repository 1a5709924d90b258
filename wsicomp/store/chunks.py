"""The files of a store that hold chunks, and where each tile's chunk lies in them; nothing is decoded.

    latents/LEVEL/c/0/ROW/COL, jpegxl/LEVEL/c/ROW/COL/0     one file for each shard of up to 16 x 16 tiles
    shard: chunks | index of offset and length for each tile, little-endian uint64 | CRC32C of the index

This is zarr's own layout of a shard. zarr reads all chunks by itself; what is here serves to check a tile whose codec
lacks its entropy model, and to say which file a damaged tile lies in.
"""

from __future__ import annotations

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from wsicomp.errors import LatentError
from wsicomp.geometry import SHARD_TILES
from wsicomp.store.container import Container
from wsicomp.store.schema import StoreHeader

__all__ = ["ABSENT", "latent_file", "picture_file", "read_index"]

ABSENT = 2**64 - 1
"""Offset and length of a chunk that is not there."""

ENTRY_BYTES = 16
CHECKSUM_BYTES = 4


def latent_file(level: int, rows: range, cols: range) -> str:
    """Return the path, inside the store, of a shard's latents."""
    return f"latents/{level}/c/0/{rows.start // SHARD_TILES}/{cols.start // SHARD_TILES}"


def picture_file(level: int, rows: range, cols: range) -> str:
    """Return the path, inside the store, of a shard's JPEG XL streams."""
    return f"jpegxl/{level}/c/{rows.start // SHARD_TILES}/{cols.start // SHARD_TILES}/0"


def read_index(container: Container, name: str, header: StoreHeader, level: int) -> NDArray[np.uint64]:
    """Read where the chunks of a shard lie: offset and length by row and column of the shard, (r, c, 2).

    Raises
    ------
    LatentError
        If the index does not match its checksum.
    OSError, EOFError
        If the file cannot be read, or is too short.
    """
    _, height, width = header.shard_shape(level)
    tiles = height // header.chunk_px, width // header.chunk_px
    length = ENTRY_BYTES * tiles[0] * tiles[1]
    start = container.sizes[name] - length - CHECKSUM_BYTES
    if start < 0:
        raise EOFError("a shard is shorter than its index")
    raw = container.read(name, start, length + CHECKSUM_BYTES)
    if google_crc32c.value(raw[:length]) != int.from_bytes(raw[length:], "little"):
        raise LatentError("the index of a shard does not match its checksum")
    return np.frombuffer(raw[:length], "<u8").reshape(*tiles, 2)
