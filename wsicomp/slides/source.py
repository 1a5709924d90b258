"""Defines what the pipeline sees of anything tiled: a slide, a picture, or a sheet of patches."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from wsicomp.geometry import Level
from wsicomp.slides.facts import EncodedLevel

__all__ = ["Source", "SourceInfo", "TileSource", "TissueMask"]


@dataclass(frozen=True)
class SourceInfo:
    """What may be known of a source: numbers and the scanner's make, never its free text.

    Parameters
    ----------
    mpp
        Micrometres per pixel of the pyramid's base, x and y; None where the source does not say.
    objective_power
        Magnification of the objective, such as 20.0; None where the source does not say.
    vendor
        OpenSlide's vendor key, such as "aperio"; None for a source that is not a slide.
    source_bytes
        Size of the source on disk; None where there is no such file.
    icc_profile
        Colour profile of the pixels, its creation date zeroed; None where there is none.
    fingerprint
        64 hexadecimal digits that tell this source from another, by its files' sizes and sampled blocks and by the size
        of level 0, whatever its name; None where there is no such file.
    """

    mpp: tuple[float, float] | None = None
    objective_power: float | None = None
    vendor: str | None = None
    source_bytes: int | None = None
    icc_profile: bytes | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class TissueMask:
    """Which tiles hold anything but glass, level by level, and how that was decided.

    Parameters
    ----------
    tiles
        One boolean array (rows, cols) per level; True is tissue, and False is glass.
    glass_rgb
        Colour that a glass tile is decoded to.
    rule
        How the mask was made, for the record: JSON values under plain keys.
    """

    tiles: tuple[NDArray[np.bool_], ...]
    glass_rgb: tuple[int, int, int] = (255, 255, 255)
    rule: dict[str, str | int | float] = field(default_factory=dict)


class TileSource(Protocol):
    """A pyramid of tiles. `read_tile` may be called from several threads at once."""

    @property
    def name(self) -> str:
        """How messages call this source."""

    @property
    def info(self) -> SourceInfo:
        """What is known of the source."""

    @property
    def tile_size(self) -> int:
        """Side of a tile in pixels."""

    @property
    def levels(self) -> tuple[Level, ...]:
        """The pyramid, finest level first."""

    def tissue(self) -> TissueMask:
        """Which tiles hold tissue."""

    def read_tile(self, level: int, row: int, col: int) -> NDArray[np.uint8]:
        """One tile, (tile_size, tile_size, 3) uint8 RGB; parts outside the image are reflected."""

    @property
    def damaged(self) -> tuple[tuple[int, int, int], ...]:
        """Level, row and column of each tile that was asked for and could not be read; only where these are marked."""


class Source(TileSource, Protocol):
    """A source that holds a file open; a context manager that closes it.

    It gives the file's own encoded tiles too, so that they can be kept without decoding a pixel.
    """

    @property
    def encoded_levels(self) -> tuple[EncodedLevel | None, ...]:
        """Grid of the tiles of each of the file's own levels; None for a level without such streams."""

    def read_encoded_tile(self, level: int, row: int, col: int) -> bytes:
        """Return a tile of one of the file's own levels: a whole JPEG stream, the level's tables joined.

        Raises
        ------
        IndexError
            If there is no such tile.
        SlideError
            If it cannot be read.
        """

    def __enter__(self) -> Self:
        """Return the source itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the source."""

    def close(self) -> None:
        """Close the file; later reads raise SlideError."""
