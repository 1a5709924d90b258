"""Rate and distortion of every codec on the same tiles, in one run.

    make bench-rd                                            everything, on the test split; needs WSICOMP_DATA
    python -m benchmarks.rd --split val --every 20 --out runs/rd --codecs wsic,avif    a look that leaves test alone

    tiles -> for each codec and setting: bytes, x_hat -> fidelity, classifier -> points -> BD-rates, targets
    OUT/rd.json, OUT/rd.md, OUT/rd-SET-psnr.png, OUT/rd-SET-ms-ssim.png, OUT/rd-lung-classifier.png

Without `--peers FOLDER` (weights that `benchmarks.rd.train_peers` made) the learned peers are reported as not measured.
Each measurement runs on one core; `--workers` lets several run side by side, in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.rd.compare import delta_rates, envelope, targets
from benchmarks.rd.learned import OWN, own_codecs, peer_codecs, study_codecs
from benchmarks.rd.measure import Point
from benchmarks.rd.plots import write_figures
from benchmarks.rd.report import to_markdown
from benchmarks.rd.tiles import SETS, SourceJpegs, TileSet, load_set
from benchmarks.rd.workers import measured
from wsicomp.cli.process import settle
from wsicomp.disk import write_file
from wsicomp.evaluation.classical import Codec, classical_codecs, transcoded_bytes
from wsicomp.evaluation.machine import describe_machine
from wsicomp.models.registry import load_model

RESULTS = Path(__file__).parents[1] / "results"
LOOKS = Path("runs") / "rd"
"""Where anything but the whole benchmark goes, so that no look overwrites what is published."""
CLASSIFIER = "perticarari2023-classifier-lung"
VAL_SETS = ("lung", "prostate")
"""The slide and the picture have no splits: a look at val leaves them alone, too."""


def main(words: Sequence[str] | None = None) -> int:
    """Measure, write the results, and return the exit code."""
    options = parse(words)
    data = Path(os.environ["WSICOMP_DATA"]) if os.environ.get("WSICOMP_DATA") else None
    if data is None and set(options.sets) != {"ihc"}:
        print("bench-rd: set WSICOMP_DATA to the folder of the patches, or give --sets ihc", file=sys.stderr)
        return 2
    settle()
    torch.set_num_threads(1)
    codecs = choose(options)
    options.out.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "benchmarks.rd", *(sys.argv[1:] if words is None else words)]),
        "split": options.split,
        "every": options.every,
        "weights": weights(codecs, options),
        "machine": describe_machine(),
        "sets": [],
    }
    for name in options.sets:
        tile_set = load_set(name, data, split=options.split, every=options.every)
        print(f"{name}: {tile_set.about}", flush=True)
        result = measure_set(tile_set, codecs, options.classifier, options.workers)
        document["sets"].append(result)
        # After each set, so that an interruption costs one set at most.
        write_file(options.out / "rd.json", (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
        write_file(options.out / "rd.md", to_markdown(document).encode())
        write_figures(result["name"], result["points"], result["original"], options.out)
    return 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rd", description="Rate and distortion of all codecs.")
    parser.add_argument("--split", choices=("test", "val"), default="test", help="split of the patches")
    parser.add_argument("--every", type=positive, default=1, metavar="N", help="take every Nth patch")
    parser.add_argument("--out", type=Path, default=None, help="folder of the results; of a partial look runs/rd")
    parser.add_argument("--sets", type=names, default=None, help=f"some of {','.join(SETS)}")
    parser.add_argument("--codecs", type=names, default=(), help="only codecs whose names begin so, such as wsic,avif")
    parser.add_argument("--model", default=OWN, help="weights of wsic: shipped name or file")
    parser.add_argument("--classifier", default=CLASSIFIER, help="weights of the lung classifier: shipped name or file")
    parser.add_argument("--peers", type=Path, default=None, help="folder of the learned peers' weights")
    parser.add_argument("--workers", type=positive, default=1, help="processes that measure side by side")
    options = parser.parse_args(words)
    options.sets = options.sets or (SETS if options.split == "test" else VAL_SETS)
    whole = options.split == "test" and options.every == 1 and not options.codecs and set(options.sets) == set(SETS)
    options.out = options.out or (RESULTS if whole else LOOKS)
    unknown = set(options.sets) - set(SETS)
    if unknown:
        parser.error(f"unknown sets: {', '.join(sorted(unknown))}; there are {', '.join(SETS)}")
    return options


def positive(text: str) -> int:
    """Whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def names(text: str) -> tuple[str, ...]:
    """Words between commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def choose(options: argparse.Namespace) -> list[Codec]:
    """Every codec at every setting, or those asked for; weights are only looked at where they are needed."""
    wanted: tuple[str, ...] = options.codecs
    codecs = [*peer_codecs(options.peers)] if options.peers else []
    codecs += [*classical_codecs(), *study_codecs()]
    if not wanted or any(OWN.startswith(word) for word in wanted):
        codecs += own_codecs(options.model)
    return [codec for codec in codecs if not wanted or codec.name.startswith(wanted)]


def weights(codecs: Sequence[Codec], options: argparse.Namespace) -> dict[str, str]:
    """SHA-256 of the weights of the networks that are measured, and of the classifier."""
    used = {OWN: options.model} if any(codec.name == OWN for codec in codecs) else {}
    if "lung" in options.sets:
        used["classifier"] = options.classifier
    return {name: load_model(source).sha256 for name, source in used.items()}


def measure_set(tile_set: TileSet, codecs: Sequence[Codec], classifier: str, workers: int) -> dict[str, Any]:
    """All points of one set, and what they say."""
    points: list[Point | None] = [None] * len(codecs)
    started = time.perf_counter()
    original = None
    for index, point in measured(tile_set, codecs, classifier, workers):
        if index < 0:
            original = point
            continue
        points[index] = point
        done, seconds = sum(p is not None for p in points), time.perf_counter() - started
        what = f"{point['codec']}, {point['setting']}" if point else ""
        print(f"  {done}/{len(codecs)} {seconds:.0f} s  {what}", flush=True)
    found = sorted((p for p in points if p is not None), key=lambda p: (p["codec"], p["bits_per_pixel"]))
    return {
        "name": tile_set.name,
        "about": tile_set.about,
        "tiles": len(tile_set.tiles),
        "tile_px": tile_set.tiles.shape[1],
        "source": source_rates(tile_set.source) if tile_set.source else None,
        "original": original,
        "points": found,
        "envelope": [[p["setting"], p["bits_per_pixel"]] for p in envelope(found, "psnr_db")],
        "delta_rates": delta_rates(found),
        "targets": [asdict(row) for row in targets(tile_set.name, found, original)],
    }


def source_rates(source: SourceJpegs) -> dict[str, float]:
    """Bits per pixel of the source's JPEG streams, and of the same, without loss, as JPEG XL."""
    return {
        "bits_per_pixel": 8 * sum(map(len, source.streams)) / source.pixels,
        "jpeg_xl_bits_per_pixel": 8 * transcoded_bytes(source.streams) / source.pixels,
    }


if __name__ == "__main__":
    sys.exit(main())
