"""A store held against the slide that it was made of: every tile of every level, tissue and glass.

    store, slide --> tissue tiles, decoded --> PSNR, SSIM, MS-SSIM, and whether the store's floor is kept
                 --> glass tiles, one colour --> PSNR, and the 16 px block that lies furthest from that colour

A glass tile is shown in one colour, so what it hides is looked for: a block of 16 x 16 px whose mean differs from the
colour by more than 20 grey levels in any channel. Means of blocks leave out a scanner's noise; the limit is twice the
departure from glass that the tissue mask looks for by default, in cells no larger. Bare glass of a public Aperio slide
stays within 8. This module does NOT check bytes: `store.verify` does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicomp.errors import ConfigError
from wsicomp.evaluation.fidelity import Fidelity, measure
from wsicomp.geometry import Level
from wsicomp.metrics.distortion import mean_psnr_db, psnr_db
from wsicomp.pipeline.view import LatentSlide
from wsicomp.progress import Progress, silent
from wsicomp.slides import SourceSettings, open_source
from wsicomp.slides.source import Source, TileSource
from wsicomp.store.schema import StoreHeader

__all__ = ["GLASS_LIMIT", "LevelFidelity", "compare", "open_original"]

GLASS_LIMIT = 20
"""Grey levels by which the mean of a block may differ from the glass colour that is shown, in any channel."""

BLOCK_PX = 16

SLACK_DB, SLACK_MS_SSIM = 0.01, 1e-4
"""What another kind of machine may round away of a tile's PSNR and MS-SSIM; a floor counts as kept within these."""


@dataclass(frozen=True)
class LevelFidelity:
    """What a store shows of one level, each tile cropped at the slide's edge.

    Parameters
    ----------
    level
        Index of the level.
    tiles
        How many tissue tiles there are.
    psnr_db, ssim, ms_ssim
        Means over the tissue tiles; an unchanged tile counts as 100 dB. None where there are none.
    glass_tiles
        How many glass tiles there are.
    glass_psnr_db
        Mean PSNR of the glass tiles against the one colour that is shown; None where there are none.
    glass_departure
        Largest difference between a block's mean and that colour, in grey levels; None where there is no glass.
    glass_differs
        Row, column and grey levels of each glass tile with a block beyond `GLASS_LIMIT`.
    below_floor
        Row, column, PSNR and MS-SSIM of each tile below the store's floor; of a glass tile only the PSNR counts.
    """

    level: int
    tiles: int
    psnr_db: float | None
    ssim: float | None
    ms_ssim: float | None
    glass_tiles: int
    glass_psnr_db: float | None
    glass_departure: float | None
    glass_differs: list[dict[str, Any]]
    below_floor: list[dict[str, Any]]


def open_original(header: StoreHeader, path: Path) -> Source:
    """Open the slide that a store was made of, at the store's resolution and tile size.

    Raises
    ------
    ConfigError
        If it is another slide, by its fingerprint or, for a store without one, by its resolution.
    SlideError
        If it cannot be read.
    """
    with open_source(path) as source:
        found = source.info.fingerprint
    if None not in (found, header.source_fingerprint) and found != header.source_fingerprint:
        raise ConfigError(f"{path}: is another slide than the one this store was made of; give that one")
    mpp = math.sqrt(math.prod(header.mpp)) if header.mpp is not None else None
    try:
        return open_source(path, SourceSettings(mpp=mpp, tile_size=header.tile_size))
    except ConfigError as error:
        raise ConfigError(
            f"{path}: is not the slide of this store, whose {mpp:g} um per pixel it cannot be read at; give that one"
        ) from error


def compare(slide: LatentSlide, source: TileSource, *, progress: Progress = silent) -> list[LevelFidelity]:
    """Measure what a store lost of its source, level by level, over all of its pixels.

    Parameters
    ----------
    slide
        The store.
    source
        The slide that it was encoded from, opened at the store's resolution and tile size.

    Raises
    ------
    ConfigError
        If the sizes say that this is not the slide of the store.
    SlideError
        If a tile cannot be read.
    """
    header = slide.header
    if source.levels[: len(header.levels)] != header.levels:
        raise ConfigError(
            f"{source.name}: is {source.levels[0].width_px} x {source.levels[0].height_px} pixels and the store "
            f"{header.levels[0].width_px} x {header.levels[0].height_px}; it is not the slide of this store"
        )
    grids = [level.grid(header.tile_size) for level in header.levels]
    done, total = 0, sum(grid.rows * grid.cols for grid in grids)
    results = []
    for level in header.levels:
        found = _Level(level, slide)
        for tile, pixels in slide.decode_tiles(level.index, level.grid(header.tile_size)):
            inside = (slice(tile.height_px), slice(tile.width_px))
            x = source.read_tile(level.index, tile.row, tile.col)[inside]
            found.add(tile.row, tile.col, x, pixels[inside])
            done += 1
            progress(done, total)
        results.append(found.summary())
    return results


class _Level:
    """Gathers a level's tiles."""

    def __init__(self, level: Level, slide: LatentSlide) -> None:
        self._index = level.index
        self._mask = slide.reader.tissue(level.index)
        floor = slide.header.floor or {}
        self._least_db = float(floor.get("min_psnr_db", -math.inf)) - SLACK_DB
        self._least_ms_ssim = float(floor.get("min_ms_ssim", -math.inf)) - SLACK_MS_SSIM
        self._tissue: list[Fidelity] = []
        self._glass_db: list[float] = []
        self._departures: list[float] = []
        self._differs: list[dict[str, Any]] = []
        self._below: list[dict[str, Any]] = []

    def add(self, row: int, col: int, x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> None:
        """Compare a tile (h, w, 3) with what the store shows."""
        if self._mask[row, col]:
            fidelity = measure(x[None], x_hat[None])  # (h, w, 3) -> (1, h, w, 3)
            self._tissue.append(fidelity)
            db, ms_ssim = float(fidelity.psnr_db[0]), float(fidelity.ms_ssim[0])
            if db < self._least_db or ms_ssim < self._least_ms_ssim:
                self._below.append({"row": row, "col": col, "psnr_db": db, "ms_ssim": ms_ssim})
            return
        db, departure = psnr_db(x, x_hat), block_departure(x, x_hat)
        self._glass_db.append(db)
        self._departures.append(departure)
        if departure > GLASS_LIMIT:
            self._differs.append({"row": row, "col": col, "grey_levels": departure})
        if db < self._least_db:
            self._below.append({"row": row, "col": col, "psnr_db": db, "ms_ssim": None})

    def summary(self) -> LevelFidelity:
        """Means over what was added."""

        def mean(name: str) -> float | None:
            values = [getattr(fidelity, name)[0] for fidelity in self._tissue]
            if not values:
                return None
            return mean_psnr_db(values) if name == "psnr_db" else float(np.mean(values))

        return LevelFidelity(
            level=self._index,
            tiles=len(self._tissue),
            psnr_db=mean("psnr_db"),
            ssim=mean("ssim"),
            ms_ssim=mean("ms_ssim"),
            glass_tiles=len(self._glass_db),
            glass_psnr_db=mean_psnr_db(self._glass_db) if self._glass_db else None,
            glass_departure=max(self._departures, default=None),
            glass_differs=self._differs,
            below_floor=self._below,
        )


def block_departure(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> float:
    """Largest difference between the means of a block of 16 px, in any channel, in grey levels.

    Parameters
    ----------
    x, x_hat
        (h, w, 3) uint8; blocks at the right and the bottom may be smaller.
    """
    rows, cols = (np.arange(0, side, BLOCK_PX) for side in x.shape[:2])
    difference = x.astype(np.int32) - x_hat
    sums = np.add.reduceat(np.add.reduceat(difference, rows, axis=0), cols, axis=1)  # (h / 16, w / 16, 3)
    heights, widths = (np.diff(starts, append=side) for starts, side in zip((rows, cols), x.shape[:2], strict=True))
    return float(np.abs(sums / (heights[:, None] * widths)[..., None]).max())
