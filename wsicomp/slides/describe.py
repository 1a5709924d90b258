"""Describes a slide file in numbers: the content of `wsicomp info SLIDE`.

What this does not do: it reads no pixels, and passes on no free text. Associated images are named only where the name
is one of OpenSlide's customary ones, since some formats take it from the file's own text; properties are only counted.
"""

from __future__ import annotations

import os
from typing import Any

from wsicomp.slides.process import ReaderProcess

__all__ = ["describe"]


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe a slide file.

    Parameters
    ----------
    path
        Any file that OpenSlide opens.

    Returns
    -------
    dict
        JSON values: `path` as the user named it, `width_px` and `height_px` of level 0, and `levels` that the file
        holds, finest first, each with `width_px`, `height_px` and `downsample` in level-0 pixels per pixel.
        `bounds_px` is None where the file does not say which part was scanned. The rest is as in
        `wsicomp.slides.facts.SlideFacts`.

    Raises
    ------
    SlideError
        If the file cannot be opened.
    """
    slide = ReaderProcess(path, reader="openslide")
    slide.close()
    facts = slide.facts
    width, height = facts.level_sizes[0]
    return {
        "path": slide.name,
        "vendor": facts.vendor,
        "width_px": width,
        "height_px": height,
        "levels": [
            {"width_px": own_width, "height_px": own_height, "downsample": downsample}
            for (own_width, own_height), downsample in zip(facts.level_sizes, facts.downsamples, strict=True)
        ],
        "mpp": facts.mpp and list(facts.mpp),
        "objective_power": facts.objective_power,
        "bounds_px": list(facts.bounds_px) if facts.has_bounds else None,
        "source_bytes": facts.source_bytes,
        "has_icc_profile": facts.has_icc_profile,
        "associated_images": list(facts.associated_images),
        "other_associated_images": facts.other_associated_images,
        "properties": facts.properties,
    }
