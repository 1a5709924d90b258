"""The log of a training as a picture, which is drawn anew while the run goes on.

lines of log.jsonl -> one panel per quantity, one colour per depth -> points, and their moving average -> PNG
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["COLOURS", "draw_curves", "read_log"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, safe for colour-blind readers."""
POSITIONS = ("step", "epoch")
MEMORY = 0.95
"""Weight of the past in the moving average, per point."""

Entry = dict[str, float]


def read_log(path: Path) -> list[Entry]:
    """Entries of a log; a line that an interruption has torn is left out."""
    entries: list[Entry] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries


def draw_curves(entries: Sequence[Entry]) -> bytes:
    """Draw every quantity against the step or epoch, as PNG; there is at least one entry."""
    # Slow to import, and needed now and then only.
    from matplotlib.figure import Figure

    position = next(name for name in POSITIONS if name in entries[0])
    names = [name for name in entries[0] if name not in (*POSITIONS, "depth")]
    depths = sorted({entry.get("depth", 0) for entry in entries})
    figure = Figure(figsize=(5 * len(names), 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for depth, colour in zip(depths, COLOURS, strict=False):
            found = [entry for entry in entries if entry.get("depth", 0) == depth and name in entry]
            draw_series(axes, [entry[position] for entry in found], [entry[name] for entry in found], depth, colour)
        axes.set(xlabel=position, title=name.replace("_", " "))
        axes.grid(color="#d9d9d9", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if len(depths) > 1:
            axes.legend(frameon=False)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=100)
    return png.getvalue()


def draw_series(axes: Any, positions: Sequence[float], values: Sequence[float], depth: float, colour: str) -> None:
    """Draw points, and a moving average that starts without a bias."""
    averages, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = MEMORY * total + value, MEMORY * weight + 1
        averages.append(total / weight)
    axes.plot(positions, values, ".", color=colour, markersize=2, alpha=0.3)
    axes.plot(positions, averages, color=colour, linewidth=1.5, label=f"depth {depth}")
