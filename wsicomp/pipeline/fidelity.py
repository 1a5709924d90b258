"""How near a store is to its slide, on a sample of tiles that is taken at every encoding.

    masks -> up to 64 places, evenly over tissue of every level, and some of glass
    source -> tiles of these places are kept as the encoder reads them; what it did not read is read at the end
    finished store -> the same tiles, decoded as a reader decodes them -> PSNR, MS-SSIM, errors of Y, Cb and Cr
                                                                       -> a line where these are not those of tissue

A sample is one in 32 tissue tiles, but for small slides, so that it costs little beside the encoding.
What this does not do: it promises nothing for tiles outside the sample; `floor` does.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicomp.errors import SlideError
from wsicomp.geometry import Level
from wsicomp.metrics.distortion import mean_psnr_db, psnr_db, ycbcr_squared_error
from wsicomp.metrics.similarity import ms_ssim
from wsicomp.models.device import in_threads
from wsicomp.models.expected import expected_of
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.view import read_tiles
from wsicomp.slides.source import SourceInfo, TileSource, TissueMask
from wsicomp.store.reader import StoreReader

__all__ = ["Fidelity", "SampledSource", "measured"]

MOST_TILES = 64
LEAST_TILES = 4
SHARE = 32
"""One in so many tissue tiles is sampled, within these two bounds; of glass tiles, the least."""

FAR_BELOW_DB = 3.0
"""Decibels by which a mean PSNR must fall short of tissue's before a user is told."""

CELL_PX = 16
DRIFT_OVER_TISSUE, DRIFT_SEEN = 2.0, 1.5
"""A user is told where the mean colours of cells of 16 px are off by so many times more than on tissue, and by more
than so much, in squared grey levels. Detail that is lost averages out within a cell, and a wrong colour does not: at
depths 3 and 4, four organs and an immunostain lie within 1.3 times of one another, a fluorescence slide at 2.5 times or
more."""

CHROMA_OVER_LUMA, CHROMA_SEEN = 4.0, 4.0
"""A user is also told where a squared error of Cb or Cr is more than so many times luma's and more than so many squared
grey levels. On tissue it is at most some three times luma's, at the finest quality."""

Place = tuple[int, int, int]
"""Level, row and column of a tile."""

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""The part of a tile that lies on the slide, and what it was decoded to, (h, w, 3) each."""


@dataclass(frozen=True)
class Fidelity:
    """What a sample of tiles says of a store: means over tiles, each measured inside the slide.

    Parameters
    ----------
    tiles, glass_tiles
        How many tissue tiles, and how many glass tiles, were measured.
    psnr_db, ms_ssim
        Of tissue tiles; a tile that is the original counts 100 dB.
    y_error, cb_error, cr_error
        Squared errors of luma and chroma of tissue tiles, of values from 0 to 255.
    drift
        Squared error of the mean colours of cells of 16 px of tissue tiles, mean over R, G and B.
    glass_psnr_db
        PSNR of glass tiles, which are shown in one colour; None where there are none.
    """

    tiles: int
    psnr_db: float
    ms_ssim: float
    y_error: float
    cb_error: float
    cr_error: float
    drift: float
    glass_tiles: int
    glass_psnr_db: float | None

    @property
    def record(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)

    def doubts(self, codec: TileCodec) -> Iterator[str]:
        """Say, in a line each, what is not as the codec does on tissue."""
        expected = expected_of(codec.weights_sha256, codec.depth, codec.quality)
        if expected is not None and self.psnr_db < expected.psnr_db - FAR_BELOW_DB:
            yield (
                f"sampled tiles have {self.psnr_db:.1f} dB, where tissue has {expected.psnr_db:.1f} or more; "
                "the codec may not know such images: look at them, or set --min-psnr"
            )
        allowed = math.inf if expected is None else max(DRIFT_SEEN, DRIFT_OVER_TISSUE * expected.drift)
        chroma = max(self.cb_error, self.cr_error)
        if self.drift > allowed or chroma > max(CHROMA_SEEN, CHROMA_OVER_LUMA * self.y_error):
            yield (
                f"colours of sampled tiles are off (squared errors: Y {self.y_error:.1f}, Cb {self.cb_error:.1f}, "
                f"Cr {self.cr_error:.1f}; of mean colours {self.drift:.1f}); the codec may not know such images: look "
                "at them, or set --min-psnr"
            )


class SampledSource:
    """A `TileSource` that passes another one's tiles on, and keeps those of the sample.

    Parameters
    ----------
    source
        The source.
    mask
        Which of its tiles hold tissue.
    """

    def __init__(self, source: TileSource, mask: TissueMask) -> None:
        self._source = source
        self._mask = mask
        self.tissue_places = sample_places(mask.tiles, sample_size(sum(int(tiles.sum()) for tiles in mask.tiles)))
        self.glass_places = sample_places([~tiles for tiles in mask.tiles], LEAST_TILES)
        self._wanted = frozenset(self.tissue_places)
        self._kept: dict[Place, NDArray[np.uint8]] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """How messages call the source."""
        return self._source.name

    @property
    def info(self) -> SourceInfo:
        """What is known of the source."""
        return self._source.info

    @property
    def tile_size(self) -> int:
        """Side of a tile in pixels."""
        return self._source.tile_size

    @property
    def levels(self) -> tuple[Level, ...]:
        """The pyramid, finest level first."""
        return self._source.levels

    def tissue(self) -> TissueMask:
        """Which tiles hold tissue."""
        return self._mask

    def read_tile(self, level: int, row: int, col: int) -> NDArray[np.uint8]:
        """One tile of the source, kept if it belongs to the sample."""
        tile = self._source.read_tile(level, row, col)
        if (level, row, col) in self._wanted:
            with self._lock:
                self._kept[level, row, col] = tile
        return tile

    @property
    def damaged(self) -> tuple[Place, ...]:
        """Tiles of the source that could not be read and were marked."""
        return self._source.damaged

    def original(self, place: Place) -> NDArray[np.uint8]:
        """Return a tile (T, T, 3) uint8 of the sample, read now if the encoder did not."""
        return self._kept[place] if place in self._kept else self._source.read_tile(*place)


def sample_size(tissue_tiles: int) -> int:
    """How many of so many tissue tiles are measured."""
    return min(max(tissue_tiles // SHARE, LEAST_TILES), MOST_TILES - LEAST_TILES)


def sample_places(masks: Sequence[NDArray[np.bool_]], count: int) -> list[Place]:
    """Places of about `count` tiles that masks (rows, cols) hold, evenly over each level and of every level."""
    total = sum(int(mask.sum()) for mask in masks)
    places: list[Place] = []
    for level, mask in enumerate(masks):
        found = np.argwhere(mask)
        wanted = min(max(count * len(found) // max(total, 1), 1), len(found))
        middles = (np.arange(wanted) * 2 + 1) * len(found) // (2 * max(wanted, 1))
        places += [(level, int(row), int(col)) for row, col in found[middles]]
    return places[:MOST_TILES]


def measured(source: SampledSource, store: Path, codec: TileCodec) -> Fidelity | None:
    """Decode the sample out of a finished store and compare it with the source; None for a slide without tissue.

    Raises
    ------
    SlideError, StoreError
        If a tissue tile cannot be read, or the store.
    """
    pairs: list[Pair] = []
    glass_pairs: list[Pair] = []
    with StoreReader(store) as reader:
        glass = np.empty((source.tile_size, source.tile_size, 3), np.uint8)
        glass[...] = reader.header.glass_rgb
        for level in range(len(source.levels)):
            places = [place for place in source.tissue_places + source.glass_places if place[0] == level]
            decoded = read_tiles(reader, codec, level, [place[1:] for place in places])
            for place, x_hat in zip(places, decoded, strict=True):
                if x_hat is not None:
                    pairs.append(inside(source, place, x_hat))
                    continue
                with contextlib.suppress(SlideError):  # the store does not need this tile, so it does not fail for it
                    glass_pairs.append(inside(source, place, glass))
    if not pairs:
        return None
    errors = np.mean([ycbcr_squared_error(*pair) for pair in pairs], axis=0)
    return Fidelity(
        tiles=len(pairs),
        psnr_db=mean_psnr_db([psnr_db(*pair) for pair in pairs]),
        ms_ssim=float(np.mean(in_threads(lambda pair: ms_ssim(*pair), pairs))),
        y_error=float(errors[0]),
        cb_error=float(errors[1]),
        cr_error=float(errors[2]),
        drift=float(np.mean([drift(*pair) for pair in pairs])),
        glass_tiles=len(glass_pairs),
        glass_psnr_db=mean_psnr_db([psnr_db(*pair) for pair in glass_pairs]) if glass_pairs else None,
    )


def inside(source: SampledSource, place: Place, x_hat: NDArray[np.uint8]) -> Pair:
    """Return the parts of a tile of the sample and of what it was decoded to that lie on the slide."""
    level, row, col = place
    tile = source.levels[level].grid(source.tile_size).tile(row, col)
    return source.original(place)[: tile.height_px, : tile.width_px], x_hat[: tile.height_px, : tile.width_px]


def drift(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> float:
    """Squared error of the mean colours of cells; a strip thinner than a cell is a cell of its own."""
    difference = x.astype(np.float32) - x_hat
    starts = [np.arange(0, max(side - side % CELL_PX, 1), CELL_PX) for side in x.shape[:2]]
    ends = [np.append(start[1:], side) for start, side in zip(starts, x.shape[:2], strict=True)]
    sums = np.add.reduceat(np.add.reduceat(difference, starts[0], axis=0), starts[1], axis=1)  # (cells, cells, 3)
    pixels = np.multiply.outer(ends[0] - starts[0], ends[1] - starts[1])[..., None]
    return float(np.square(sums / pixels).mean())
