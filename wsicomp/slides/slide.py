"""A slide as a pyramid of tiles, whatever levels its file happens to hold.

    native level, the coarsest that is fine enough -> mean of whole or fractional cells -> tile, reflected past the edge

The base of the pyramid is the scanned part of the slide at its own resolution, or at the `mpp` asked for. Level k is
the base downsampled 4**k times; its pixels come from the file's own levels where these are fine enough.

What it does not do: it never enlarges, never converts colours and never reads labels, macro images or free text. A
damaged file can abort the process inside the C library; `wsicomp.slides.probe` finds that out in a child process.
"""

from __future__ import annotations

import math
import os
import threading
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from wsicomp.errors import ConfigError
from wsicomp.geometry import LEVEL_STEP, Level, pyramid
from wsicomp.slides.icc import anonymous_profile
from wsicomp.slides.native import NativeSlide, Reader
from wsicomp.slides.source import SourceInfo, TissueMask
from wsicomp.slides.tissue import DEFAULT_TISSUE_THRESHOLD, all_tissue, find_tissue

__all__ = ["Slide"]

SAME_MPP = 0.01
"""Relative difference under which two resolutions count as one: a scanner's own calibration is no better."""


class Slide:
    """An open slide that satisfies `wsicomp.slides.source.TileSource`; a context manager.

    Parameters
    ----------
    path
        Any file that OpenSlide opens.
    mpp
        Micrometres per pixel of the pyramid's base; the slide is area-downsampled to it. A native level within 1 % of
        it is taken as it is (`info.mpp` then says that level's own). None keeps the slide's resolution.
    tile_size
        Side of a tile in pixels.
    max_levels
        Keep at most this many levels, at least 1; None keeps all.
    tissue_only
        Whether `tissue` looks for glass; if not, every tile is tissue.
    tissue_threshold
        Grey levels by which anything in a tile may depart from the glass colour before the tile is tissue, 0 to 255.
    reader
        "openslide", "tiff" for a TIFF's own JPEG tiles, or "auto" for the faster of the two that fits; all give the
        same pixels, within a JPEG decoder's rounding.

    Raises
    ------
    ConfigError
        If a setting is out of range, or `mpp` is finer than the slide's or asked of a slide that does not say its own.
    SlideError
        If the file cannot be opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mpp: float | None = None,
        tile_size: int = 256,
        max_levels: int | None = None,
        tissue_only: bool = True,
        tissue_threshold: int = DEFAULT_TISSUE_THRESHOLD,
        reader: Reader = "auto",
    ) -> None:
        if tile_size < 1:
            raise ConfigError(f"a tile is at least 1 px wide, not {tile_size}; 256 is usual")
        if max_levels is not None and max_levels < 1:
            raise ConfigError(f"a pyramid has at least 1 level, not {max_levels}")
        if not 0 <= tissue_threshold <= 255:
            raise ConfigError(f"the tissue threshold is in grey levels from 0 to 255, not {tissue_threshold}")
        self._native = NativeSlide(path, reader=reader)
        self._tile_size = tile_size
        self._tissue_only = tissue_only
        self._tissue_threshold = tissue_threshold
        self._tissue: TissueMask | None = None
        self._tissue_lock = threading.Lock()
        self._base_downsample = _base_downsample(self._native, mpp)
        _, _, l0_width, l0_height = self._native.bounds_px
        # The small surplus keeps 2220 / 1.9999999999 at 1110.
        width, height = (int(side / self._base_downsample + 1e-6) for side in (l0_width, l0_height))
        if min(width, height) < 1:
            raise ConfigError(f"{self.name}: mpp {mpp} leaves less than one pixel of the slide; ask for a finer one")
        self._levels = pyramid(width, height, tile_size, max_levels)
        profile = self._native.icc_profile
        own = self._native.mpp
        self._info = SourceInfo(
            mpp=(own[0] * self._base_downsample, own[1] * self._base_downsample) if own else None,
            objective_power=self._native.objective_power,
            vendor=self._native.vendor,
            source_bytes=self._native.source_bytes,
            icc_profile=anonymous_profile(profile) if profile else None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; later reads raise SlideError."""
        self._native.close()

    @property
    def name(self) -> str:
        """The path as the user gave it; for messages, never for a store."""
        return self._native.name

    @property
    def info(self) -> SourceInfo:
        """What is known of the slide; its mpp is that of the pyramid's base."""
        return self._info

    @property
    def tile_size(self) -> int:
        """Side of a tile in pixels."""
        return self._tile_size

    @property
    def levels(self) -> tuple[Level, ...]:
        """The pyramid, finest level first."""
        return self._levels

    def tissue(self) -> TissueMask:
        """Which tiles hold tissue; looked for once, on the first call.

        Raises
        ------
        SlideError
            If the slide cannot be read.
        """
        with self._tissue_lock:
            if self._tissue is None:
                grids = [level.grid(self._tile_size) for level in self._levels]
                if self._tissue_only:
                    self._tissue = find_tissue(self._native, grids, self._base_downsample, self._tissue_threshold)
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
            If the slide cannot be read there.
        """
        if not 0 <= level < len(self._levels):
            raise IndexError(f"no level {level} in a pyramid of {len(self._levels)}")
        size = self._tile_size
        tile = self._levels[level].grid(size).tile(row, col)
        downsample = self._base_downsample * LEVEL_STEP**level
        # Native downsamples are rarely whole (4.00012). They are taken as such where that moves no pixel of a tile by
        # more than half a pixel.
        tolerance = 0.5 / max(size, 256)
        native = self._native.level_for(downsample, tolerance)
        step = downsample / self._native.downsamples[native]
        l0_x, l0_y, _, _ = self._native.bounds_px
        x = l0_x / self._native.downsamples[native] + tile.x_px * step
        y = l0_y / self._native.downsamples[native] + tile.y_px * step
        whole = max(round(step), 1)
        if abs(step / whole - 1) <= tolerance:
            step, (x, y) = whole, self._whole_corner(native, x, y, whole, tile.width_px, tile.height_px)
        what = f"level {level} tile ({row}, {col})"
        cells = self._native.read_cells(native, x, y, step, tile.width_px, tile.height_px, what)[..., :3]
        padding = ((0, size - tile.height_px), (0, size - tile.width_px), (0, 0))
        return np.ascontiguousarray(np.pad(cells, padding, mode="reflect"))

    def _whole_corner(self, native: int, x: float, y: float, step: int, width: int, height: int) -> tuple[int, int]:
        """Nearest pixel to (x, y) from which the tile does not run over the right or lower end of the native level."""
        level_width, level_height = self._native.level_sizes[native]
        return (
            max(min(round(x), level_width - step * width), 0),
            max(min(round(y), level_height - step * height), 0),
        )


def _base_downsample(native: NativeSlide, mpp: float | None) -> float:
    """Level-0 pixels per pixel of the pyramid's base."""
    if mpp is None:
        return 1.0
    if not (math.isfinite(mpp) and mpp > 0):
        raise ConfigError(f"mpp is a positive number of micrometres per pixel, not {mpp}")
    if native.mpp is None:
        raise ConfigError(
            f"{native.name}: the slide does not say its micrometres per pixel, so mpp {mpp} has no meaning on it; "
            "leave mpp out to take its pixels as they are"
        )
    own = math.sqrt(native.mpp[0] * native.mpp[1])
    wanted = mpp / own
    for downsample in native.downsamples:
        if abs(wanted / downsample - 1) <= SAME_MPP:
            return downsample
    if wanted < 1:
        raise ConfigError(
            f"{native.name}: mpp {mpp} is finer than the slide, which has {own:.4g}; ask for {own:.4g} or coarser"
        )
    return wanted
