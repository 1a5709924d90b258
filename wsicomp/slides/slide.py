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
from wsicomp.slides.fingerprint import fingerprint
from wsicomp.slides.icc import anonymous_profile
from wsicomp.slides.native import NativeSlide
from wsicomp.slides.settings import SAME_MPP, SourceSettings
from wsicomp.slides.source import SourceInfo, TissueMask
from wsicomp.slides.tissue import all_tissue, find_tissue

__all__ = ["Slide"]


class Slide:
    """An open slide that satisfies `wsicomp.slides.source.TileSource`; a context manager.

    Parameters
    ----------
    path
        Any file that OpenSlide opens.
    settings
        How it is read.

    Raises
    ------
    ConfigError
        If `mpp` is finer than the slide's, leaves less than one tile, or is asked of a slide that does not say its own.
    SlideError
        If the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], settings: SourceSettings = SourceSettings()) -> None:  # noqa: B008
        self._native = NativeSlide(path, reader=settings.reader)
        self._settings = settings
        self._tissue: TissueMask | None = None
        self._tissue_lock = threading.Lock()
        self._base_downsample = _base_downsample(self._native, settings.mpp)
        _, _, l0_width, l0_height = self._native.bounds_px
        # The small surplus keeps 2220 / 1.9999999999 at 1110.
        width, height = (int(side / self._base_downsample + 1e-6) for side in (l0_width, l0_height))
        if self._base_downsample > 1 and (max(width, height) < settings.tile_size or min(width, height) < 1):
            raise ConfigError(
                f"{self.name}: mpp {settings.mpp} leaves {width} x {height} pixels of the slide, less than one tile of "
                f"{settings.tile_size}; ask for a finer mpp, or for smaller tiles"
            )
        self._levels = pyramid(width, height, settings.tile_size, settings.max_levels)
        profile = self._native.icc_profile
        own = self._native.mpp
        self._info = SourceInfo(
            mpp=(own[0] * self._base_downsample, own[1] * self._base_downsample) if own else None,
            objective_power=self._native.objective_power,
            vendor=self._native.vendor,
            source_bytes=self._native.source_bytes,
            icc_profile=anonymous_profile(profile) if profile else None,
            fingerprint=fingerprint(self.name, *self._native.level_sizes[0]),
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
        return self._settings.tile_size

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
                grids = [level.grid(self._settings.tile_size) for level in self._levels]
                if self._settings.tissue_only:
                    self._tissue = find_tissue(
                        self._native, grids, self._base_downsample, self._settings.tissue_threshold
                    )
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
        size = self._settings.tile_size
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
