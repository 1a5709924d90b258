"""Row of cost against size: seconds of CPU that encoding takes on slides of 1, 2, 4, 8 and 16 times the area."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

from benchmarks.pipeline.stages import Bench, all_places, encode_whole
from benchmarks.pipeline.timing import Row, Target, exponent, interleaved, timed
from wsicomp.slides import open_source

__all__ = ["cost_rows"]


def cost_rows(bench: Bench, slides: Mapping[int, Path]) -> list[Row]:
    """Fit the exponent of CPU seconds over area.

    Parameters
    ----------
    slides
        Slides by their area, in units of the smallest.
    """
    store = bench.scratch / "cost.zarr"
    cases = {
        str(area): timed(lambda path=path: encode_whole(bench, path, store))  # type: ignore[misc]
        for area, path in slides.items()
    }
    seconds = {name: [each.cpu for each in rounds] for name, rounds in interleaved(cases, bench.rounds).items()}
    areas = list(slides)
    each = {}
    for area, path in slides.items():
        with open_source(path) as slide:
            each[f"area_{area}_cpu_ms_per_tile"] = 1e3 * statistics.median(seconds[str(area)]) / len(all_places(slide))
    fitted = [exponent(areas, [seconds[str(area)][k] for area in areas]) for k in range(bench.rounds)]
    return [
        Row(
            "cost-against-size",
            "encode, CPU time: exponent of its growth",
            "area of the slide, 1 to 16",
            tuple(fitted),
            Target(0.95, 1.05),
            each,
        )
    ]
