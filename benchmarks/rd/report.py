"""The results as Markdown tables: points, rates against peers, targets. Numbers in full are in the JSON.

Whatever is undefined or was not measured is a dash, or says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.rd.compare import METRICS
from benchmarks.rd.measure import Point
from wsicomp.metrics.bd import RATE_RANGE
from wsicomp.models.hyperprior import PEERS

__all__ = ["to_markdown"]

HEAD = """# Rate and distortion, `{command}`

Every codec coded the same tiles in one run. Rates are real bytes: stores of `wsic` and of the study's autoencoder
whole, with index, checksums and metadata; JPEG with tables shared by the set; peers' streams with their own headers,
but without any index. Without wrapping, the boxes of AVIF and WebP and a store's metadata are left out on both sides:
on a handful of tiles they weigh heavily, and on a slide nothing. `balle2018-hyperprior` and `minnen2018-mean` are
counted by their own estimate, in their favour. Means over tiles. Speeds are of one core, measured beside one another:
compare them, do not quote them. Equal features are those at equal cosine distance to the original's in the frozen
classifier, which moves steadily where predictions flip or do not. The counterstain is eosin, but DAB in `ihc`.
Intervals are 95 %, clustered by the original that patches were cut from.
"""

POINT_COLUMNS: dict[str, Callable[[Point], str]] = {
    "codec": lambda point: str(point["codec"]),
    "setting": lambda point: str(point["setting"]),
    "bits/px": lambda point: number(point["bits_per_pixel"], ".3f"),
    "PSNR dB": lambda point: number(point["psnr_db"], ".2f"),
    "SSIM": lambda point: number(point["ssim"], ".3f"),
    "MS-SSIM": lambda point: number(point["ms_ssim"], ".4f"),
    "SSIM haem.": lambda point: number(point["ssim_haematoxylin"], ".3f"),
    "SSIM counterst.": lambda point: number(point["ssim_counterstain"], ".3f"),
    "enc tiles/s": lambda point: number(point["encode_tiles_per_s"], ".0f"),
    "dec tiles/s": lambda point: number(point["decode_tiles_per_s"], ".0f"),
    "enc kMAC/px": lambda point: number(point["encode_kmac_per_px"], ".2f"),
    "dec kMAC/px": lambda point: number(point["decode_kmac_per_px"], ".2f"),
}
SCORES = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "auc": "AUC", "flip_rate": "flipped"}


def to_markdown(document: dict[str, Any]) -> str:
    """Write everything that a run found as Markdown."""
    parts = [HEAD.format(command=document["command"])]
    for result in document["sets"]:
        parts += [f"## {result['name']}\n", f"{result['about']}.\n"]
        parts.append(delta_table(result["delta_rates"]))
        if result["targets"]:
            parts.append(target_table(result["targets"]))
        if result["source"]:
            parts.append(source_table(result["source"]))
        parts.append(table(list(POINT_COLUMNS), [[c(p) for c in POINT_COLUMNS.values()] for p in result["points"]]))
        if result["original"]:
            parts.append(classifier_table(result["original"], result["points"]))
    return "\n".join(parts)


def delta_table(rows: Sequence[dict[str, Any]]) -> str:
    """List the BD-rate against each peer, negative where wsic is smaller; trained peers that are missing are named."""
    low, high = RATE_RANGE
    anchors = list(dict.fromkeys(row["anchor"] for row in rows))
    shown = {metric: title for metric, title in METRICS.items() if any(row["metric"] == metric for row in rows)}
    lines = []
    for anchor in anchors:
        cells = []
        for metric in shown:
            delta = next((row["bd"] for row in rows if (row["anchor"], row["metric"]) == (anchor, metric)), None)
            cells += [
                number(delta and delta["percent"], "+.1f"),
                number(delta and delta["percent_akima"], "+.1f"),
                "-" if not delta else "{:.2f} to {:.2f}".format(*delta["anchor_rates"]),
            ]
        lines.append([anchor, *cells])
    lines += [[name, *["not measured"] * 3 * len(shown)] for name in PEERS if name not in anchors]
    header = ["against"]
    for title in shown.values():
        header += [f"{title}, BD-rate %", "by Akima", "peer's bits/px"]
    return f"Rate of wsic at equal quality, over {low:g} to {high:g} bits per pixel:\n\n" + table(header, lines)


def target_table(rows: Sequence[dict[str, Any]]) -> str:
    """Targets, what was reached, and the distance of those missed."""
    lines = []
    for row in rows:
        distance = row["distance"]
        missed = "not measured" if distance is None else "reached" if distance <= 0 else f"{distance:.4g}"
        lines.append([row["what"], f"{row['target']:g} {row['unit']}", number(row["reached"], ".4g"), missed])
    return table(["target", "wanted", "reached", "missed by"], lines)


def source_table(source: dict[str, Any]) -> str:
    """Write down the source's own JPEG files, and the same without loss as JPEG XL."""
    kept = [
        ["source JPEG", number(source["bits_per_pixel"], ".3f")],
        ["the same as JPEG XL, lossless", number(source["jpeg_xl_bits_per_pixel"], ".3f")],
    ]
    return table(["bytes only", "bits/px"], kept)


def classifier_table(original: Point, points: Sequence[Point]) -> str:
    """Scores of the frozen classifier at threshold 0.5, with intervals."""
    header = ["codec", "setting", "bits/px", *SCORES.values(), "AUC lost", "recall lost", "feature distance"]
    lines = [["original", "", "24", *(estimate(original, name) for name in SCORES), "", "", ""]]
    for point in points:
        scores = point["classifier"]
        lost = [interval(scores["intervals"].get(f"{name}_drop")) for name in ("auc", "recall")]
        cells = [estimate(scores, name) for name in SCORES]
        head = [point["codec"], point["setting"], number(point["bits_per_pixel"], ".3f")]
        lines.append([*head, *cells, *lost, number(scores["feature_distance"], ".4f")])
    return table(header, lines)


def estimate(scores: dict[str, Any], name: str) -> str:
    """Write a value with its interval."""
    return f"{number(scores[name], '.3f')} {interval(scores['intervals'].get(name))}".strip()


def interval(ends: Sequence[float] | None) -> str:
    """Write an interval in brackets."""
    return f"[{ends[0]:.3f}, {ends[1]:.3f}]" if ends else ""


def number(value: float | None, form: str) -> str:
    """Write a number, or a dash."""
    return "-" if value is None else format(value, form)


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Markdown table whose first column is text."""
    rows = [header, [":--", *["--:"] * (len(header) - 1)], *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
