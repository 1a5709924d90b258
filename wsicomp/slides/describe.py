"""Describes a slide file in numbers: the content of `wsicomp info SLIDE`.

What this does not do: it reads no pixels, and passes on no free text. Associated images are named only where the name
is one of OpenSlide's customary ones, since some formats take it from the file's own text; properties are only counted.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass

from wsicomp.slides.process import ReaderProcess

__all__ = ["NativeLevel", "SlideDescription", "describe"]


@dataclass(frozen=True)
class NativeLevel:
    """One level that the file itself holds: its size in pixels, and level-0 pixels per pixel."""

    width_px: int
    height_px: int
    downsample: float


@dataclass(frozen=True)
class SlideDescription:
    """What may be said of a slide file.

    Parameters
    ----------
    path
        The file, as the user named it.
    vendor
        OpenSlide's key of the format, such as "aperio"; None for a plain picture.
    width_px, height_px
        Size of level 0.
    levels
        Levels of the file, finest first.
    mpp
        Micrometres per level-0 pixel, x and y; None where the file does not say.
    objective_power
        Magnification of the objective; None where the file does not say.
    bounds_px
        x, y, width and height of the scanned part of level 0; None where the file does not say.
    source_bytes
        Size on disk; None where the slide is spread over files that the named one does not enumerate.
    has_icc_profile
        Whether the file holds a colour profile.
    associated_images
        Which of label, macro and thumbnail the file holds. They are never read.
    other_associated_images
        How many associated images of other names it holds.
    properties
        How many properties OpenSlide lists; most are free text and are withheld.
    """

    path: str
    vendor: str | None
    width_px: int
    height_px: int
    levels: tuple[NativeLevel, ...]
    mpp: tuple[float, float] | None
    objective_power: float | None
    bounds_px: tuple[int, int, int, int] | None
    source_bytes: int | None
    has_icc_profile: bool
    associated_images: tuple[str, ...]
    other_associated_images: int
    properties: int

    def to_json(self) -> dict[str, object]:
        """Fields under their own names, as plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def describe(path: str | os.PathLike[str]) -> SlideDescription:
    """Describe a slide file.

    Parameters
    ----------
    path
        Any file that OpenSlide opens.

    Raises
    ------
    SlideError
        If the file cannot be opened.
    """
    slide = ReaderProcess(path, reader="openslide")
    slide.close()
    facts = slide.facts
    width, height = facts.level_sizes[0]
    return SlideDescription(
        path=slide.name,
        vendor=facts.vendor,
        width_px=width,
        height_px=height,
        levels=tuple(
            NativeLevel(*size, downsample)
            for size, downsample in zip(facts.level_sizes, facts.downsamples, strict=True)
        ),
        mpp=facts.mpp,
        objective_power=facts.objective_power,
        bounds_px=facts.bounds_px if facts.has_bounds else None,
        source_bytes=facts.source_bytes,
        has_icc_profile=facts.has_icc_profile,
        associated_images=facts.associated_images,
        other_associated_images=facts.other_associated_images,
        properties=facts.properties,
    )
