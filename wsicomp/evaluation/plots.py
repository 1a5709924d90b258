"""The study's figures as PNG files.

    loss-ssim.png            loss and SSIM against latent size, the founding study's figure
    samples.png              a few tiles, original and reconstructed
    classifier-elements.png  classifier loss, accuracy, precision, recall against latent size, the study's figure
    classifier-bytes.png     the same against real bits per pixel, with AUC and flipped predictions and 95 % bands

A series is one codec; one codec and depth where a codec has several qualities at a depth. Series differ by colour
(Okabe and Ito's, safe for colour-blind readers), by marker and by dash. A value that is undefined leaves no point.
matplotlib is imported when a figure is drawn, without pyplot and so without a window or a global state.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from wsicomp.disk import write_file
from wsicomp.evaluation.report import ORIGINAL, Report, Row, original_row
from wsicomp.evaluation.samples import Samples
from wsicomp.training.curves import COLOURS

__all__ = ["write_plots"]

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES = ("-", "--", "-.", ":")
_GREY = "#595959"

_AXES = {
    "element_ratio": "latent elements per pixel value (log scale)",
    "bits_per_pixel": "bits per pixel, real bytes (log scale)",
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
_UNBOUNDED = ("loss", "ssim", "bce")


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
        figures["loss-ssim.png"] = _curves(report, "element_ratio", ("loss", "ssim"), bands=False)
        figures["classifier-elements.png"] = _curves(report, "element_ratio", scores, bands=False)
    figures["classifier-bytes.png"] = _curves(report, "bits_per_pixel", (*scores, "auc", "flip_rate"), bands=True)
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


def _curves(report: Report, x: str, statistics: Sequence[str], *, bands: bool) -> Any:
    from matplotlib.figure import Figure

    columns = min(len(statistics), 3 if len(statistics) > 4 else 2)
    lines = -(-len(statistics) // columns)
    figure = Figure(figsize=(4.3 * columns, 3.2 * lines + 0.9), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False)
    original = original_row(report.rows)
    for axes, statistic in zip(panels.flat, statistics, strict=True):
        if original[statistic] is not None:
            axes.axhline(original[statistic], color=_GREY, linewidth=1, linestyle=(0, (1, 2)), label=ORIGINAL)
        for (name, rows), style in zip(_series(report.rows).items(), _styles(), strict=False):
            _draw_series(axes, name, rows, style, x, statistic, bands=bands)
        if statistic not in _UNBOUNDED:
            bottom, top = axes.get_ylim()
            axes.set_ylim(max(bottom, -0.01), min(top, 1.01))  # shares: no room beyond 0 and 1
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(_tick)
        axes.set_title(_PANELS[statistic], fontsize=10)
        axes.grid(color="#d9d9d9", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel(_AXES[x])

    title = f"{report.data['name']}: {report.data['positive']} against {report.data['negative']}"
    if statistics[0] not in ("loss", "ssim"):
        title += f", classifier {report.classifier['name']}, threshold {report.classifier['threshold']:g}"
    if bands:
        title += ", bands: 95 % by group"
    figure.suptitle(title, fontsize=11)
    handles = {
        label: handle for axes in panels.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _draw_series(
    axes: Any, name: str, rows: Sequence[Row], style: dict[str, str], x: str, statistic: str, *, bands: bool
) -> None:
    points = sorted((row for row in rows if None not in (row[x], row[statistic])), key=lambda row: float(row[x]))
    if not points:
        return  # or the legend would name a codec that is not in the figure
    axes.plot([row[x] for row in points], [row[statistic] for row in points], label=name, markersize=5, **style)
    banded = [row for row in points if row["intervals"].get(statistic)] if bands else []
    if banded:
        low, high = zip(*(row["intervals"][statistic] for row in banded), strict=True)
        axes.fill_between([row[x] for row in banded], low, high, color=style["color"], alpha=0.15, linewidth=0)


def _tick(value: float, _position: int) -> str:
    return f"{value:g}" if value >= 0.1 else f"{value:.2g}"


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
        panels[line, 0].set_ylabel(label, fontsize=9)
    return figure
