"""Bounds what an encoding may use of the machine: threads that read, and memory.

    memory in use when work begins
    + three shards of latents (one filled, one written, one being made into bytes)
    + tiles read ahead + the reader process + what the network's threads work with      <= the bound

What this does not do: it watches no process while it runs; the bound holds because of what is read ahead.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import psutil
import torch

from wsicomp.errors import ConfigError
from wsicomp.geometry import SHARD_TILES
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.slides.process import READER_BYTES
from wsicomp.store.schema import StoreHeader

__all__ = ["Resources", "parse_bytes"]

SHARDS = 3
"""So many shards of latents are in memory at once."""

THREAD_BYTES = 64 * 2**20
"""Each thread of the network works in so many bytes, at two tiles of 256 px; measured, with room to spare."""

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Resources:
    """Bounds what one process may use.

    Parameters
    ----------
    readers
        Threads that read tiles.
    memory_bytes
        Bytes that the process may hold in memory, libraries included; None sets no bound.
    """

    readers: int = 4
    memory_bytes: int | None = None

    def window(self, codec: TileCodec, header: StoreHeader) -> int:
        """Return how many tiles may be read ahead of the network.

        Raises
        ------
        ConfigError
            If the bound is too small for a single batch.
        """
        wanted = 2 * codec.batch_size + self.readers
        if self.memory_bytes is None:
            return wanted
        tile_bytes = 3 * header.tile_size**2
        shard_bytes = codec.latent_elements(header.tile_size) * SHARD_TILES**2 * np.dtype(header.latent_dtype).itemsize
        network_bytes = THREAD_BYTES * torch.get_num_threads() * tile_bytes // (3 * 256**2)
        held: int = psutil.Process().memory_info().rss + SHARDS * shard_bytes + READER_BYTES + network_bytes
        needed = held + codec.batch_size * tile_bytes
        if needed > self.memory_bytes:
            raise ConfigError(
                f"{self.memory_bytes / 2**20:.0f} MB of memory are too few for tiles of {header.tile_size} px at depth "
                f"{codec.depth}; give {math.ceil(needed / 2**20 / 10) * 10} MB, or smaller tiles, or a deeper depth"
            )
        return min(wanted, (self.memory_bytes - held) // tile_bytes)


def parse_bytes(text: str) -> int:
    """Read a number of bytes such as 800M or 2G; K, M, G and T are powers of 1,024.

    Raises
    ------
    ConfigError
        If the text is no amount of memory.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if found is None:
        raise ConfigError(f"'{text}' is no amount of memory; give one such as 800M or 2G")
    return round(float(found[1]) * UNITS[found[2].upper()])
