"""Rows of encoding: the whole beside its slowest stage, beside merely reading the slide, and beside classical codecs.

Tiles are those of all levels. The whole codes tissue alone; a peer is asked for the tissue tiles only, and for every
tile of the slide, glass too. Peers are measured on tiles spread over the slide, and reckoned up to all of them.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.pipeline.peers import ENCODERS, encode_tiles
from benchmarks.pipeline.stages import (
    Bench,
    all_places,
    encode_whole,
    load_latents,
    load_tiles,
    read_slide,
    run_network,
)
from benchmarks.pipeline.timing import Row, Target, interleaved, ratios, timed, walls
from wsicomp.slides import open_source

__all__ = ["encoding_rows"]

STAGES = ("read", "network", "write")
PEER_TARGETS = {"JPEG XL": 3.0, "AVIF": 6.0}


def encoding_rows(bench: Bench, slide: Path, store: Path) -> list[Row]:
    """Measure all rows of encoding; `store` is written, and stays."""
    encode_whole(bench, slide, store)
    with open_source(slide) as opened:
        tissue, glass = (len(all_places(opened, tissue=wanted)) for wanted in (True, False))
    pixels, latents = load_tiles(slide), load_latents(store)
    samples = {
        "tissue": load_tiles(slide, at_most=bench.sample),
        "glass": load_tiles(slide, tissue=False, at_most=bench.sample),
    }
    again = store.with_name("again.zarr")
    cases = {
        "whole": lambda: encode_whole(bench, slide, store),
        "read": lambda: read_slide(slide, bench.readers),
        "network": lambda: run_network(bench.codec, pixels),
        "write": lambda: latents.write(again),
        "openslide": lambda: read_slide(slide, bench.readers, "openslide"),
    }
    runs = {name: timed(case) for name, case in cases.items()}
    for peer in ENCODERS:
        for kind, tiles in samples.items():
            runs[f"{peer}, {kind}"] = timed(lambda peer=peer, tiles=tiles: encode_tiles(peer, tiles, bench.cores))  # type: ignore[misc]
    found = interleaved(runs, bench.rounds)
    seconds = walls(found)
    cpu_bound = [
        sum(each.cpu for each in stages) / bench.cores for stages in zip(*(found[s] for s in STAGES), strict=True)
    ]
    rates = {name: tissue / statistics.median(seconds[name]) for name in cases}
    slowest = [max(times) for times in zip(*(seconds[name] for name in STAGES), strict=True)]
    limit = max(STAGES, key=lambda name: statistics.median(seconds[name]))
    without = [max(times) for times in zip(seconds["read"], seconds["write"], strict=True)]
    rows = [
        Row(
            "encode-against-slowest-stage",
            "encode, end to end",
            "its slowest stage alone",
            ratios(slowest, seconds["whole"]),
            Target(at_least=0.85),
            {f"{name}_tiles_per_s": rates[name] for name in ("whole", *STAGES)},
            f"the slowest stage is: {limit}",
        ),
        Row(
            "encode-against-cpu-time",
            "encode, end to end",
            "CPU time of its stages, over the cores",
            ratios(cpu_bound, seconds["whole"]),
            note="1 is as fast as stages that share these cores can be",
        ),
        Row(
            "encode-against-openslide",
            "encode, end to end",
            "only reading, by OpenSlide, as many readers",
            ratios(seconds["openslide"], seconds["whole"]),
            Target(at_least=1.0),
            {"openslide_tiles_per_s": rates["openslide"]},
        ),
        Row(
            "encode-without-network-against-openslide",
            "the slower of reading and of coding with writing",
            "only reading, by OpenSlide, as many readers",
            ratios(seconds["openslide"], without),
            Target(at_least=1.0),
            note="what encoding comes to where the network is not the limit",
        ),
        Row(
            "encode-against-direct-reading",
            "encode, end to end",
            "only reading, straight from the file's JPEG tiles",
            ratios(seconds["read"], seconds["whole"]),
        ),
    ]
    for peer in ENCODERS:
        target = Target(at_least=next(value for name, value in PEER_TARGETS.items() if peer.startswith(name)))
        each = {
            kind: [s / len(tiles) for s in seconds[f"{peer}, {kind}"]] for kind, tiles in samples.items()
        }  # seconds per tile
        on_tissue = [tissue * s for s in each["tissue"]]
        on_all = [s + glass * g for s, g in zip(on_tissue, each["glass"], strict=True)]
        key = peer.lower().replace(" ", "-")
        values = {f"peer_{kind}_tiles_per_s": 1 / statistics.median(s) for kind, s in each.items()}
        rows += [
            Row(
                f"encode-against-{key}",
                "encode, end to end, half glass",
                f"{peer}, every tile",
                ratios(on_all, seconds["whole"]),
                target,
                values,
            ),
            Row(
                f"encode-against-{key}-tissue",
                "encode, end to end, half glass",
                f"{peer}, tissue tiles only",
                ratios(on_tissue, seconds["whole"]),
                target,
            ),
        ]
    return rows
