"""Holds what is known of a slide file once it is open, and turns it into JSON and back.

    reader process: SlideFacts -> JSON -> SlideFacts: the process that asked

What this does not hold: no free text of the file, no path, no date.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

__all__ = ["EncodedLevel", "SlideFacts"]


@dataclass(frozen=True)
class EncodedLevel:
    """Grid of a native level whose encoded tiles can be read: rows, columns, and the sides of a tile in pixels."""

    rows: int
    cols: int
    tile_width_px: int
    tile_height_px: int


@dataclass(frozen=True)
class SlideFacts:
    """Facts of an open slide file.

    Parameters
    ----------
    vendor
        OpenSlide's key of the format, such as "aperio"; None for a plain picture.
    level_sizes
        Width and height of each native level in pixels, finest first.
    downsamples
        Level-0 pixels per pixel of each native level; whole wherever the level's size agrees with that.
    bounds_px
        x, y, width and height of the part of level 0 that was scanned; all of it where the slide does not say.
    has_bounds
        Whether the slide gives its bounds.
    mpp
        Micrometres per level-0 pixel, x and y; None where the slide does not say.
    objective_power
        Magnification of the objective; None where the slide does not say.
    has_icc_profile, icc_profile
        Whether the file holds a colour profile, and the profile without texts and dates, if it is one of RGB.
    associated_images, other_associated_images
        Which of label, macro and thumbnail the file holds, and how many images of other names.
    properties
        How many properties OpenSlide lists.
    source_bytes
        Size on disk; None where the slide is spread over files that the named one does not enumerate.
    fingerprint
        64 hexadecimal digits, as `wsicomp.slides.fingerprint` computes them.
    encoded_levels
        For each native level the grid of its JPEG tiles, or None where their streams cannot be read.
    """

    vendor: str | None
    level_sizes: tuple[tuple[int, int], ...]
    downsamples: tuple[float, ...]
    bounds_px: tuple[int, int, int, int]
    has_bounds: bool
    mpp: tuple[float, float] | None
    objective_power: float | None
    has_icc_profile: bool
    icc_profile: bytes | None
    associated_images: tuple[str, ...]
    other_associated_images: int
    properties: int
    source_bytes: int | None
    fingerprint: str
    encoded_levels: tuple[EncodedLevel | None, ...]

    def level_for(self, downsample: float, tolerance: float) -> int:
        """Coarsest native level that is not coarser than `downsample`, up to a relative `tolerance`."""
        fine = [n for n, native in enumerate(self.downsamples) if native <= downsample * (1 + tolerance)]
        return max(fine, key=lambda n: self.downsamples[n], default=0)

    def to_json(self) -> str:
        """Facts as one line of JSON."""
        profile = self.icc_profile
        return json.dumps({**asdict(self), "icc_profile": profile and base64.b64encode(profile).decode()})

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Facts out of what `to_json` made.

        Raises
        ------
        ValueError
            If it is something else.
        """
        values: dict[str, Any] = json.loads(text)
        if set(values) != {field.name for field in fields(cls)}:
            raise ValueError("the fields are not those of a slide's facts")
        levels = values.pop("encoded_levels")
        profile = values.pop("icc_profile")
        return cls(
            **{key: _tuple(value) for key, value in values.items()},
            icc_profile=profile and base64.b64decode(profile, validate=True),
            encoded_levels=tuple(level and EncodedLevel(**level) for level in levels),
        )


def _tuple(value: Any) -> Any:
    """Turn lists into tuples, all the way down: JSON knows lists alone."""
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value
