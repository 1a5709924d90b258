"""Train the learned peers on the patches, the sampler and the number of steps that `wsic` is trained with.

    python -m benchmarks.rd.train_peers --device cuda --steps 20000 --processes 8 --out runs/peers
    python -m benchmarks.rd --peers runs/peers

One command for both models at four lmbdas; each is a training run of its own in OUT/NAME-LMBDA. What is finished is not
trained again, and an interrupted training goes on from its last checkpoint. It is meant for a GPU: on one CPU core with
bfloat16 a step of the default batch takes a quarter of a second. Give the same steps, batch size and crops as
`wsicomp train codec` was given.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from wsicomp.datasets.crops import CropSampler
from wsicomp.datasets.patches import PatchTable
from wsicomp.models.device import resolve_device
from wsicomp.models.hyperprior import PEERS
from wsicomp.training.hyperprior import HyperpriorRecipe, train_hyperprior
from wsicomp.training.run import Run

__all__ = ["LMBDAS"]

LMBDAS = (0.0012, 0.0040, 0.0130, 0.0450)
"""Weights of the distortion; they span about 0.15 to 1.3 bits per pixel on prostate."""
DATA = ("prostate", "lung", "more", "lymphoma")


def main(words: Sequence[str] | None = None) -> int:
    """Train every peer at every lmbda; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rd.train_peers", description="Train the learned peers.")
    parser.add_argument("--data", type=Path, action="append", help="table of patches; may be given several times")
    parser.add_argument("--out", type=Path, default=Path("runs/peers"), help="folder of the runs")
    parser.add_argument("--steps", type=int, required=True, help="optimiser steps of each model")
    parser.add_argument("--batch-size", type=int, default=8, help="crops per step")
    parser.add_argument("--crop", type=int, default=128, help="side of a crop in pixels")
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="peak learning rate")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--processes", type=int, default=1, help="models that train side by side")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of every random choice")
    options = parser.parse_args(words)
    folders: list[Path] = options.data or [Path(os.environ.get("WSICOMP_DATA", "")) / name for name in DATA]
    if not options.data and not os.environ.get("WSICOMP_DATA"):
        print("train_peers: set WSICOMP_DATA, or give --data", file=sys.stderr)
        return 2
    recipes = [
        HyperpriorRecipe(
            *(name, lmbda, options.steps, options.batch_size, options.crop, options.learning_rate), seed=options.seed
        )
        for name in PEERS
        for lmbda in LMBDAS
    ]
    if options.processes == 1:
        train_all(recipes, folders, options.out, options.device)
        return 0
    # Spawned: a forked process cannot use CUDA.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, context) as pool:
        futures = [pool.submit(train_all, [recipe], folders, options.out, options.device) for recipe in recipes]
        for future in futures:
            future.result()
    return 0


def train_all(recipes: Sequence[HyperpriorRecipe], folders: Sequence[Path], out: Path, device: str) -> None:
    """Load the train splits once and train some peers on them, one after the other."""
    named = {f"{recipe.name}-{recipe.lmbda:.4f}": recipe for recipe in recipes}
    runs = {name: Run.open(out / name, resume=True) for name in named}
    missing = [name for name, run in runs.items() if not run.weights.exists()]
    if not missing:
        return
    tables = [PatchTable.load(folder) for folder in folders]
    tables = [table.select(split="train") if table.has_splits else table for table in tables]
    sampler = CropSampler.load(tables, crop_px=recipes[0].crop_px)
    for name in missing:

        def tell(done: int, total: int, note: str = "", name: str = name) -> None:
            print(f"{name}  {done}/{total}  {note}", flush=True)

        train_hyperprior(sampler, named[name], runs[name], device=resolve_device(device), progress=tell)
        print(runs[name].weights, flush=True)


if __name__ == "__main__":
    sys.exit(main())
