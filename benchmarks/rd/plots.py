"""Figures: quality against rate, one line per codec, and what the classifier does to it. No tile is ever drawn.

    rd-SET-psnr.png        PSNR against bits per pixel
    rd-SET-ms-ssim.png     MS-SSIM, in decibels, against bits per pixel
    rd-SET-classifier.png  predictions flipped, and AUC lost, against bits per pixel

Lines are envelopes; every setting of `wsic` is a small dot, in its depth's grey. Colours are Okabe and Ito's.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rd.compare import Points, curves, envelope, quality_of
from benchmarks.rd.learned import OWN
from benchmarks.rd.measure import Point
from wsicomp.disk import write_file
from wsicomp.metrics.bd import RATE_RANGE

__all__ = ["write_figures"]

STYLES = {
    "wsic": ("#D55E00", "*", "-"),
    "jpeg-420": ("#E69F00", "o", "-"),
    "jpeg-444": ("#E69F00", "o", "--"),
    "jpeg-2000": ("#009E73", "s", "-"),
    "jpeg-xl-e7": ("#56B4E9", "^", "-"),
    "avif-444-s4": ("#0072B2", "D", "-"),
    "webp": ("#8C6D31", "v", "-"),
    "balle2018-hyperprior": ("#CC79A7", "P", "-"),
    "minnen2018-mean": ("#CC79A7", "X", "--"),
    "perticarari2023 int8": ("#595959", "<", "-"),
    "perticarari2023 float16": ("#595959", "<", "--"),
    "perticarari2023 float32": ("#595959", "<", ":"),
}
"""Colour, marker and dash."""
OTHER = ("#000000", ".", "-.")
LIMITS = (0.1, 4.0)
TICKS = (0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 4.0)


def write_figures(name: str, points: Points, original: Point | None, folder: Path) -> list[Path]:
    """Draw the figures of one set; that of the classifier where it scored the tiles."""
    figures = {
        f"rd-{name}-psnr.png": quality_figure(name, points, "psnr_db", "PSNR, dB"),
        f"rd-{name}-ms-ssim.png": quality_figure(name, points, "ms_ssim", "MS-SSIM, -10 log10(1 - value), dB"),
    }
    if original is not None:
        label = "classifier's features, -10 log10(cosine distance), dB"
        figures[f"rd-{name}-features.png"] = quality_figure(name, points, "feature_distance", label)
        figures[f"rd-{name}-classifier.png"] = classifier_figure(name, points, original)
    for file, figure in figures.items():
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=150)
        write_file(folder / file, png.getvalue())
    return [folder / file for file in figures]


def quality_figure(name: str, points: Points, metric: str, label: str) -> Any:
    """Envelope of each codec, and the settings of `wsic` by depth."""
    figure, (axes,) = new_figure(1)
    drawn = {codec: curve for codec, curve in curves(points, metric).items() if "without" not in codec}
    for codec, curve in drawn.items():
        axes.plot(curve.rate, curve.quality, label=codec, **style_of(codec))
    for depth in sorted({point["depth"] for point in points if point["codec"] == OWN}):
        own = [p for p in points if p["codec"] == OWN and p["depth"] == depth]
        at = [point["bits_per_pixel"] for point in own], [quality_of(point, metric) for point in own]
        axes.plot(*at, ".", color=str(0.15 + 0.15 * depth), markersize=3, label=f"{OWN} depth {depth}")
    axes.axvspan(*RATE_RANGE, color="#f2f2f2", zorder=-1)
    axes.set_ylabel(label)
    finish(figure, [axes], f"{name}: mean over tiles, real bytes; grey: range of the BD-rates")
    return figure


def classifier_figure(name: str, points: Points, original: Point) -> Any:
    """Flipped predictions and lost AUC, with the 95 % band of `wsic`."""
    figure, panels = new_figure(2)
    readings: list[tuple[str, str, Callable[[Point], float | None]]] = [
        ("flip_rate", "predictions flipped, share", lambda scores: scores["flip_rate"]),
        ("auc_drop", "AUC lost", lambda scores: None if scores["auc"] is None else original["auc"] - scores["auc"]),
    ]
    own = envelope(points, "psnr_db")
    names = list(dict.fromkeys(point["codec"] for point in points))
    for axes, (interval, label, read) in zip(panels, readings, strict=True):
        for codec in names:
            style = style_of(codec)
            chosen = own if codec == OWN else [point for point in points if point["codec"] == codec]
            pairs = sorted((p["bits_per_pixel"], read(p["classifier"]), p["classifier"]["intervals"]) for p in chosen)
            pairs = [pair for pair in pairs if pair[1] is not None]
            axes.plot([p[0] for p in pairs], [p[1] for p in pairs], label=codec, **style)
            banded = [(p[0], *p[2][interval]) for p in pairs if p[2].get(interval)]
            if codec == OWN and banded:
                rate, low, high = zip(*banded, strict=True)
                axes.fill_between(rate, low, high, color=style["color"], alpha=0.15, linewidth=0)
        axes.set_ylabel(label)
    finish(figure, panels, f"{name}: frozen classifier, threshold 0.5; band: 95 % by group")
    return figure


def new_figure(count: int) -> tuple[Any, list[Any]]:
    """Draw without pyplot, so without a window or a global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0 if count == 1 else 11.0, 5.4), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False).flat)


def style_of(codec: str) -> dict[str, Any]:
    """Look of a series; `wsic` stands out."""
    colour, marker, dash = STYLES.get(codec, OTHER)
    wide = {"linewidth": 2.2, "markersize": 8, "zorder": 5} if codec == OWN else {"linewidth": 1.1, "markersize": 4}
    return {"color": colour, "marker": marker, "linestyle": dash, **wide}


def finish(figure: Any, panels: Sequence[Any], title: str) -> None:
    """Axes of rate, grid, legend and title."""
    for axes in panels:
        axes.set_xscale("log")
        axes.set_xlim(*LIMITS)
        axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
        axes.minorticks_off()
        axes.set_xlabel("bits per pixel (log scale)")
        axes.grid(color="#d9d9d9", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
