"""Shows a slide as a pyramid of tiles, whatever levels its file happens to hold.

    native level, the coarsest that is fine enough -> mean of whole or fractional cells -> tile, reflected past the edge

The base of the pyramid is the scanned part of the slide at its own resolution, or at the `mpp` asked for. Level k is
the base downsampled 4**k times; its pixels come from the file's own levels where these are fine enough.

A tile that cannot be read is an error, or, where the settings say so, a plain tile of `DAMAGED_RGB` that is listed.

What this does not do: it never enlarges, never converts colours and never reads labels, macro images or free text. It
opens no file; `wsicomp.slides.open_source` does.
"""

from __future__ import annotations

import math
import threading
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from wsicomp.errors import ConfigError, SlideDamaged, SlideError
from wsicomp.geometry import LEVEL_STEP, pyramid
from wsicomp.slides.cells import Native, read_cells
from wsicomp.slides.facts import SlideFacts
from wsicomp.slides.settings import SAME_MPP, SourceSettings
from wsicomp.slides.source import SourceInfo, TissueMask
from wsicomp.slides.tissue import all_tissue, find_tissue

__all__ = ["DAMAGED_RGB", "Slide"]


DAMAGED_RGB = (255, 0, 255)
"""Colour of a tile that cannot be read: no stain and no glass has it."""

MAX_TILES = 2**24
"""Tiles of the finest level, 1.1 terapixels at 256 px: the largest slides have a hundredth of it."""


class Slide:
    """An open slide that satisfies `wsicomp.slides.source.Source`; its name, the user's path, is for messages only.

    Parameters
    ----------
    native
        The open file; closed together with the slide.
    settings
        How it is read.

    Raises
    ------
    ConfigError
        If `mpp` is finer than the slide's, leaves less than one tile, or is asked of a slide that does not say its own.
    SlideError
        If the slide claims to have more tiles than memory for a mask of them.
    """

    def __init__(self, native: Native, settings: SourceSettings) -> None:
        self.name = native.name
        self.tile_size = settings.tile_size
        self.encoded_levels = native.facts.encoded_levels
        self._native = native
        self._facts = native.facts
        self._damaged: set[tuple[int, int, int]] = set()
        self._settings = settings
        self._tissue: TissueMask | None = None
        self._tissue_lock = threading.Lock()
        self._base_downsample = _base_downsample(native.name, self._facts, settings.mpp)
        _, _, l0_width, l0_height = self._facts.bounds_px
        # The small surplus keeps 2220 / 1.9999999999 at 1110.
        width, height = (int(side / self._base_downsample + 1e-6) for side in (l0_width, l0_height))
        if self._base_downsample > 1 and (max(width, height) < settings.tile_size or min(width, height) < 1):
            raise ConfigError(
                f"{self.name}: mpp {settings.mpp} leaves {width} x {height} pixels of the slide, less than one tile of "
                f"{settings.tile_size}; ask for a finer mpp, or for smaller tiles"
            )
        self.levels = pyramid(width, height, settings.tile_size, settings.max_levels)
        tiles = len(self.levels[0].grid(settings.tile_size))
        if tiles > MAX_TILES:
            raise SlideError(
                f"{self.name}: is of {width} x {height} pixels by its own account, {tiles} tiles and more than the "
                f"{MAX_TILES} that are read; the file is damaged, or the tiles are too small"
            )
        own = self._facts.mpp
        self.info = SourceInfo(
            mpp=(own[0] * self._base_downsample, own[1] * self._base_downsample) if own else None,
            objective_power=self._facts.objective_power,
            vendor=self._facts.vendor,
            source_bytes=self._facts.source_bytes,
            icc_profile=self._facts.icc_profile,
            fingerprint=self._facts.fingerprint,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; later reads raise SlideError."""
        self._native.close()

    @property
    def damaged(self) -> tuple[tuple[int, int, int], ...]:
        """Level, row and column of each tile that was asked for and could not be read; only where these are marked."""
        return tuple(sorted(self._damaged))

    def read_encoded_tile(self, level: int, row: int, col: int) -> bytes:
        """Return a tile of a native level as the file holds it: a whole JPEG stream, the level's tables joined.

        Raises
        ------
        IndexError
            If there is no such tile.
        SlideError
            If it is missing, damaged at its start, or the slide is closed.
        """
        grid = self.encoded_levels[level]
        if grid is None or not (0 <= row < grid.rows and 0 <= col < grid.cols):
            raise IndexError(f"no encoded tile ({row}, {col}) on native level {level}")
        return self._native.read_encoded(level, row, col)

    def tissue(self) -> TissueMask:
        """Which tiles hold tissue; looked for once, on the first call.

        Raises
        ------
        SlideError
            If the slide cannot be read.
        """
        with self._tissue_lock:
            if self._tissue is None:
                grids = [level.grid(self.tile_size) for level in self.levels]
                if self._settings.tissue_only:
                    native = _Marked(self._native) if self._settings.on_damage == "mark" else self._native
                    self._tissue = find_tissue(native, grids, self._base_downsample, self._settings.tissue_threshold)
                else:
                    self._tissue = all_tissue(grids, {"method": "all-tiles"})
            return self._tissue

    def read_tile(self, level: int, row: int, col: int) -> NDArray[np.uint8]:
        """One tile, (tile_size, tile_size, 3) uint8 RGB; parts outside the image are reflected.

        Raises
        ------
        IndexError
            If there is no such tile.
        SlideError
            If the slide cannot be read there and damage is refused, or the slide is closed.
        """
        if not 0 <= level < len(self.levels):
            raise IndexError(f"no level {level} in a pyramid of {len(self.levels)}")
        size = self.tile_size
        tile = self.levels[level].grid(size).tile(row, col)
        downsample = self._base_downsample * LEVEL_STEP**level
        # Native downsamples are rarely whole (4.00012). They are taken as such where that moves no pixel of a tile by
        # more than half a pixel.
        tolerance = 0.5 / max(size, 256)
        native = self._facts.level_for(downsample, tolerance)
        step = downsample / self._facts.downsamples[native]
        l0_x, l0_y, _, _ = self._facts.bounds_px
        x = l0_x / self._facts.downsamples[native] + tile.x_px * step
        y = l0_y / self._facts.downsamples[native] + tile.y_px * step
        whole = max(round(step), 1)
        if abs(step / whole - 1) <= tolerance:
            step, (x, y) = whole, self._whole_corner(native, x, y, whole, tile.width_px, tile.height_px)
        what = f"level {level} tile ({row}, {col})"
        try:
            cells = read_cells(self._native, native, x, y, step, tile.width_px, tile.height_px, what)[..., :3]
        except SlideDamaged:
            if self._settings.on_damage == "refuse":
                raise
            self._damaged.add((level, row, col))
            return np.full((size, size, 3), DAMAGED_RGB, np.uint8)
        padding = ((0, size - tile.height_px), (0, size - tile.width_px), (0, 0))
        return np.ascontiguousarray(np.pad(cells, padding, mode="reflect"))

    def _whole_corner(self, native: int, x: float, y: float, step: int, width: int, height: int) -> tuple[int, int]:
        """Nearest pixel to (x, y) from which the tile does not run over the right or lower end of the native level."""
        level_width, level_height = self._facts.level_sizes[native]
        return (
            max(min(round(x), level_width - step * width), 0),
            max(min(round(y), level_height - step * height), 0),
        )


class _Marked:
    """An open slide that shows `DAMAGED_RGB`, which is never glass, where a block cannot be read."""

    def __init__(self, native: Native) -> None:
        self.name = native.name
        self.facts = native.facts
        self.close = native.close
        self.read_encoded = native.read_encoded
        self._native = native

    def read_block(
        self, level: int, x: float, y: float, step: float, rows: range, cols: range, what: str
    ) -> NDArray[np.uint8]:
        try:
            return self._native.read_block(level, x, y, step, rows, cols, what)
        except SlideDamaged:
            return np.full((len(rows), len(cols), 4), (*DAMAGED_RGB, 255), np.uint8)


def _base_downsample(name: str, facts: SlideFacts, mpp: float | None) -> float:
    """Level-0 pixels per pixel of the pyramid's base."""
    if mpp is None:
        return 1.0
    if facts.mpp is None:
        raise ConfigError(
            f"{name}: the slide does not say its micrometres per pixel, so mpp {mpp} has no meaning on it; "
            "leave mpp out to take its pixels as they are"
        )
    own = math.sqrt(facts.mpp[0] * facts.mpp[1])
    wanted = mpp / own
    for downsample in facts.downsamples:
        if abs(wanted / downsample - 1) <= SAME_MPP:
            return downsample
    if wanted < 1:
        raise ConfigError(
            f"{name}: mpp {mpp} is finer than the slide, which has {own:.4g}; ask for {own:.4g} or coarser"
        )
    return wanted
