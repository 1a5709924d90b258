"""The table of docs/benchmarks.md, of which the README shows some rows, out of a run's results.

    python -m benchmarks.rd.summary [RD.json]        prints Markdown

One line for each codec. Of the classical codecs it is the setting whose bytes on the slide are nearest to those of
`wsic` as it comes, depth 3 and quality 4; of the two with depths, every depth, `wsic` at its own quality. The slide's
column counts its whole tissue tiles at full resolution; the scores are the frozen classifier's on the lung.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.rd.learned import OWN

RESULTS = Path(__file__).parents[1] / "results" / "rd.json"
CLASSICAL = {"jpeg-420": "JPEG 4:2:0", "jpeg-xl-e7": "JPEG XL, effort 7", "avif-444-s4": "AVIF 4:4:4, speed 4"}
STUDY = "perticarari2023 int8"
OWN_DEPTH, OWN_QUALITY = 3, 4
HEAD = (
    "codec",
    "bits/px",
    "of the source",
    "PSNR dB",
    "SSIM",
    "lung bits/px",
    "accuracy %",
    "recall %",
    "AUC",
    "flipped",
)


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    given = sys.argv[1:] if words is None else words
    print(summary(json.loads(Path(given[0] if given else RESULTS).read_text(encoding="utf-8"))))


def summary(document: dict[str, Any]) -> str:
    """Make the table of a run that has the sets lung and slide."""
    sets = {result["name"]: result for result in document["sets"]}
    slide, lung = sets["slide"], sets["lung"]
    source = slide["source"]["bits_per_pixel"]
    usual = find(slide["points"], OWN, OWN_DEPTH, OWN_QUALITY)["bits_per_pixel"]
    chosen = [
        min((p for p in slide["points"] if p["codec"] == name), key=lambda p: abs(p["bits_per_pixel"] - usual))
        for name in CLASSICAL
    ]
    chosen += [find(slide["points"], STUDY, depth, None) for depth in (1, 2, 3, 4)]
    chosen += [find(slide["points"], OWN, depth, OWN_QUALITY) for depth in (1, 2, 3, 4)]
    rows = [["source file", f"{source:.3f}", "1.00", "", "", "24.000", *scores(lung["original"])]]
    for point in chosen:
        twin = next(p for p in lung["points"] if (p["codec"], p["setting"]) == (point["codec"], point["setting"]))
        name = CLASSICAL.get(point["codec"], point["codec"].split()[0])
        rate = point["bits_per_pixel"]
        measured = [f"{rate:.3f}", f"{rate / source:.2f}", f"{point['psnr_db']:.2f}", f"{point['ssim']:.3f}"]
        rows.append(
            [f"{name}, {point['setting']}", *measured, f"{twin['bits_per_pixel']:.3f}", *scores(twin["classifier"])]
        )
    lines = [" | ".join(row) for row in (HEAD, ["---", *["--:"] * (len(HEAD) - 1)], *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def find(points: Sequence[dict[str, Any]], codec: str, depth: int, quality: float | None) -> dict[str, Any]:
    """Point of a codec at a depth and quality."""
    return next(p for p in points if (p["codec"], p["depth"], p["quality"]) == (codec, depth, quality))


def scores(found: dict[str, Any]) -> list[str]:
    """Cells of a classifier's scores."""
    shown = [f"{100 * found['accuracy']:.1f}", f"{100 * found['recall']:.1f}", f"{found['auc']:.3f}"]
    return [*shown, f"{100 * found['flip_rate']:.1f} %"]


if __name__ == "__main__":
    main()
