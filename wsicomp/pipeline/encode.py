"""A source of tiles into a latent store.

    tissue mask -> tiles of one shard, read ahead by threads -> network in batches -> block of latents -> store
                   (bounded window)                             (this thread)         (one writing thread)

Glass tiles are neither read nor coded. Memory is bounded by the window of tiles read ahead and two shards of latents,
whatever the size of the slide. What it does not do: it does not choose names, skip errors or resume; `batch` does.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.progress import Progress, silent
from wsicomp.slides.source import TileSource, TissueMask
from wsicomp.store.schema import StoreHeader
from wsicomp.store.writer import StoreWriter
from wsicomp.store.zipped import check_target, pack

__all__ = ["Encoded", "encode_source"]

DEFAULT_READERS = 4


@dataclass(frozen=True)
class Encoded:
    """What an encoding made, in tiles, bytes and seconds.

    Parameters
    ----------
    quality
        Quality level of the codec; None for a codec without them.
    pixels
        Pixels of the pyramid's base; bits per pixel are counted on these, whatever share of them is glass.
    tiles, tissue_tiles
        Tiles of all levels, and those that were coded.
    """

    store: Path
    depth: int
    quality: int | None
    pixels: int
    source_bytes: int | None
    store_bytes: int
    tiles: int
    tissue_tiles: int
    seconds: float

    @property
    def bits_per_pixel(self) -> float:
        """Real bits on disk, with headers, index and metadata, per pixel of the base."""
        return 8 * self.store_bytes / self.pixels

    @property
    def ratio_to_source(self) -> float | None:
        """Bytes of the store over bytes of the source; None where the source is not a file."""
        return self.store_bytes / self.source_bytes if self.source_bytes else None


@dataclass(frozen=True)
class Place:
    """A tile of a level, and the shard that it belongs to."""

    level: int
    shard: tuple[range, range]
    row: int
    col: int


def encode_source(
    source: TileSource,
    store: Path,
    codec: TileCodec,
    *,
    overwrite: bool = False,
    zipped: bool = False,
    readers: int = DEFAULT_READERS,
    progress: Progress = silent,
) -> Encoded:
    """Encode every level of a source into a store that is either whole or not there.

    Parameters
    ----------
    store
        Where the store will stand.
    overwrite
        Whether a store that stands there already may be replaced.
    zipped
        Whether the store is packed into one file, `NAME.zarr.zip`.
    readers
        Threads that read tiles.

    Raises
    ------
    SlideError
        If a tile cannot be read.
    StoreError
        If the disk refuses.
    ConfigError
        If the target exists, or the tiles do not fit the depth.
    """
    started = time.monotonic()
    codec.check_tile_size(source.tile_size)
    if zipped:
        check_target(store, overwrite)
    mask = source.tissue()
    header = header_of(source, mask, codec)
    folder = store.with_name(store.name + ".unpacked") if zipped else store
    with StoreWriter(folder, header, overwrite=overwrite or zipped) as writer:
        for level, tiles in enumerate(mask.tiles):
            writer.write_tissue(level, tiles)
        if source.info.icc_profile:
            writer.write_icc(source.info.icc_profile)
        write_latents(source, mask, codec, writer, readers, progress)
        store_bytes = writer.commit()
    if zipped:
        try:
            store_bytes = pack(folder, store, overwrite=overwrite)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    base = source.levels[0]
    return Encoded(
        store=store,
        depth=codec.depth,
        quality=codec.quality,
        pixels=base.width_px * base.height_px,
        source_bytes=source.info.source_bytes,
        store_bytes=store_bytes,
        tiles=header.total_tiles,
        tissue_tiles=header.tissue_tiles,
        seconds=time.monotonic() - started,
    )


def header_of(source: TileSource, mask: TissueMask, codec: TileCodec) -> StoreHeader:
    """Header of the store that a source will become."""
    return StoreHeader(
        model=codec.key,
        weights_sha256=codec.weights_sha256,
        depth=codec.depth,
        quality=codec.quality,
        channels=codec.channels,
        latent_dtype=codec.latent_dtype,
        tile_size=source.tile_size,
        levels=source.levels,
        mpp=source.info.mpp,
        objective_power=source.info.objective_power,
        vendor=source.info.vendor,
        source_bytes=source.info.source_bytes,
        tissue_rule=mask.rule,
        glass_rgb=mask.glass_rgb,
        tissue_tiles=sum(int(tiles.sum()) for tiles in mask.tiles),
        total_tiles=sum(tiles.size for tiles in mask.tiles),
        entropy=codec.entropy_digest,
    )


def write_latents(
    source: TileSource, mask: TissueMask, codec: TileCodec, writer: StoreWriter, readers: int, progress: Progress
) -> None:
    """Read, encode and write the tissue tiles of every shard, the three overlapped."""
    total, done = writer.header.tissue_tiles, 0
    step = writer.header.chunk_px
    with ThreadPoolExecutor(readers, "read") as reading, ThreadPoolExecutor(1, "write") as writing:
        written: Future[None] | None = None
        stream = read_ahead(source, tissue_places(source, mask), reading, window=2 * codec.batch_size + readers)
        for (level, shard), tiles in itertools.groupby(stream, key=lambda item: (item[0].level, item[0].shard)):
            block = empty_block(writer.header, level, shard)
            while batch := list(itertools.islice(tiles, codec.batch_size)):
                latents = codec.encode(np.stack([tile for _, tile in batch]))
                for (place, _), latent in zip(batch, latents, strict=True):
                    y, x = (place.row - shard[0].start) * step, (place.col - shard[1].start) * step
                    inside = block[:, y : y + step, x : x + step]
                    inside[...] = latent[:, : inside.shape[1], : inside.shape[2]]
                done += len(batch)
                progress(done, total)
            if written is not None:
                written.result()
            written = writing.submit(writer.write_shard, level, shard[0], shard[1], block)
        if written is not None:
            written.result()


def tissue_places(source: TileSource, mask: TissueMask) -> Iterator[Place]:
    """Tissue tiles of every level, shard by shard."""
    for level, tiles in zip(source.levels, mask.tiles, strict=True):
        for rows, cols in level.grid(source.tile_size).shards():
            for row in rows:
                for col in cols:
                    if tiles[row, col]:
                        yield Place(level.index, (rows, cols), row, col)


def read_ahead(
    source: TileSource, places: Iterator[Place], pool: ThreadPoolExecutor, window: int
) -> Iterator[tuple[Place, NDArray[np.uint8]]]:
    """Tiles in order, at most `window` of them read or being read before they are asked for."""
    pending: deque[tuple[Place, Future[NDArray[np.uint8]]]] = deque()
    try:
        while True:
            for place in itertools.islice(places, window - len(pending)):
                pending.append((place, pool.submit(source.read_tile, place.level, place.row, place.col)))
            if not pending:
                return
            place, tile = pending.popleft()
            yield place, tile.result()
    finally:
        for _, tile in pending:
            tile.cancel()


def empty_block(header: StoreHeader, level: int, shard: tuple[range, range]) -> NDArray[Any]:
    """Zeros of the shape of one shard's latents, cropped at the image's edge, (C, h, w)."""
    channels, height, width = header.latent_shape(level)
    step, (rows, cols) = header.chunk_px, shard
    shape = (min(rows.stop * step, height) - rows.start * step, min(cols.stop * step, width) - cols.start * step)
    return np.zeros((channels, *shape), dtype=header.latent_dtype)
