"""Measure the pipeline: every figure a ratio of runs that took turns.

    python -m benchmarks.pipeline                     everything; writes benchmarks/results/pipeline.json and .md
    python -m benchmarks.pipeline --quick             the same on tiny slides, in runs/pipeline; to see that it runs
    python -m benchmarks.pipeline --profile --depth 4 prints where the CPU time goes, and writes nothing

    picture -> half-glass slides of 1, 2, 4, 8, 16 times an area -> encoding, decoding, regions, cost, GPU -> rows

With WSICOMP_DATA the slides are made of a real one. Peak memory is `benchmarks.memory`'s to measure.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.pipeline import profile
from benchmarks.pipeline.cost import cost_rows
from benchmarks.pipeline.decoding import decode_rows, region_rows
from benchmarks.pipeline.encoding import encoding_rows
from benchmarks.pipeline.gpu import gpu_rows
from benchmarks.pipeline.report import to_markdown
from benchmarks.pipeline.slides import mirrored, tissue_picture, write_half_glass
from benchmarks.pipeline.stages import Bench
from wsicomp.cli.process import settle
from wsicomp.disk import write_file
from wsicomp.evaluation.machine import describe_machine
from wsicomp.models.registry import STUDY_CODEC, WSIC, shipped
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.transforms import load_codec

RESULTS = Path(__file__).parents[1] / "results"
LOOKS = Path("runs") / "pipeline"
"""Where a quick run goes, so that no look overwrites what is published."""
MEMORY = "memory.json"

AREAS = (1, 2, 4, 8, 16)
SIDE_PX, QUICK_SIDE_PX = (4096, 2048), (512, 256)
"""Width and height of the smallest slide."""
PROFILED_AREA = 4
ROUNDS, QUICK_ROUNDS = 5, 1
REGIONS, QUICK_REGIONS = 200, 10
SAMPLE, QUICK_SAMPLE = 160, 4
READERS = 4


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write the results."""
    options = parse(words)
    settle()
    load = [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None
    with use_cores(options.cores), tempfile.TemporaryDirectory() as folder:
        bench = prepare(options, Path(folder))
        smallest = QUICK_SIDE_PX if options.quick else SIDE_PX
        picture, slides = make_slides(bench.scratch, smallest)
        if options.profile:
            print(profile.to_markdown(profile.profile(bench, slides[PROFILED_AREA])), end="")
            return
        rows = measure(bench, slides, QUICK_REGIONS if options.quick else REGIONS)
    document: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "benchmarks.pipeline", *(sys.argv[1:] if words is None else words)]),
        "slide": picture,
        "pixels": AREAS[-1] * smallest[0] * smallest[1],
        "model": bench.model.name,
        "weights_sha256": bench.model.sha256,
        "depth": bench.codec.depth,
        "quality": bench.codec.quality,
        "cores": bench.cores,
        "readers": bench.readers,
        "rounds": bench.rounds,
        "load_average_before": load,
        "machine": describe_machine(),
        "peak_memory": MEMORY,
        "rows": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_file(options.out / "pipeline.json", (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    write_file(options.out / "pipeline.md", to_markdown(document).encode())
    print(to_markdown(document))


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description="How fast the pipeline is.")
    parser.add_argument("--model", default=default_model(), help="weights of a codec: shipped name or file")
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--quality", type=float, default=None, help="of wsic  [default: the model's]")
    parser.add_argument("--readers", type=int, default=READERS, help="threads that read tiles")
    parser.add_argument("--cores", type=int, default=available_cores(), help="cores for all  [default: every one]")
    parser.add_argument("--rounds", type=int, default=None, help=f"interleaved runs  [default: {ROUNDS}]")
    parser.add_argument("--quick", action="store_true", help="tiny slides, to see that it runs")
    parser.add_argument("--profile", action="store_true", help="print where the CPU time goes, and nothing else")
    parser.add_argument("--out", type=Path, default=None, help="folder of the results")
    options = parser.parse_args(words)
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    options.out = options.out or (LOOKS if options.quick else RESULTS)
    if min(options.readers, options.cores, options.rounds) < 1:
        parser.error("readers, cores and rounds are at least 1")
    return options


def default_model() -> str:
    """Shipped weights of `wsic`, or of the founding study where there are none."""
    return WSIC if WSIC in shipped() else STUDY_CODEC


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def use_cores(count: int) -> Iterator[None]:
    """Keep this process and its networks to so many cores; where the system cannot, only the networks."""
    threads = torch.get_num_threads()
    torch.set_num_threads(count)
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if before is not None:
        os.sched_setaffinity(0, sorted(before)[-count:])
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if before is not None:
            os.sched_setaffinity(0, before)


def prepare(options: argparse.Namespace, scratch: Path) -> Bench:
    """Load the codec."""
    model = load_codec(options.model)
    codec = TileCodec(model, options.depth, quality=options.quality)
    sample = QUICK_SAMPLE if options.quick else SAMPLE
    return Bench(options.model, model, codec, options.readers, options.cores, options.rounds, sample, scratch)


def make_slides(folder: Path, smallest: tuple[int, int]) -> tuple[str, dict[int, Path]]:
    """Write the slides, each of twice the area of the one before; the picture's name, and paths by area."""
    name, picture = tissue_picture()
    width, height = smallest
    picture = mirrored(picture, width // 2, height)
    slides = {}
    for area in AREAS:
        slides[area] = write_half_glass(folder / f"slide-{area}.svs", picture, width, height)
        width, height = (2 * width, height) if width <= height else (width, 2 * height)
    return name, slides


def measure(bench: Bench, slides: Mapping[int, Path], regions: int) -> list[dict[str, Any]]:
    """Measure every row; the GPU's come last, because the network moves there."""
    slide, store = slides[AREAS[-1]], bench.scratch / "slide.zarr"
    rows = encoding_rows(bench, slide, store)
    rows += decode_rows(bench, slide, store)
    rows += region_rows(bench, slide, store, regions)
    rows += cost_rows(bench, slides)
    rows += gpu_rows(bench, slide)
    return [row.to_json() for row in rows]


if __name__ == "__main__":
    main()
