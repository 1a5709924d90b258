"""A latent store seen as a slide: whatever reads OpenSlide objects reads it unchanged.

    read_region -> tiles that the region touches -> cache, or store -> decoder -> crop
                                                              store -> JPEG XL, for the pictures among the tiles
                                                             (threads, a batch ahead of the decoder)

A region decoded alone equals the crop of the whole slide decoded, bit for bit, because each tile is decoded alone. The
slide's plane is the pyramid's base; labels, macro images and free text are not there, since a store does not hold them.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeAlias, assert_never

import numpy as np
import openslide
import torch
from numpy.typing import NDArray
from PIL import Image

from wsicomp.errors import ConfigError, StoreCorrupt, StoreError
from wsicomp.geometry import Tile
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.store.reader import StoreReader
from wsicomp.store.tiles import Glass, Latent, Picture

__all__ = ["LatentSlide", "read_tiles"]

DEFAULT_CACHE_BYTES = 64 * 2**20

READERS = 4
"""Threads that read and entropy-decode tiles; they start when there is work."""


Ready: TypeAlias = Latent | NDArray[np.uint8] | None
"""A tile up to where the network begins: its latent, its pixels if it is a picture, or None for glass."""

Batch: TypeAlias = list[tuple[Tile, NDArray[np.uint8] | Future[Ready]]]
"""Tiles with their pixels, out of the cache, or what a thread is reading."""


class LatentSlide(openslide.AbstractSlide):
    """An open latent store as an `openslide.AbstractSlide`; a context manager; reads may come from several threads.

    Parameters
    ----------
    store
        Path of the store, a folder or a zip file.
    weights
        Name or path of the weights, where they are not among those shipped.
    device
        Where the decoder runs; None is the CPU.
    cache_bytes
        Decoded tiles kept in memory.

    Raises
    ------
    StoreError
        If the store is incomplete, damaged, of a newer format, or no store.
    WeightsMismatch
        If the weights that it was encoded with are not at hand.
    """

    def __init__(
        self,
        store: str | Path,
        *,
        weights: str | Path | None = None,
        device: torch.device | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        super().__init__()
        self.reader = StoreReader(store)
        self.header = header = self.reader.header
        try:
            self.codec = TileCodec.for_store(header, weights=weights, device=device)
            self._profile = self.reader.icc_profile
        except BaseException:
            self.reader.close()
            raise
        tile_bytes = 3 * header.tile_size**2
        self._capacity = max(cache_bytes // tile_bytes, 1)
        self._cache: OrderedDict[tuple[int, int, int], NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()
        self._glass = np.empty((header.tile_size, header.tile_size, 3), np.uint8)
        self._glass[...] = header.glass_rgb

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.reader.path)!r})"

    def __enter__(self) -> Self:
        return self

    @classmethod
    def detect_format(cls, filename: Any) -> str | None:
        """Return "wsicomp" for a latent store, None for anything else."""
        try:
            with StoreReader(filename):
                return "wsicomp"
        except StoreError:
            return None

    def close(self) -> None:
        """Let go of the store."""
        self.reader.close()

    @property
    def level_count(self) -> int:
        """Number of levels."""
        return len(self.header.levels)

    @property
    def level_dimensions(self) -> tuple[tuple[int, int], ...]:
        """Width and height of each level."""
        return tuple((level.width_px, level.height_px) for level in self.header.levels)

    @property
    def level_downsamples(self) -> tuple[float, ...]:
        """Downsample of each level: 1, 4, 16, ..."""
        return tuple(float(level.downsample) for level in self.header.levels)

    @property
    def properties(self) -> Mapping[str, str]:
        """OpenSlide's own property names, as far as a store knows them, and the codec's model, depth and quality."""
        header = self.header
        found = {
            "openslide.vendor": "wsicomp",
            "openslide.level-count": str(self.level_count),
            "openslide.background-color": "{:02X}{:02X}{:02X}".format(*header.glass_rgb),
            "wsicomp.model": header.model,
            "wsicomp.depth": str(header.depth),
        }
        if header.quality is not None:
            found["wsicomp.quality"] = str(header.quality)
        if header.mpp is not None:
            found["openslide.mpp-x"], found["openslide.mpp-y"] = (repr(value) for value in header.mpp)
        if header.objective_power is not None:
            found["openslide.objective-power"] = f"{header.objective_power:g}"
        for level in header.levels:
            prefix = f"openslide.level[{level.index}]"
            found[f"{prefix}.width"], found[f"{prefix}.height"] = str(level.width_px), str(level.height_px)
            found[f"{prefix}.downsample"] = str(level.downsample)
            found[f"{prefix}.tile-width"] = found[f"{prefix}.tile-height"] = str(header.tile_size)
        return found

    @property
    def associated_images(self) -> Mapping[str, Image.Image]:
        """Empty: a store holds no label, macro or thumbnail."""
        return {}

    def get_best_level_for_downsample(self, downsample: float) -> int:
        """Return the coarsest level that is at least as fine as the downsample."""
        return max((level.index for level in self.header.levels if level.downsample <= downsample), default=0)

    def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        """Return a region as RGBA; what lies outside the slide is transparent.

        Parameters
        ----------
        location
            Left and top in pixels of level 0.
        level
            Level to read from.
        size
            Width and height in pixels of that level.

        Raises
        ------
        ValueError
            If there is no such level, or a size is negative.
        StoreCorrupt
            If a tile is damaged.
        """
        if not 0 <= level < self.level_count or min(size) < 0:
            raise ValueError(f"no region of size {size} at level {level}; there are {self.level_count} levels")
        found = self.header.levels[level]
        x, y = location[0] // found.downsample, location[1] // found.downsample
        region = np.zeros((size[1], size[0], 4), np.uint8)
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + size[0], found.width_px), min(y + size[1], found.height_px)
        if x0 < x1 and y0 < y1:
            inside = region[y0 - y : y1 - y, x0 - x : x1 - x]
            inside[..., :3] = self.read_rgb(level, x0, y0, x1 - x0, y1 - y0)
            inside[..., 3] = 255
        image = Image.fromarray(region)
        if self._profile is not None:
            image.info["icc_profile"] = self._profile
        return image

    def read_rgb(self, level: int, x_px: int, y_px: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
        """Decode a region that lies inside a level, (height_px, width_px, 3) uint8; x and y are of that level too.

        Raises
        ------
        StoreCorrupt
            If a tile is damaged.
        """
        region = np.empty((height_px, width_px, 3), np.uint8)
        grid = self.header.grid(level)
        for tile, pixels in self.decode_tiles(level, grid.covering(x_px, y_px, width_px, height_px)):
            x0, y0 = max(tile.x_px, x_px), max(tile.y_px, y_px)
            x1, y1 = min(tile.x_px + tile.width_px, x_px + width_px), min(tile.y_px + tile.height_px, y_px + height_px)
            region[y0 - y_px : y1 - y_px, x0 - x_px : x1 - x_px] = pixels[
                y0 - tile.y_px : y1 - tile.y_px, x0 - tile.x_px : x1 - tile.x_px
            ]
        return region

    def decode_tiles(self, level: int, tiles: Iterable[Tile]) -> Iterator[tuple[Tile, NDArray[np.uint8]]]:
        """Decode tiles in order, a batch at a time; each is (tile_size, tile_size, 3) uint8 and not to be written to.

        Raises
        ------
        StoreCorrupt
            If a tile is damaged.
        """
        remaining = iter(tiles)
        readers = ThreadPoolExecutor(READERS, "read")  # of this call: threads do not outlive a fork of the process
        try:
            ahead = self._start(readers, level, remaining)
            while batch := ahead:
                ahead = self._start(readers, level, remaining)
                yield from self._finish(level, batch)
        finally:
            readers.shutdown(cancel_futures=True)

    def _start(self, readers: ThreadPoolExecutor, level: int, tiles: Iterator[Tile]) -> Batch:
        # The next batch: tiles out of the cache, and the others, which threads read while the one before is decoded.
        batch: Batch = []
        for tile in itertools.islice(tiles, self.codec.batch_size):
            place = level, tile.row, tile.col
            with self._lock:
                cached = self._cache.get(place)
                if cached is not None:
                    self._cache.move_to_end(place)
            batch.append((tile, cached if cached is not None else readers.submit(self._read, *place)))
        return batch

    def _read(self, level: int, row: int, col: int) -> Ready:
        return read_ready(self.reader, self.codec, level, row, col)

    def _finish(self, level: int, batch: Batch) -> Iterator[tuple[Tile, NDArray[np.uint8]]]:
        missing = {tile: found.result() for tile, found in batch if isinstance(found, Future)}
        decoded = dict(zip(missing, decode_ready(self.codec, list(missing.values())), strict=True))
        for tile, found in batch:
            if not isinstance(found, Future):
                yield tile, found
                continue
            image = decoded[tile]
            if image is not None:
                self._keep((level, tile.row, tile.col), image.copy())  # a view would keep its whole batch alive
            yield tile, self._glass if image is None else image

    def _keep(self, key: tuple[int, int, int], image: NDArray[np.uint8]) -> None:
        with self._lock:
            self._cache[key] = image
            while len(self._cache) > self._capacity:
                self._cache.popitem(last=False)


def read_tiles(
    reader: StoreReader, codec: TileCodec, level: int, places: Sequence[tuple[int, int]]
) -> list[NDArray[np.uint8] | None]:
    """Decode tiles of a store, of whatever kind.

    Parameters
    ----------
    codec
        The codec of the store.
    places
        Row and column of each tile; about a batch of the codec's.

    Returns
    -------
    list
        (tile_size, tile_size, 3) uint8 each; None for a glass tile.

    Raises
    ------
    StoreCorrupt
        If a tile is damaged.
    """
    return decode_ready(codec, [read_ready(reader, codec, level, *place) for place in places])


def read_ready(reader: StoreReader, codec: TileCodec, level: int, row: int, col: int) -> Ready:
    """Read one tile of a store up to where the network begins.

    Raises
    ------
    StoreCorrupt
        If the tile is damaged, or has a quality that the codec does not have.
    """
    match reader.read_tile(level, row, col):
        case Glass():
            return None
        case Picture() as picture:
            return picture.pixels()
        case Latent() as latent:
            try:
                return Latent(latent.values, None if latent.quality is None else codec.nearest_quality(latent.quality))
            except ConfigError as error:
                place = f"{reader.path}: level {level}, tile row {row}, col {col}"
                raise StoreCorrupt(f"{place}: {error}; restore it") from error
        case other:
            assert_never(other)


def decode_ready(codec: TileCodec, tiles: Sequence[Ready]) -> list[NDArray[np.uint8] | None]:
    """Return the pixels (tile_size, tile_size, 3) uint8 of tiles as they were read; None for glass."""
    latents = [tile for tile in tiles if isinstance(tile, Latent)]
    decoded: Iterator[NDArray[np.uint8]] = iter(())
    if latents:
        qualities = np.array([latent.quality or 0 for latent in latents], np.float32)
        decoded = iter(codec.decode(np.stack([latent.values for latent in latents]), quality=qualities))
    return [next(decoded) if isinstance(tile, Latent) else tile for tile in tiles]
