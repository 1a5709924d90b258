"""What the choices of the codec's recipe are worth: short trainings that differ in one of them.

python -m benchmarks.recipes [--steps 3000] [--features WEIGHTS] [--out DIR]
                                              writes benchmarks/results/recipes.json and .md; needs WSICOMP_DATA

    shipped          Muon and AdamW, both depths together, squared error and a quarter MS-SSIM
    adamw            AdamW alone
    depth by depth   as in the founding study: each depth in its turn, on a trunk that the ones before have left frozen
    squared error    without MS-SSIM
    features         half of the distortion is the distance between features of WEIGHTS, a pathology classifier that
                     is not the one that scores

Depths 3 and 4 alone are trained. Rates are of validation patches, in real stores; the frozen classifier of the lung
scores them. Whatever was trained is kept in DIR, by its steps, and not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.rd.compare import curves
from benchmarks.rd.learned import StoreCodec
from benchmarks.rd.measure import Bench, Point
from benchmarks.rd.report import table
from benchmarks.rd.tiles import load_set
from wsicomp.datasets.patches import PatchTable
from wsicomp.evaluation.machine import describe_machine
from wsicomp.metrics.bd import bd_rate
from wsicomp.models.registry import load_model
from wsicomp.models.wsic import QUALITIES
from wsicomp.training import codec
from wsicomp.training.codec import CodecRecipe, Objective, depth_shares, distortion, train_codec
from wsicomp.training.distributed import Processes
from wsicomp.training.optimiser import ADAMW_DECAY
from wsicomp.training.run import Run, plateau

RESULTS = Path(__file__).parent / "results"
CLASSIFIER = "perticarari2023-classifier-lung"
DATA = ("prostate", "lung", "more", "lymphoma")
SHIPPED = "shipped"
DEPTHS = (3, 4)
CPU = torch.device("cpu")
EVERY = 8
EQUAL_RATE = 0.25
"""Bits per pixel at which classifier scores are compared, at depth 4."""


def adamw(parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    """Optimiser of all weights."""
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=ADAMW_DECAY, fused=True)


class SquaredErrorObjective(Objective):
    """All of the distortion is squared error."""

    def error(self, x: Tensor, x_hat: Tensor, mse: Tensor, weight: Tensor) -> Tensor:
        """Distortion, (N,)."""
        return distortion(mse, weight)


def features_objective(weights: str) -> type[Objective]:
    """Build the objective of which half the distortion is the distance between a classifier's features."""
    blocks: Any = load_model(weights).module.blocks
    blocks.eval().requires_grad_(False)

    def features(x: Tensor) -> list[Tensor]:
        found, here = [], x - 0.5
        for block in blocks[:4]:
            here = block(here)
            found.append(nn.functional.normalize(here, dim=1))
        return found

    class FeaturesObjective(Objective):
        def error(self, x: Tensor, x_hat: Tensor, mse: Tensor, weight: Tensor) -> Tensor:
            pairs = zip(features(x), features(x_hat), strict=True)
            distance = torch.stack([(a - b).square().sum(1).mean((1, 2)) for a, b in pairs]).mean(0)
            # Scaled, crop by crop, to what the usual distortion counts.
            usual = super().error(x, x_hat, mse, weight)
            return (usual + distance * (usual / distance.clamp_min(1e-6)).detach()) / 2

    return FeaturesObjective


class DepthByDepth(Objective):
    """Of the trunk, only the stage that a depth adds is trained with it."""

    def forward(
        self, x: Tensor, depth: int, quality: Tensor, noise: Tensor, counted: float = 1.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, bits per pixel and squared error."""
        for number, stage in enumerate(self.model.trunk, 1):
            stage.requires_grad_(number == depth)
        return super().forward(x, depth, quality, noise, counted)


def section(step: int, steps: int) -> tuple[int, int, int]:
    """Find the depth of a step, and the steps where its turn begins and ends: its share of all, in one piece."""
    ends = [0, *np.rint(np.cumsum(depth_shares(DEPTHS)) * steps).astype(int).tolist()]
    number = int(np.searchsorted(ends, step, side="right")) - 1
    return DEPTHS[number], ends[number], ends[number + 1]


def draw_in_turn(recipe: CodecRecipe, step: int, _: np.random.Generator) -> int:
    """Depth of a step."""
    return section(step, recipe.steps)[0]


def plateau_in_turn(step: int, steps: int, *, warmup: int) -> float:
    """Learning-rate factor: for each depth a schedule of its own."""
    _, begin, end = section(step, steps)
    return plateau(step - begin, end - begin, warmup=min(warmup, (end - begin) // 4))


def main(words: Sequence[str] | None = None) -> None:
    """Train, measure and write the results."""
    given = list(sys.argv[1:] if words is None else words)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes")
    parser.add_argument("--steps", type=int, default=3000, help="optimiser steps of each training")
    parser.add_argument("--features", help="weights of a study classifier other than the one that scores")
    parser.add_argument("--out", type=Path, default=Path("runs/recipes"), help="folder of the trainings")
    options = parser.parse_args(given)
    data = Path(os.environ["WSICOMP_DATA"])
    tables = [PatchTable.load(data / name) for name in DATA]
    tables = [each.select(split="train") if each.has_splits else each for each in tables]
    recipes: dict[str, Callable[[], Any]] = {
        SHIPPED: nullcontext,
        "adamw": lambda: patch.multiple(codec, MuonAdamW=adamw),
        "depth by depth": lambda: patch.multiple(
            codec, Objective=DepthByDepth, draw_depth=draw_in_turn, plateau=plateau_in_turn
        ),
        "squared error": lambda: patch.multiple(codec, Objective=SquaredErrorObjective),
    }
    if options.features:
        recipes["features"] = lambda: patch.multiple(codec, Objective=features_objective(options.features))
    benches = {
        name: Bench(load_set(name, data, split="val", every=EVERY), CLASSIFIER, resamples=2)
        for name in ("prostate", "lung")
    }
    points: dict[str, dict[str, list[Point]]] = {name: {} for name in benches}
    for name, changed in recipes.items():
        run = Run.open(options.out / str(options.steps) / name.replace(" ", "-"), resume=True)
        if not run.weights.exists():
            with changed():
                train_codec(
                    tables,
                    CodecRecipe(depths=DEPTHS, steps=options.steps),
                    run,
                    group=Processes(0, 1, CPU),
                    progress=report,
                )
        for organ, bench in benches.items():
            points[organ][name] = [
                bench.point(StoreCodec(name, str(run.weights), depth, quality))
                for depth in DEPTHS
                for quality in range(QUALITIES)
            ]
        print(name, {organ: compare(points[organ], name) for organ in benches}, flush=True)
    rows = [{"recipe": name, "organ": organ} | compare(points[organ], name) for name in recipes for organ in benches]
    document = {
        "command": shlex.join(["python", "-m", "benchmarks.recipes", *given]),
        "machine": describe_machine(),
        "steps": options.steps,
        "patches": {name: len(bench.tiles) for name, bench in benches.items()},
        "rows": rows,
        "points": points,
    }
    (RESULTS / "recipes.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "recipes.md").write_text(to_markdown(document), encoding="utf-8")


def report(done: int, total: int, note: str = "") -> None:
    """Print a line of progress, now and then."""
    if done % 500 == 0 or done == total:
        print(f"{done} of {total} {note}", flush=True)


def compare(points: dict[str, list[Point]], name: str) -> dict[str, float | None]:
    """BD-rates of a recipe against the shipped one over depths 3 and 4, and the classifier's scores at equal bytes."""
    found: dict[str, float | None] = {}
    for metric in ("psnr_db", "ms_ssim"):
        found_curves = curves([*points[SHIPPED], *points[name]], metric)
        delta = bd_rate(found_curves[SHIPPED], found_curves[name])
        found[f"bd_rate_{metric}"] = None if delta is None else delta.percent
    deepest = [point for point in points[name] if point["depth"] == max(DEPTHS)]
    rates = np.log([point["bits_per_pixel"] for point in deepest])
    for score in ("feature_distance", "flip_rate", "recall", "auc"):
        values = [point["classifier"] and point["classifier"][score] for point in deepest]
        found[score] = None if None in values else float(np.interp(np.log(EQUAL_RATE), rates, values))
    return found


def to_markdown(document: dict[str, Any]) -> str:
    """Write the results as a page."""
    patches = ", ".join(f"{count} of the {organ}" for organ, count in document["patches"].items())
    header = [
        "recipe",
        "organ",
        "PSNR, BD-rate %",
        "MS-SSIM, BD-rate %",
        "feature distance",
        "flipped",
        "recall",
        "AUC",
    ]
    forms = {
        "bd_rate_psnr_db": "+.1f",
        "bd_rate_ms_ssim": "+.1f",
        "feature_distance": ".4f",
        "flip_rate": ".3f",
        "recall": ".3f",
        "auc": ".3f",
    }
    lines = [
        [
            row["recipe"],
            row["organ"],
            *("-" if row[key] is None else format(row[key], form) for key, form in forms.items()),
        ]
        for row in document["rows"]
    ]
    return (
        f"# Recipes, `{document['command']}`\n\n"
        f"{document['steps']} steps each; validation patches, {patches}. BD-rates are against the shipped recipe,\n"
        f"over 0.15 to 1 bits per pixel of depths 3 and 4; the classifier's scores are at {EQUAL_RATE} bits per\n"
        "pixel, depth 4, between the two nearest qualities.\n\n" + table(header, lines)
    )


if __name__ == "__main__":
    main()
