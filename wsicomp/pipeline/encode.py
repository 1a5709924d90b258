"""A source of tiles into a latent store.

    tissue mask -> tiles of one shard, read ahead by threads -> network in batches -> block of latents -> store
                   (bounded window)                             (this thread)         (one writing thread)

Rows of shards are what work is divided by: here all of them go through one such pipeline, one after the other, and
`cluster` gives each to whichever machine is free. Glass tiles are neither read nor coded. Where a floor is set, `glass`
first makes tissue of the glass tiles that are below it, `floor` stands in the network's place, and a tile may become
JPEG XL. Memory is bounded by the window of tiles read ahead and a few shards of latents, whatever the size of the
slide, and `resources` may bound it further. What it does not do: it does not choose names, skip errors or resume;
`batch` does.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from wsicomp.disk import folder_for
from wsicomp.geometry import SHARD_TILES
from wsicomp.pipeline.encoded import Encoded, doubts, marks
from wsicomp.pipeline.floor import CodedTile, Floor, FloorCoder
from wsicomp.pipeline.glass import above_floor
from wsicomp.pipeline.resources import Resources
from wsicomp.pipeline.settings import DEFAULTS, EncodeSettings
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.progress import Progress, silent
from wsicomp.slides.source import TileSource, TissueMask
from wsicomp.store.records import ShardRecord
from wsicomp.store.schema import PICTURES, StoreHeader
from wsicomp.store.writer import StoreWriter
from wsicomp.store.zipped import check_target, pack

__all__ = [
    "Engine",
    "ShardRow",
    "encode_rows",
    "encode_source",
    "rows_of",
    "tissue_places",
]

ZIP_FILE_BYTES = 256
"""The two headers of a file in a zip archive take at most so many bytes."""


@dataclass(frozen=True)
class ShardRow:
    """A row of shards of one level, the unit of work.

    Parameters
    ----------
    level
        Index of the level.
    rows
        Rows of tiles, as many as a shard has.
    tissue
        (len(rows), cols) bool: the mask of these rows.
    """

    level: int
    rows: range
    tissue: NDArray[np.bool_]

    @property
    def tissue_tiles(self) -> int:
        """Tiles that hold tissue."""
        return int(self.tissue.sum())


class ShardSink(Protocol):
    """Where the shards of rows go: a whole store's writer, or one for some shards of it."""

    @property
    def header(self) -> StoreHeader:
        """What the store holds."""

    def write_shard(
        self, level: int, rows: range, cols: range, block: NDArray[Any], record: ShardRecord | None = None
    ) -> None:
        """Store one shard, as `StoreWriter.write_shard` does."""


class Engine(Protocol):
    """Encodes the rows of one source somewhere else than in this process."""

    def encode(self, rows: Sequence[ShardRow], writer: StoreWriter, progress: Progress) -> None:
        """See that every row is written."""


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
    settings: EncodeSettings = DEFAULTS,
    *,
    engine: Engine | None = None,
    progress: Progress = silent,
) -> Encoded:
    """Encode every level of a source into a store that is either whole or not there.

    Parameters
    ----------
    store
        Where the store will stand; its folder is made when missing.
    codec
        The codec that was chosen for this source.
    settings
        What else is asked: the floor, the most bytes, whether the store is packed, and what may be used. A store that
        exists is replaced unless it is to be refused.
    engine
        What encodes in place of this process.

    Raises
    ------
    SlideError
        If a tile cannot be read.
    StoreError, OSError
        If the disk refuses the store, or a folder for it.
    ConfigError
        If the target exists, the tiles do not fit the depth, or memory is bounded too tightly.
    StoreTooLarge
        If the store would have more bytes than its limit.
    ModelError
        If the floor's classifier cannot take the tiles.
    """
    started = time.monotonic()
    codec.check_tile_size(source.tile_size)
    replace = settings.existing != "refuse"
    limit_bytes = None if settings.target is None else settings.target.max_bytes
    if settings.zipped:
        check_target(store, replace)
    mask = source.tissue()
    coder = None if settings.floor is None else FloorCoder(codec, settings.floor)
    if coder is not None:
        mask = above_floor(source, mask, coder, settings.resources.readers)
    header = header_of(source, mask, codec, settings.floor)
    folder = store.with_name(store.name + ".unpacked") if settings.zipped else store
    with folder_for(store):
        with StoreWriter(folder, header, overwrite=replace or settings.zipped) as writer:
            for level, tiles in enumerate(mask.tiles):
                writer.write_tissue(level, tiles)
            if source.info.icc_profile:
                writer.write_icc(source.info.icc_profile)
            rows = list(rows_of(source, mask))
            if engine is None:
                encode_rows(source, rows, codec, coder, writer, resources=settings.resources, progress=progress)
            else:
                engine.encode(rows, writer, progress)
            damaged = source.damaged
            if damaged:
                writer.write_damaged(damaged)
            counts = writer.tile_counts()
            store_bytes = writer.commit(limit_bytes=limit_bytes, file_overhead=ZIP_FILE_BYTES if settings.zipped else 0)
        if settings.zipped:
            try:
                store_bytes = pack(folder, store, overwrite=replace)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    return Encoded.of_store(
        store,
        header,
        store_bytes,
        seconds=time.monotonic() - started,
        raised_tiles=counts.raised,
        jpegxl_tiles=counts.pictures,
        damaged_tiles=damaged,
        warnings=(*doubts(header), *marks(damaged)),
    )


def header_of(source: TileSource, mask: TissueMask, codec: TileCodec, floor: Floor | None = None) -> StoreHeader:
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
        floor=None if floor is None else floor.record,
        features=() if floor is None else (PICTURES,),
        source_fingerprint=source.info.fingerprint,
    )


def encode_rows(
    source: TileSource,
    rows: Sequence[ShardRow],
    codec: TileCodec,
    coder: FloorCoder | None,
    writer: ShardSink,
    *,
    resources: Resources,
    progress: Progress = silent,
) -> None:
    """Read, encode and write the tissue tiles of rows of shards, the three overlapped.

    Raises
    ------
    SlideError, StoreError, ModelError
        As `encode_source` does.
    """
    total, done = sum(row.tissue_tiles for row in rows), 0
    window = resources.window(codec, writer.header)
    with ThreadPoolExecutor(resources.readers, "read") as reading, ThreadPoolExecutor(1, "write") as writing:
        open_shard: OpenShard | None = None
        written: Future[None] | None = None
        stream = read_ahead(source, tissue_places(rows), reading, window)
        # A batch may end one shard and begin the next: a device is kept busy however little tissue a shard has.
        while batch := list(itertools.islice(stream, codec.batch_size)):
            places = [place for place, _ in batch]
            coded = code_tiles(codec, coder, np.stack([tile for _, tile in batch]), places, writer.header)
            for place, tile in zip(places, coded, strict=True):
                if open_shard is None or open_shard.at != (place.level, place.shard):
                    if open_shard is not None:
                        written = write_behind(writing, writer, open_shard, written)
                    open_shard = OpenShard.empty(writer.header, place, with_floor=coder is not None)
                open_shard.put(place, tile)
            done += len(batch)
            progress(done, total)
        if open_shard is not None:
            write_behind(writing, writer, open_shard, written).result()


def write_behind(
    writing: ThreadPoolExecutor, writer: ShardSink, shard: OpenShard, before: Future[None] | None
) -> Future[None]:
    """Have a shard written while the next is made, once the one before it is; raises what that one met."""
    if before is not None:
        before.result()
    level, (rows, cols) = shard.at
    return writing.submit(writer.write_shard, level, rows, cols, shard.block, shard.record)


def code_tiles(
    codec: TileCodec,
    coder: FloorCoder | None,
    tiles: NDArray[np.uint8],
    places: Sequence[Place],
    header: StoreHeader,
) -> Sequence[NDArray[Any] | CodedTile]:
    """Code tiles (N, T, T, 3): to latents, or, where there is a floor, to what `FloorCoder` makes of them."""
    on_slide = [header.grid(place.level).tile(place.row, place.col) for place in places]
    sizes = np.array([(tile.height_px, tile.width_px) for tile in on_slide], np.int64)
    return coder.code(tiles, sizes) if coder is not None else list(codec.encode(tiles, sizes=sizes))


@dataclass
class OpenShard:
    """A shard that is being filled.

    Parameters
    ----------
    at
        Its level, and its rows and columns of tiles.
    block
        (C, h, w) latents, cropped at the image's edge, zeros where nothing was put.
    record
        What is stored beside them where there is a floor.
    step
        Side of a tile's latent.
    """

    at: tuple[int, tuple[range, range]]
    block: NDArray[Any]
    record: ShardRecord | None
    step: int

    @classmethod
    def empty(cls, header: StoreHeader, place: Place, *, with_floor: bool) -> Self:
        """Begin the shard of a place."""
        block = empty_block(header, place.level, place.shard)
        record = ShardRecord.of_glass(*place.shard) if with_floor else None
        return cls((place.level, place.shard), block, record, header.chunk_px)

    def put(self, place: Place, tile: NDArray[Any] | CodedTile) -> None:
        """Put a tile in: its latent without what lies outside the slide, or its stream, with quality and fidelity."""
        row, col = (at - tiles.start for at, tiles in zip((place.row, place.col), place.shard, strict=True))
        latent = tile.latent if isinstance(tile, CodedTile) else tile
        if self.record is not None and isinstance(tile, CodedTile):
            self.record.quality[row, col] = tile.quality
            self.record.fidelity[row, col] = tile.psnr_db, tile.ms_ssim
            if tile.stream is not None:
                self.record.streams[place.row, place.col] = tile.stream
        if latent is not None:
            y, x = row * self.step, col * self.step
            part = self.block[:, y : y + self.step, x : x + self.step]  # less than a tile at the slide's edge
            part[...] = latent[:, : part.shape[1], : part.shape[2]]


def rows_of(source: TileSource, mask: TissueMask) -> Iterator[ShardRow]:
    """Rows of shards of every level, those of glass alone left out."""
    for level, tiles in zip(source.levels, mask.tiles, strict=True):
        for start in range(0, len(tiles), SHARD_TILES):
            part = tiles[start : start + SHARD_TILES]
            if part.any():
                yield ShardRow(level.index, range(start, start + len(part)), part)


def tissue_places(rows: Iterable[ShardRow]) -> Iterator[Place]:
    """Tissue tiles of rows, shard by shard."""
    for shards in rows:
        width = shards.tissue.shape[1]
        for left in range(0, width, SHARD_TILES):
            cols = range(left, min(left + SHARD_TILES, width))
            for row in shards.rows:
                for col in cols:
                    if shards.tissue[row - shards.rows.start, col]:
                        yield Place(shards.level, (shards.rows, cols), row, col)


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
