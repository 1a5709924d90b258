"""Rows of decoding: a whole store beside JPEG XL, and random regions beside OpenSlide on the original.

A region is 256 x 256 px at any pixel of the tissue, so it touches up to four tiles; both read the same regions.

    first    the store, or the slide, is opened for each region
    cold     it is open, and keeps no decoded tile
    warm     it is open, and the same regions have been read before

Files are in the system's cache in all three.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray

from benchmarks.pipeline.peers import ENCODERS, encode_tiles, jpegxl_decode_tiles
from benchmarks.pipeline.stages import Bench, all_places, load_tiles
from benchmarks.pipeline.timing import Row, Target, interleaved, ratios, timed, walls
from wsicomp.pipeline.view import LatentSlide
from wsicomp.slides import open_source

__all__ = ["decode_rows", "region_rows"]

SIDE_PX = 256
WARM_BYTES = 2**30

Corners = list[tuple[int, int]]


def decode_store(bench: Bench, store: Path) -> None:
    """Decode every tile of every level, and let go of the pixels."""
    with LatentSlide(store, weights=bench.weights, cache_bytes=1) as slide:
        for level in slide.header.levels:
            for _ in slide.decode_tiles(level.index, slide.header.grid(level.index)):
                pass


def decode_rows(bench: Bench, slide: Path, store: Path) -> list[Row]:
    """Measure decoding of a whole store; the peer decodes tissue alone, as the store does."""
    peer = next(iter(ENCODERS))
    streams = encode_tiles(peer, load_tiles(slide, at_most=bench.sample), bench.cores)
    with open_source(slide) as opened:
        tissue = len(all_places(opened))
    cases = {
        "whole": timed(lambda: decode_store(bench, store)),
        "peer": timed(lambda: jpegxl_decode_tiles(streams, bench.cores)),
    }
    seconds = walls(interleaved(cases, bench.rounds))
    all_by_peer = [tissue * s / len(streams) for s in seconds["peer"]]
    return [
        Row(
            "decode-against-jpeg-xl",
            "decode a whole store to pixels",
            "JPEG XL, decoding the same tissue tiles",
            ratios(all_by_peer, seconds["whole"]),
            Target(at_least=0.5),
            {
                "whole_tiles_per_s": tissue / statistics.median(seconds["whole"]),
                "peer_tiles_per_s": tissue / statistics.median(all_by_peer),
            },
        )
    ]


def region_rows(bench: Bench, slide: Path, store: Path, count: int) -> list[Row]:
    """Measure random regions: seconds by a store over seconds by OpenSlide, at the median and the 99th percentile."""
    corners = random_corners(slide, count)
    readers: dict[str, Callable[[], NDArray[np.float64]]] = {
        "first, store": lambda: first(lambda: LatentSlide(store, weights=bench.weights), corners),
        "first, slide": lambda: first(lambda: openslide.OpenSlide(slide), corners),
        "cold, store": lambda: cold_store(bench, store, corners),
        "cold, slide": lambda: cold_slide(slide, corners),
        "warm, store": lambda: warm(LatentSlide(store, weights=bench.weights, cache_bytes=WARM_BYTES), corners),
        "warm, slide": lambda: warm(opened_with_cache(slide, WARM_BYTES), corners),
    }
    seconds = interleaved(readers, bench.rounds)
    rows = []
    for state in ("first", "cold", "warm"):
        for percent in (50, 99):
            ours, theirs = (
                [float(np.percentile(times, percent)) for times in seconds[f"{state}, {where}"]]
                for where in ("store", "slide")
            )
            rows.append(
                Row(
                    f"region-{state}-p{percent}",
                    f"random {SIDE_PX} x {SIDE_PX} region, {state}, p{percent}: seconds",
                    "OpenSlide's on the original",
                    ratios(ours, theirs),
                    Target(at_most=2.0) if percent == 50 and state != "first" else Target(),
                    {"store_ms": 1e3 * statistics.median(ours), "slide_ms": 1e3 * statistics.median(theirs)},
                    "opening included" if state == "first" else "",
                )
            )
    return rows


def random_corners(slide: Path, count: int) -> Corners:
    """Corners of regions in the tissue half, seeded."""
    with openslide.OpenSlide(slide) as opened:
        width, height = opened.dimensions
    rng = np.random.default_rng(0)
    x = rng.integers(max(width // 2 - SIDE_PX, 1), size=count)
    y = rng.integers(max(height - SIDE_PX, 1), size=count)
    return [(int(a), int(b)) for a, b in zip(x, y, strict=True)]


def seconds_each(slide: openslide.AbstractSlide, corners: Corners) -> NDArray[np.float64]:
    """Seconds of each region."""
    seconds = np.empty(len(corners))
    for k, corner in enumerate(corners):
        started = time.perf_counter()
        slide.read_region(corner, 0, (SIDE_PX, SIDE_PX))
        seconds[k] = time.perf_counter() - started
    return seconds


def first(open_slide: Callable[[], openslide.AbstractSlide], corners: Corners) -> NDArray[np.float64]:
    """Seconds of opening and one region, for a tenth of the regions."""
    seconds = []
    for corner in corners[::10]:
        started = time.perf_counter()
        with open_slide() as slide:
            slide.read_region(corner, 0, (SIDE_PX, SIDE_PX))
        seconds.append(time.perf_counter() - started)
    return np.array(seconds)


def cold_store(bench: Bench, store: Path, corners: Corners) -> NDArray[np.float64]:
    """Seconds of each region from a store just opened, which keeps a single tile."""
    with LatentSlide(store, weights=bench.weights, cache_bytes=1) as slide:
        return seconds_each(slide, corners)


def cold_slide(path: Path, corners: Corners) -> NDArray[np.float64]:
    """Seconds of each region from a slide just opened, which keeps nothing."""
    with opened_with_cache(path, 0) as slide:
        return seconds_each(slide, corners)


def warm(slide: openslide.AbstractSlide, corners: Corners) -> NDArray[np.float64]:
    """Seconds of each region, read for the second time."""
    with slide:
        seconds_each(slide, corners)
        return seconds_each(slide, corners)


def opened_with_cache(path: Path, capacity_bytes: int) -> openslide.OpenSlide:
    """Open a slide through OpenSlide with a cache of its own."""
    slide = openslide.OpenSlide(path)
    slide.set_cache(openslide.OpenSlideCache(capacity_bytes))
    return slide
