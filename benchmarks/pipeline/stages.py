"""The three stages of encoding, each alone, and the whole.

    read       open, find tissue, read every tissue tile of every level, by as many threads as encoding has
    network    tiles in memory -> latents, in the pipeline's batches
    write      latents in memory -> entropy coder -> a store on disk, committed
    whole      all of it, as `wsicomp encode` does it

Each is what the pipeline itself calls; nothing is left out of the whole, and nothing is added to a stage.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicomp.models.registry import LoadedModel
from wsicomp.pipeline.encode import encode_source
from wsicomp.pipeline.encoded import Encoded
from wsicomp.pipeline.resources import Resources
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.slides import SourceSettings, open_source
from wsicomp.slides.settings import Reader
from wsicomp.slides.source import TileSource
from wsicomp.store.reader import StoreReader
from wsicomp.store.schema import StoreHeader
from wsicomp.store.tiles import Latent
from wsicomp.store.writer import StoreWriter

__all__ = ["Bench", "Latents", "all_places", "encode_whole", "load_latents", "load_tiles", "read_slide", "run_network"]

Place = tuple[int, int, int]
"""Level, row and column of a tile."""


@dataclass(frozen=True)
class Bench:
    """What everything is measured with.

    Parameters
    ----------
    weights
        Name or path of the weights.
    model
        The same, loaded.
    codec
        The same, at a depth and a quality.
    readers
        Threads that read tiles.
    cores
        Cores that everything may use; as many threads of the network and of each peer.
    rounds
        Interleaved runs.
    sample
        Tiles that a peer is measured on, of tissue and of glass each.
    scratch
        Folder for slides and stores.
    """

    weights: str
    model: LoadedModel
    codec: TileCodec
    readers: int
    cores: int
    rounds: int
    sample: int
    scratch: Path


def all_places(source: TileSource, *, tissue: bool = True) -> list[Place]:
    """Tissue tiles of every level, or its glass tiles."""
    return [
        (level, int(row), int(col))
        for level, mask in enumerate(source.tissue().tiles)
        for row, col in np.argwhere(mask == tissue)
    ]


def read_slide(path: Path, readers: int, reader: Reader = "auto") -> None:
    """Read every tissue tile and let go of it."""
    with open_source(path, SourceSettings(reader=reader)) as slide, ThreadPoolExecutor(readers) as pool:
        # Only the lengths come back: pixels of a whole slide would not fit into memory.
        sum(pool.map(lambda place: len(slide.read_tile(*place)), all_places(slide)))


def load_tiles(path: Path, *, tissue: bool = True, at_most: int | None = None) -> NDArray[np.uint8]:
    """Tissue tiles of every level, or glass, (N, T, T, 3) uint8; evenly spread over the slide where not all."""
    with open_source(path) as slide:
        places = all_places(slide, tissue=tissue)
        count = len(places) if at_most is None else min(at_most, len(places))
        chosen = np.linspace(0, len(places) - 1, count).round().astype(int)
        return np.stack([slide.read_tile(*places[k]) for k in chosen])


def run_network(codec: TileCodec, tiles: NDArray[np.uint8]) -> None:
    """Encode tiles to latents, a batch at a time, and let go of them."""
    for start in range(0, len(tiles), codec.batch_size):
        codec.encode(tiles[start : start + codec.batch_size])


@dataclass(frozen=True)
class Latents:
    """All that a store is written from, in memory."""

    header: StoreHeader
    tissue: tuple[NDArray[np.bool_], ...]
    shards: tuple[tuple[int, range, range, NDArray[Any]], ...]

    def write(self, target: Path) -> None:
        """Code and write a store; one that stands there is replaced."""
        with StoreWriter(target, self.header, overwrite=True) as writer:
            for level, mask in enumerate(self.tissue):
                writer.write_tissue(level, mask)
            for shard in self.shards:
                writer.write_shard(*shard)
            writer.commit()


def load_latents(store: Path) -> Latents:
    """Take the latents out of a store, shard by shard; its entropy model must be registered."""
    with StoreReader(store) as reader:
        header = reader.header
        tissue = tuple(reader.tissue(level.index) for level in header.levels)
        return Latents(header, tissue, tuple(_shards(reader)))


def _shards(reader: StoreReader) -> Iterator[tuple[int, range, range, NDArray[Any]]]:
    header = reader.header
    for level in header.levels:
        _, height, width = header.latent_shape(level.index)
        for rows, cols in header.grid(level.index).shards():
            places = [place for place in itertools.product(rows, cols) if reader.tissue(level.index)[place]]
            if not places:
                continue
            step = header.chunk_px
            y, x = rows.start * step, cols.start * step
            shape = (header.channels, min(rows.stop * step, height) - y, min(cols.stop * step, width) - x)
            block = np.zeros(shape, header.latent_dtype)
            for row, col in places:
                tile = reader.read_tile(level.index, row, col)
                part = block[:, row * step - y : (row + 1) * step - y, col * step - x : (col + 1) * step - x]
                if isinstance(tile, Latent):
                    part[...] = tile.values[:, : part.shape[1], : part.shape[2]]
            yield level.index, rows, cols, block


def encode_whole(bench: Bench, path: Path, store: Path, reader: Reader = "auto") -> Encoded:
    """Encode a slide into a store, and leave that there."""
    with open_source(path, SourceSettings(reader=reader)) as slide:
        return encode_source(
            slide, store, bench.codec, EncodeSettings(resources=Resources(bench.readers), existing="replace")
        )
