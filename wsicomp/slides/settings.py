"""Says how a slide is read: resolution, tiles, what counts as tissue, which reader, and what damage means.

What this does not do: it opens no file. `wsicomp.slides.open_source` checks whether a setting fits a slide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from wsicomp.errors import ConfigError

__all__ = [
    "DEFAULT_TISSUE_THRESHOLD",
    "SAME_MPP",
    "OnDamage",
    "Reader",
    "SourceSettings",
]

Reader = Literal["auto", "openslide", "tiff"]
"""How pixels are read: by OpenSlide, straight from a TIFF's JPEG tiles, or by whichever is faster and fits."""

OnDamage = Literal["refuse", "mark"]
"""What becomes of a tile that cannot be read."""

DEFAULT_TISSUE_THRESHOLD = 10
"""Grey levels. Overview cells of bare glass on a real slide, JPEG quality 30, stay within 7 of its colour: 8 is the
least that finds all of that glass. 10 leaves some room for uneven light and no more: what it swallows is lost."""

SAME_MPP = 0.01
"""Relative difference under which two resolutions count as one: a scanner's own calibration is no better."""


@dataclass(frozen=True)
class SourceSettings:
    """How a slide is read; the same for every slide of a batch.

    Parameters
    ----------
    mpp
        Micrometres per pixel of the pyramid's base; the slide is area-downsampled to it. A native level within 1 % of
        it is taken as it is (`SourceInfo.mpp` then says that level's own). None keeps the slide's resolution.
    tile_size
        Side of a tile in pixels, at least 1.
    max_levels
        Keep at most this many levels, at least 1; None keeps all.
    tissue_only
        Whether glass is looked for; if not, every tile is tissue.
    tissue_threshold
        Grey levels by which anything in a tile may depart from the glass colour before the tile is tissue, 0 to 255.
    reader
        "openslide", "tiff" for a TIFF's own JPEG tiles, or "auto" for the faster of the two that fits; all give the
        same pixels, within a JPEG decoder's rounding.
    on_damage
        What becomes of a tile that cannot be read: "refuse" is an error, and with "mark" it is a plain tile of
        `wsicomp.slides.slide.DAMAGED_RGB`, which the source lists.

    Raises
    ------
    ConfigError
        If a setting is out of range.
    """

    mpp: float | None = None
    tile_size: int = 256
    max_levels: int | None = None
    tissue_only: bool = True
    tissue_threshold: int = DEFAULT_TISSUE_THRESHOLD
    reader: Reader = "auto"
    on_damage: OnDamage = "refuse"

    def __post_init__(self) -> None:
        if self.mpp is not None and not (math.isfinite(self.mpp) and self.mpp > 0):
            raise ConfigError(f"mpp is a positive number of micrometres per pixel, not {self.mpp}")
        if self.tile_size < 1:
            raise ConfigError(f"a tile is at least 1 px wide, not {self.tile_size}; 256 is usual")
        if self.max_levels is not None and self.max_levels < 1:
            raise ConfigError(f"a pyramid has at least 1 level, not {self.max_levels}")
        if not 0 <= self.tissue_threshold <= 255:
            raise ConfigError(f"the tissue threshold is in grey levels from 0 to 255, not {self.tissue_threshold}")
        if self.reader not in get_args(Reader):
            raise ConfigError(f"reader {self.reader} is unknown; use auto, openslide or tiff")
        if self.on_damage not in get_args(OnDamage):
            raise ConfigError(f"a damaged tile is one to refuse or to mark; {self.on_damage} is unknown")
