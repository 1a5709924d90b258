"""Measures one slide encoded through a Dask scheduler with two workers, beside one process, in turns.

    python -m benchmarks.cluster            writes benchmarks/results/cluster.json
    python -m benchmarks.cluster --quick    the same on a tiny slide, in runs/cluster; to see that it runs

    half-glass slide of many shards -> wsicomp encode               -> store, wall and CPU seconds
                                    -> wsicomp encode --scheduler   -> the same store, byte for byte, and its seconds

Each way is the command itself in a new process. The scheduler and the workers stay from one run to the next, as those
of a cluster do, and each worker has one thread. CPU seconds are those of every process that takes part: the command,
its readers, the scheduler and the workers. Each way runs once before it counts. What this does not measure: how the
path scales over machines, because all of it shares the cores of one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.pipeline.slides import mirrored, tissue_picture, write_half_glass
from benchmarks.pipeline.timing import Seconds, interleaved
from tests.dask_cluster import DaskCluster
from tests.pipeline.sources import files_of
from wsicomp.disk import write_file
from wsicomp.evaluation.machine import describe_machine
from wsicomp.geometry import SHARD_TILES
from wsicomp.pipeline.encode import rows_of
from wsicomp.slides import SourceSettings, open_source

RESULTS = Path(__file__).parent / "results"
LOOKS = Path("runs") / "cluster"
"""Folder of a quick run, so that no look overwrites what is published."""
ENTRY = "from wsicomp.cli.main import run; run()"
WORKERS = 2
DEPTH = 3
TILE_PX, QUICK_TILE_PX = 128, 32
"""Side of a tile: small, so that a slide of few pixels has many shards."""
SHARD_COLS, SHARD_ROWS = 4, 4
"""Shards of level 0 across and down; the left half is tissue."""


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write the results.

    Raises
    ------
    RuntimeError
        If the two stores differ.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description="What the Dask path costs.")
    parser.add_argument("--model", default="wsic", help="weights of a codec: shipped name or file")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each way, in turns")
    parser.add_argument("--quick", action="store_true", help="a tiny slide, to see that it runs")
    options = parser.parse_args(words)
    tile_px = QUICK_TILE_PX if options.quick else TILE_PX
    load = [round(value, 2) for value in os.getloadavg()]
    with tempfile.TemporaryDirectory() as folder, DaskCluster(Path(folder), WORKERS) as dask:
        scratch = Path(folder)
        width, height = (count * SHARD_TILES * tile_px for count in (SHARD_COLS, SHARD_ROWS))
        name, picture = tissue_picture()
        slide = write_half_glass(scratch / "slide.svs", mirrored(picture, width // 2, height), width, height)
        settings = ["--model", options.model, "--depth", str(DEPTH), "--tile-size", str(tile_px), "--device", "cpu"]
        encode = ["encode", str(slide), *settings, "--overwrite", "--json", "-o"]
        alone, helped = scratch / "alone.zarr", scratch / "helped.zarr"
        members = [process.pid for process in (dask.scheduler, *dask.workers)]
        found = interleaved(
            {
                "one_process": lambda: measured([*encode, str(alone)], lambda: 0.0),
                "cluster": lambda: measured(
                    [*encode, str(helped), "--scheduler", dask.address], lambda: cpu_seconds(members)
                ),
            },
            options.pairs,
        )
        if files_of(alone) != files_of(helped):
            raise RuntimeError("the store of the cluster is not the store of one process")
        document: dict[str, Any] = {
            "command": shlex.join(["python", "-m", "benchmarks.cluster", *(sys.argv[1:] if words is None else words)]),
            "slide": name,
            "pixels": width * height,
            "model": options.model,
            "depth": DEPTH,
            "workers": WORKERS,
            **counts(slide, alone, tile_px),
            "stores_equal": True,
            **ratios_of(found["one_process"], found["cluster"]),
            "load_average_before": load,
            "machine": describe_machine(),
        }
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    out = LOOKS if options.quick else RESULTS
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / "cluster.json", text.encode())
    print(text, end="")


def measured(words: list[str], others: Callable[[], float]) -> Seconds:
    """Run the command in a new process, and return its seconds.

    Parameters
    ----------
    others
        Gives the CPU seconds so far of processes that work for the command and outlive it.

    Raises
    ------
    subprocess.CalledProcessError
        If the command fails.
    """
    wall, cpu = time.perf_counter(), others() + ended_cpu_seconds()
    subprocess.run([sys.executable, "-c", ENTRY, *words], check=True, stdout=subprocess.DEVNULL)
    return Seconds(time.perf_counter() - wall, others() + ended_cpu_seconds() - cpu)


def ended_cpu_seconds() -> float:
    """CPU seconds of all children of this process that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def cpu_seconds(members: Sequence[int]) -> float:
    """CPU seconds so far of running processes, by their ids, and of all of their children, ended or not."""
    processes = [psutil.Process(pid) for pid in members]
    processes += [child for process in processes for child in process.children(recursive=True)]
    return sum(sum(process.cpu_times()[:4]) for process in processes)


def counts(slide: Path, store: Path, tile_px: int) -> dict[str, int]:
    """Count what there was to do: tiles, tasks, and shards that were written."""
    with open_source(slide, SourceSettings(tile_size=tile_px)) as source:
        mask = source.tissue()
        rows = list(rows_of(source, mask))
    return {
        "tile_px": tile_px,
        "levels": len(mask.tiles),
        "tissue_tiles": sum(int(tiles.sum()) for tiles in mask.tiles),
        "total_tiles": sum(tiles.size for tiles in mask.tiles),
        "rows_of_shards": len(rows),
        "shards": sum(path.is_file() for path in store.glob("latents/*/c/**/*")),
    }


def ratios_of(alone: Sequence[Seconds], helped: Sequence[Seconds]) -> dict[str, Any]:
    """Put the seconds of each pair beside their ratios, cluster over one process, and add the median ratios."""
    pairs = [
        {
            "one_process": {"wall_s": round(one.wall, 2), "cpu_s": round(one.cpu, 2)},
            "cluster": {"wall_s": round(two.wall, 2), "cpu_s": round(two.cpu, 2)},
            "wall_ratio": round(two.wall / one.wall, 3),
            "cpu_ratio": round(two.cpu / one.cpu, 3),
        }
        for one, two in zip(alone, helped, strict=True)
    ]
    medians = {
        f"median_{kind}_ratio": round(statistics.median(float(pair[f"{kind}_ratio"]) for pair in pairs), 3)  # type: ignore[arg-type]
        for kind in ("wall", "cpu")
    }
    return {"pairs": pairs, **medians}


if __name__ == "__main__":
    main()
