"""The table of docs/benchmarks.md is made of a run's points, and of nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.rd.learned import OWN
from benchmarks.rd.summary import CLASSICAL, HEAD, STUDY, summary

SCORES = {"accuracy": 0.9, "recall": 0.8, "auc": 0.95, "flip_rate": 0.02}


def point(
    codec: str, setting: str, rate: float, depth: int | None = None, quality: float | None = None
) -> dict[str, Any]:
    found = {"codec": codec, "setting": setting, "depth": depth, "quality": quality, "bits_per_pixel": rate}
    return found | {"psnr_db": 30 + rate, "ssim": 0.9, "classifier": SCORES | {"recall": 0.5 + rate / 10}}


def document() -> dict[str, Any]:
    points = [point(name, f"quality {k}", 0.2 * k) for name in CLASSICAL for k in (1, 2, 3, 4)]
    points += [point(STUDY, f"depth {depth}", 8 / depth, depth) for depth in (1, 2, 3, 4)]
    points += [point(OWN, f"depth {d} quality {q}", (q + 1) / (4 * d), d, q) for d in (1, 2, 3, 4) for q in (3, 4)]
    sets = [{"name": name, "points": points} for name in ("slide", "lung")]
    return {"sets": [sets[0] | {"source": {"bits_per_pixel": 1.6}}, sets[1] | {"original": SCORES}]}


def test_each_codec_has_its_line() -> None:
    lines = summary(document()).splitlines()
    assert len(lines) == 2 + 1 + len(CLASSICAL) + 8
    assert {line.count("|") for line in lines} == {len(HEAD) + 1}
    assert lines[2].startswith("| source file | 1.600 | 1.00 |")
    # wsic at depth 3 and quality 4 has 5 / 12 bits per pixel: quality 2 is the nearest of the classical settings.
    assert "| JPEG 4:2:0, quality 2 | 0.400 | 0.25 | 30.40 | 0.900 | 0.400 | 90.0 | 54.0 | 0.950 | 2.0 % |" in lines
    assert sum("quality 4 |" in line and line.startswith(f"| {OWN}") for line in lines) == 4


def test_a_run_without_the_slide_has_no_such_table() -> None:
    with pytest.raises(KeyError):
        summary({"sets": document()["sets"][1:]})
