"""The study's figures as PNG files.

    loss-ssim.png            loss and SSIM against latent size, the founding study's figure
    samples.png              a few tiles, original and reconstructed
    classifier-elements.png  classifier loss, accuracy, precision, recall against latent size, the study's figure
    classifier-bytes.png     the same against real bits per pixel, with AUC and flipped predictions

A series is one codec; one codec and depth where a codec has several qualities at a depth. Series differ by colour
(Okabe and Ito's, safe for colour-blind readers), by marker and by dash. Each point has its 95 % interval as a vertical
line, the original a grey band; points of several series at one latent size stand beside one another. A value that is
undefined leaves no point.
matplotlib is imported when a figure is drawn, without pyplot and so without a window or a global state.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from wsicomp.disk import write_file
from wsicomp.evaluation.report import ORIGINAL, Report, Row, original_row, row_name
from wsicomp.evaluation.samples import Samples
from wsicomp.training.curves import COLOURS

__all__ = ["write_plots"]

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES = ("-", "--", "-.", ":")
_GREY = "#595959"

_AXES = {
    "element_ratio": "latent elements per pixel value",
    "bits_per_pixel": "bits per pixel, real bytes",
}
_PANELS = {
    "loss": "reconstruction loss",
    "ssim": "SSIM",
    "bce": "classifier loss (cross-entropy, nats)",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "auc": "AUC",
    "flip_rate": "predictions flipped",
}
_NEGATIVE = ("ssim",)
_ABOVE_ONE = ("loss", "bce")
"""Statistics that may lie below 0, and above 1."""

_BESIDE = 1.03
"""Ratio of the places of two neighbours that have the same latent size."""


def write_plots(report: Report, samples: Samples | None, directory: str | Path) -> list[Path]:
    """Draw the study's figures.

    Parameters
    ----------
    report
        From `study.evaluate`; a figure against latent size is left out where no codec has latents.
    samples
        Tiles to show; None leaves that figure out.
    directory
        Folder of the figures; it is made if it does not exist.

    Returns
    -------
    The files written.

    Raises
    ------
    DataError
        If the report has no row of the original.
    OSError
        If the folder cannot be written.
    """
    scores = ("bce", "accuracy", "precision", "recall")
    has_latents = any(row["element_ratio"] is not None for row in report.rows if row["codec"] != ORIGINAL)
    figures: dict[str, Any] = {}
    if has_latents:
        figures["loss-ssim.png"] = _curves(report, "element_ratio", ("loss", "ssim"))
        figures["classifier-elements.png"] = _curves(report, "element_ratio", scores)
    figures["classifier-bytes.png"] = _curves(report, "bits_per_pixel", (*scores, "auc", "flip_rate"))
    if samples is not None:
        figures["samples.png"] = _gallery(samples)

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=150)
        write_file(directory / name, png.getvalue())
    return [directory / name for name in figures]


def _series(rows: Sequence[Row]) -> dict[str, list[Row]]:
    settings = [(row["codec"], row["depth"]) for row in rows if row["codec"] != ORIGINAL]
    several = {codec for codec, depth in settings if depth is not None and settings.count((codec, depth)) > 1}
    series: dict[str, list[Row]] = {}
    for row in rows:
        if row["codec"] != ORIGINAL:
            name = f"{row['codec']} depth {row['depth']}" if row["codec"] in several else row["codec"]
            series.setdefault(name, []).append(row)
    return series


def _styles() -> Iterator[dict[str, str]]:
    colours, markers, dashes = cycle(COLOURS), cycle(_MARKERS), cycle(_DASHES)
    while True:
        yield {"color": next(colours), "marker": next(markers), "linestyle": next(dashes)}


def _curves(report: Report, x: str, statistics: Sequence[str]) -> Any:
    from matplotlib.figure import Figure

    columns = min(len(statistics), 3 if len(statistics) > 4 else 2)
    lines = -(-len(statistics) // columns)
    figure = Figure(figsize=(4.3 * columns, 3.2 * lines + 0.9), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False)
    original = original_row(report.rows)
    places = _places(report.rows, x)
    for axes, statistic in zip(panels.flat, statistics, strict=True):
        if original[statistic] is not None:
            axes.axhline(original[statistic], color=_GREY, linewidth=1, linestyle=(0, (1, 2)), label=ORIGINAL)
        if interval := original["intervals"].get(statistic):
            axes.axhspan(*interval, color=_GREY, alpha=0.1, linewidth=0)
        for (name, rows), style in zip(_series(report.rows).items(), _styles(), strict=False):
            _draw_series(axes, name, rows, style, places, statistic)
        bottom, top = axes.get_ylim()
        axes.set_ylim(
            bottom if statistic in _NEGATIVE else max(bottom, 0), top if statistic in _ABOVE_ONE else min(top, 1)
        )
        axes.set_xscale("log")
        _set_ticks(axes, report.rows, x)
        axes.set_title(_PANELS[statistic], fontsize=10)
        axes.grid(color="#d9d9d9", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel(_AXES[x])

    title = f"{report.data['name']}: {report.data['positive']} against {report.data['negative']}"
    if statistics[0] not in ("loss", "ssim"):
        title += f", classifier {report.classifier['name']}, threshold {report.classifier['threshold']:g}"
    if any(row["intervals"].get(statistic) for row in report.rows for statistic in statistics):
        title += "\nvertical lines and grey band: 95 % intervals, by group"
    figure.suptitle(title, fontsize=11)
    handles = {
        label: handle for axes in panels.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _set_ticks(axes: Any, rows: Sequence[Row], x: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.xaxis.set_minor_locator(NullLocator())
    if x == "element_ratio":
        depths: dict[float, list[str]] = {}
        for row in rows:
            if row[x] is not None and row["codec"] != ORIGINAL and str(row["depth"]) not in depths.get(row[x], []):
                depths.setdefault(row[x], []).append(str(row["depth"]))
        axes.set_xticks(list(depths), [f"{ratio:.4g}\ndepth {', '.join(found)}" for ratio, found in depths.items()])
    else:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))


def _places(rows: Sequence[Row], x: str) -> dict[str, float]:
    # By each row's name, where it is drawn: rows of one latent size stand beside one another, in the series' order.
    shown = [row for members in _series(rows).values() for row in members if row[x] is not None]
    places = {}
    for row in shown:
        same = [row_name(other) for other in shown if other[x] == row[x]]
        places[row_name(row)] = row[x] * _BESIDE ** (same.index(row_name(row)) - (len(same) - 1) / 2)
    return places


def _draw_series(
    axes: Any, name: str, rows: Sequence[Row], style: dict[str, str], places: dict[str, float], statistic: str
) -> None:
    points = sorted(
        (places[row_name(row)], row[statistic], row["intervals"].get(statistic))
        for row in rows
        if row_name(row) in places and row[statistic] is not None
    )
    if not points:
        return  # or the legend would name a codec that is not in the figure
    # A point on the edge of its panel, at 0 or 1, is drawn whole.
    across, values, intervals = zip(*points, strict=True)
    axes.plot(across, values, label=name, markersize=5, clip_on=False, **style)
    for place, interval in zip(across, intervals, strict=True):
        if interval:
            axes.vlines(place, *interval, color=style["color"], alpha=0.5, linewidth=2)


def _gallery(samples: Samples) -> Any:
    from matplotlib.figure import Figure

    lines, columns = len(samples.labels), len(samples.columns)
    figure = Figure(figsize=(2.0 * columns + 0.4, 2.0 * lines + 0.5), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False)
    for column, (title, tiles) in enumerate(samples.columns):
        panels[0, column].set_title(title, fontsize=8)
        for line, tile in enumerate(tiles):
            axes = panels[line, column]
            axes.imshow(tile, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
    for line, label in enumerate(samples.labels):
        panels[line, 0].set_ylabel(label, fontsize=8)
    return figure
