"""The folder of a training run: weights, checkpoint, and a log of one JSON document per line.

RUN/weights.safetensors      written once, when the recipe is done
RUN/checkpoint.safetensors   where to go on after an interruption
RUN/log.jsonl                what was measured on the way
RUN/log.png                  the same as curves, drawn anew with every checkpoint
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsicomp.disk import write_file
from wsicomp.errors import ConfigError
from wsicomp.training.curves import draw_curves, read_log

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["Run", "cosine", "plateau"]

COOLDOWN = 0.4
"""Share of the steps in which `plateau` falls."""


@dataclass(frozen=True)
class Run:
    """Paths of a run's folder, and its log."""

    folder: Path

    @classmethod
    def open(cls, folder: Path, *, resume: bool) -> Run:
        """Make the folder; an earlier run in it is gone on with, or refused.

        Raises
        ------
        ConfigError
            If the folder holds a run already and `resume` is not set.
        """
        run = cls(folder)
        if not resume and (run.weights.exists() or run.checkpoint.exists()):
            raise ConfigError(f"{folder}: holds a training run already; give --resume to go on, or another folder")
        folder.mkdir(parents=True, exist_ok=True)
        return run

    @property
    def weights(self) -> Path:
        """The result."""
        return self.folder / "weights.safetensors"

    @property
    def checkpoint(self) -> Path:
        """The place to go on from."""
        return self.folder / "checkpoint.safetensors"

    def log(self, **entry: Any) -> None:
        """Append one line to the log."""
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")

    def draw(self) -> None:
        """Draw the log as it is now; without an entry there is nothing to draw."""
        log = self.folder / "log.jsonl"
        entries = read_log(log) if log.exists() else []
        if entries:
            write_file(self.folder / "log.png", draw_curves(entries))


def recipe_key(recipe: DataclassInstance, names: list[str]) -> str:
    """Join settings and table names into one string that tells whether a checkpoint belongs to a run."""
    return json.dumps([type(recipe).__name__, asdict(recipe), names], sort_keys=True)


def cosine(step: int, steps: int, *, warmup: int) -> float:
    """Learning-rate factor in [0, 1]: linear warm-up, then half a cosine to zero (Loshchilov & Hutter, 2017)."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def plateau(step: int, steps: int, *, warmup: int) -> float:
    """Learning-rate factor in [0, 1]: linear warm-up, a plateau, and a fall to zero over the last 40 % of the steps.

    The fall is one minus the square root of its done share (Hagele et al., 2024). Before it, a run is the same as every
    longer one.
    """
    if step < warmup:
        return (step + 1) / warmup
    fall = COOLDOWN * steps
    return 1 - math.sqrt(max(step - steps + fall, 0) / fall)
