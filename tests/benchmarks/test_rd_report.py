from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rd import __main__ as command
from benchmarks.rd.compare import best_under, curves, delta_rates, envelope, targets
from benchmarks.rd.measure import Point
from benchmarks.rd.plots import write_figures
from benchmarks.rd.report import to_markdown

RATES = (0.1, 0.2, 0.35, 0.6, 1.0, 1.6, 2.4)


def point(codec: str, rate: float, psnr_db: float, **others: Any) -> Point:
    return {
        "codec": codec,
        "setting": f"rate {rate:.3f}",
        "depth": None,
        "quality": None,
        "bits_per_pixel": rate,
        "payload_bits_per_pixel": None,
        "psnr_db": psnr_db,
        "ssim": 0.9,
        "ms_ssim": 1 - 10 ** (-psnr_db / 20),
        "ssim_haematoxylin": 0.8,
        "ssim_counterstain": 0.7,
        "encode_tiles_per_s": 150.0,
        "decode_tiles_per_s": 90.0,
        "encode_kmac_per_px": 8.0,
        "decode_kmac_per_px": 4.0,
        "classifier": None,
    } | others


def scores(auc: float, flip_rate: float) -> dict[str, Any]:
    intervals = {name: [0.0, 0.1] for name in ("auc", "flip_rate", "auc_drop", "recall_drop")}
    statistics = {"accuracy": 0.9, "precision": 0.9, "recall": 0.9, "auc": auc, "flip_rate": flip_rate}
    return {**statistics, "feature_distance": 0.01, "intervals": intervals, "calibrated": None}


@pytest.fixture
def points() -> list[Point]:
    found = [point("jpeg-xl-e7", rate, 25 + 10 * rate**0.5, classifier=scores(0.97, 0.05)) for rate in RATES]
    found += [
        point("avif-444-s4", rate, 26 + 10 * rate**0.5, payload_bits_per_pixel=rate * 0.9, classifier=scores(0.97, 0.1))
        for rate in RATES
    ]
    found += [
        point("wsic", rate / 2, 25 + 10 * rate**0.5, depth=3, classifier=scores(0.98 - rate / 100, 0.02))
        for rate in RATES
    ]
    # Another depth that is always worse.
    found += [point("wsic", rate, 20 + 10 * rate**0.5, depth=1, classifier=scores(0.9, 0.5)) for rate in RATES]
    return found


def test_half_the_rate_is_minus_fifty_percent(points: list[Point]) -> None:
    rows = {(row["anchor"], row["metric"]): row["bd"] for row in delta_rates(points)}
    assert rows["jpeg-xl-e7", "psnr_db"]["percent"] == pytest.approx(-50, abs=0.1)
    assert rows["jpeg-xl-e7", "ms_ssim"]["percent"] == pytest.approx(-50, abs=0.1)
    assert rows["avif-444-s4", "psnr_db"]["percent"] > -50
    payload, whole = rows["avif-444-s4 without wrapping", "psnr_db"], rows["avif-444-s4", "psnr_db"]
    assert payload["percent"] > whole["percent"]


def test_features_are_compared_where_a_classifier_saw_the_tiles(points: list[Point]) -> None:
    seen = [
        p | {"classifier": p["classifier"] | {"feature_distance": 10 ** (-p["psnr_db"] / 20)}} | {"psnr_db": 30.0}
        for p in points
    ]
    rows = {(row["anchor"], row["metric"]): row["bd"] for row in delta_rates(seen)}
    assert rows["jpeg-xl-e7", "feature_distance"]["percent"] == pytest.approx(-50, abs=0.1)
    assert rows["jpeg-xl-e7", "psnr_db"] is None
    blind = delta_rates([p | {"classifier": None} for p in points])
    assert {row["metric"] for row in blind} == {"psnr_db", "ms_ssim"}


def test_payloads_are_compared_with_payloads(points: list[Point]) -> None:
    bare = [p | {"payload_bits_per_pixel": p["bits_per_pixel"] * 0.8} if p["codec"] == "wsic" else p for p in points]
    (before, after) = (
        {row["anchor"]: row["bd"] for row in delta_rates(found) if row["metric"] == "psnr_db"}
        for found in (points, bare)
    )
    name = "avif-444-s4 without wrapping"
    assert 1 + after[name]["percent"] / 100 == pytest.approx(0.8 * (1 + before[name]["percent"] / 100), rel=0.02)
    assert after.keys() == before.keys()
    assert after["avif-444-s4"] == before["avif-444-s4"]


def test_the_envelope_is_over_all_depths(points: list[Point]) -> None:
    assert {p["depth"] for p in envelope(points, "psnr_db")} == {3}
    assert len(curves(points, "psnr_db")["wsic"].rate) == len(RATES)


@pytest.mark.parametrize(("rate", "found"), [(0.24, 0.175), (0.5, 0.5), (0.01, None)])
def test_the_best_setting_under_a_rate(points: list[Point], rate: float, found: float | None) -> None:
    best = best_under(points, rate)
    assert (best and best["bits_per_pixel"]) == found


def test_targets_say_how_far_they_were_missed(points: list[Point]) -> None:
    peer = point("minnen2018-mean", 0.3, 28.0, decode_kmac_per_px=40.0)
    rows = {row.what: row for row in targets("lung", [*points, peer], scores(0.98, 0.0))}
    missed = rows["BD-rate in psnr_db against jpeg-xl-e7"]
    assert missed.target == -58
    assert missed.distance == pytest.approx(8, abs=0.1)
    assert rows["BD-rate in psnr_db against jpeg-420"].reached is None
    assert rows["decoder MACs over minnen2018-mean's"].distance == pytest.approx(0.1 - 0.125)
    assert rows["decoder MACs over balle2018-hyperprior's"].reached is None
    assert rows["encode, slowest setting of the envelope"].distance == -50
    assert rows["decode, slowest setting of the envelope"].distance == 10
    (auc,) = (row for what, row in rows.items() if "auc" in what and "0.24" in what)
    assert auc.reached == pytest.approx(0.0035)
    assert auc.distance == pytest.approx(0.0035 - 0.01)


def test_a_set_without_targets_has_none(points: list[Point]) -> None:
    assert targets("ihc", points, None) == []


def test_figures_are_drawn(points: list[Point], tmp_path: Path) -> None:
    files = write_figures("lung", points, scores(0.98, 0.0), tmp_path)
    assert [file.name.removeprefix("rd-lung-") for file in files] == [
        "psnr.png",
        "ms-ssim.png",
        "features.png",
        "classifier.png",
    ]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)


def test_the_report_names_what_was_not_measured(points: list[Point]) -> None:
    rows = [row.__dict__ for row in targets("lung", points, None)]
    result = {
        "name": "lung",
        "about": "made up",
        "source": {"bits_per_pixel": 4.0, "jpeg_xl_bits_per_pixel": 3.25},
        "original": scores(0.98, 0.0),
        "points": points,
        "delta_rates": delta_rates(points),
        "targets": rows,
    }
    text = to_markdown({"command": "run", "sets": [result]})
    assert "| minnen2018-mean | not measured |" in text
    assert "| jpeg-xl-e7 | -50.0 |" in text
    assert "| the same as JPEG XL, lossless | 3.250 |" in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 5
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_whole_command_on_a_picture(tmp_path: Path, workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WSICOMP_DATA", raising=False)
    words = ["--sets", "ihc", "--every", "4", "--codecs", "jpeg-420,webp", "--workers", workers, "--out", str(tmp_path)]
    # As a user runs it: what workers are told to call must be found from a program that was started with -m.
    done = subprocess.run([sys.executable, "-m", "benchmarks.rd", *words], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "rd.json").read_text())
    (result,) = document["sets"]
    assert (result["tiles"], result["tile_px"]) == (4, 256)
    rates = [p["bits_per_pixel"] for p in result["points"] if p["codec"] == "jpeg-420"]
    assert len(rates) >= 6
    assert rates == sorted(rates)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("rd-ihc-ms-ssim.png", "rd-ihc-psnr.png", "rd.json", "rd.md")
    ]


def test_without_the_data_it_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WSICOMP_DATA", raising=False)
    assert command.main([]) == 2
    assert "WSICOMP_DATA" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--split", "train"], ["--every", "0"], ["--sets", "liver"]])
def test_options_that_cannot_be_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.parse(words)
    assert stopped.value.code == 2
    assert capsys.readouterr().err


def test_only_the_whole_benchmark_goes_to_the_published_results() -> None:
    assert command.parse([]).out == command.RESULTS
    for words in (["--split", "val"], ["--every", "2"], ["--codecs", "webp"], ["--sets", "lung"]):
        assert command.parse(words).out == command.LOOKS
    assert command.parse(["--split", "val", "--out", "here"]).out == Path("here")


def test_a_look_at_val_leaves_the_sets_without_splits_alone() -> None:
    assert command.parse(["--split", "val"]).sets == ("lung", "prostate")
    assert command.parse([]).sets == ("lung", "prostate", "slide", "ihc")
