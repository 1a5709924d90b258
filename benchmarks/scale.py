"""A large hospital's year on paper: 100,000 slides of 8 gigapixels, reckoned from measured rates.

    python -m benchmarks.scale        writes benchmarks/scale.md from results/pipeline.json and results/rd.json

Nothing is measured here. The share of tissue and the speed of the network are assumptions, said as such.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsicomp.geometry import SHARD_TILES

RESULTS = Path(__file__).parent / "results"
REPORT = Path(__file__).parent / "scale.md"

SLIDES = 100_000
PIXELS = 8e9
TISSUE = 0.4
TILE = 256
PYRAMID = 1 + 1 / 16 + 1 / 256
"""Pixels of all levels over those of the base; levels are 4 times smaller each way."""
NETWORK_BYTES_PER_S = 10e9 / 8
DAYS = 30
SETTING = "depth 3 quality 4"
SMALL_FILES = 12
"""Files beside the shards in a store of four levels: metadata, tissue masks, manifest."""


@dataclass(frozen=True)
class Rates:
    """What was measured: tiles per second on two cores, and bits per pixel of tissue."""

    whole: float
    read: float
    network: float
    write: float
    decode: float
    bits_per_pixel: float
    source_bits_per_pixel: float


def main() -> None:
    """Reckon and write."""
    pipeline = json.loads((RESULTS / "pipeline.json").read_text(encoding="utf-8"))
    rd = json.loads((RESULTS / "rd.json").read_text(encoding="utf-8"))
    REPORT.write_text(report(measured(pipeline, rd), pipeline["machine"]), encoding="utf-8")
    print(REPORT.read_text(encoding="utf-8"))


def measured(pipeline: dict[str, Any], rd: dict[str, Any]) -> Rates:
    """Take the rates out of two results files."""
    values: dict[str, float] = {}
    for row in pipeline["rows"]:
        if row["key"] in ("encode-against-slowest-stage", "decode-against-jpeg-xl"):
            values |= {f"{row['key'].split('-')[0]}-{key}": value for key, value in row["values"].items()}
    slide = next(found for found in rd["sets"] if found["name"] == "slide")
    point = next(p for p in slide["points"] if (p["codec"], p["setting"]) == ("wsic", SETTING))
    return Rates(
        whole=values["encode-whole_tiles_per_s"],
        read=values["encode-read_tiles_per_s"],
        network=values["encode-network_tiles_per_s"],
        write=values["encode-write_tiles_per_s"],
        decode=values["decode-whole_tiles_per_s"],
        bits_per_pixel=point["bits_per_pixel"],
        source_bits_per_pixel=slide["source"]["bits_per_pixel"],
    )


def report(rates: Rates, machine: dict[str, Any]) -> str:
    """Make the report."""
    tiles = PIXELS / TILE**2 * TISSUE * PYRAMID
    every = SLIDES * tiles
    source = SLIDES * PIXELS * rates.source_bits_per_pixel / 8
    stored = every * TILE**2 * rates.bits_per_pixel / 8
    # Shards at a tissue's border are partly empty, so there are more of them than tissue would fill.
    shards = PIXELS / TILE**2 * PYRAMID / SHARD_TILES**2
    hours = {
        "reading, straight from the slide's JPEG tiles": every / rates.read / 3600,
        "network": every / rates.network / 3600,
        "entropy coding and writing": every / rates.write / 3600,
        "end to end, as measured": every / rates.whole / 3600,
        "decoding everything once": every / rates.decode / 3600,
    }
    end_to_end = hours["end to end, as measured"]
    lines = [
        "# A hospital's year, on paper",
        "",
        f"{SLIDES:,} slides of {PIXELS / 1e9:.0f} gigapixels, {100 * TISSUE:.0f} % of their tiles tissue (assumed),"
        f" encoded at {SETTING}; by",
        "`python -m benchmarks.scale`, from the rates of `results/pipeline.json` and `results/rd.json`, which were",
        f"measured on {machine['cores']} cores of an {machine['cpu']} and are the best guess for others of its kind, no"
        " promise.",
        "",
        "| what | one slide | the year |",
        "| :-- | --: | --: |",
        f"| tissue tiles of {TILE} px, all levels | {tiles:,.0f} | {every:.3g} |",
        f"| bytes of the scanner's JPEG, at {rates.source_bits_per_pixel:.2f} bits per pixel, glass like tissue |"
        f" {source / SLIDES / 1e9:.2f} GB | {source / 1e12:.0f} TB |",
        f"| bytes of the stores, at {rates.bits_per_pixel:.2f} bits per pixel of tissue |"
        f" {stored / SLIDES / 1e9:.2f} GB | {stored / 1e12:.1f} TB |",
        f"| files, as folders (at most; a shard of glass alone is none) | {shards + SMALL_FILES:,.0f} |"
        f" {SLIDES * (shards + SMALL_FILES) / 1e6:.0f} million |",
        f"| files, with `--zip` | 1 | {SLIDES:,} |",
        *(
            f"| hours of a two-core machine: {what} | {value / SLIDES:.3f} | {value:,.0f} |"
            for what, value in hours.items()
        ),
        f"| two-core machines to be done in {DAYS} days | | {end_to_end / 24 / DAYS:.0f} |",
        f"| hours of one 10 Gbit/s line to bring the slides | | {source / NETWORK_BYTES_PER_S / 3600:,.0f} |",
        "",
        "- Without a GPU the network is the bottleneck: it alone takes"
        f" {100 * hours['network'] / end_to_end:.0f} % of the time end to end, and shares the cores with the other"
        " stages.",
        f"- Were the network free, as on a GPU that keeps up, entropy coding would be next, at"
        f" {rates.write / 2:.0f} tiles a second and core, and reading after it, at {rates.read / 2:.0f}.",
        "- On a GPU nothing has been measured yet.",
        "- The line that brings the slides is busy for"
        f" {100 * source / NETWORK_BYTES_PER_S / 3600 / (DAYS * 24):.0f} % of those {DAYS} days; `--stage` turns its"
        " small reads into one long one.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
