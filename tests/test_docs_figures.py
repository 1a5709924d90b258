"""Figures on the pages are those of the committed results: one number for one thing."""

from __future__ import annotations

import json
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest

from benchmarks.rd.summary import summary
from tests.docs_pages import ROOT

RESULTS = ROOT / "benchmarks" / "results"


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def result(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return document


def test_the_tables_of_rates() -> None:
    rows = summary(result("rd.json")).splitlines()
    assert "\n".join(rows) in page("docs/benchmarks.md")
    shown = [line for line in page("README.md").splitlines() if line.count("|") > 8]
    assert len(shown) > 6
    assert set(shown) <= set(rows)


SETS = {"lung": "lung, ", "prostate": "prostate, ", "slide": "CMU-1-Small-Region, ", "ihc": "immunostain (DAB), "}
PEERS = ("jpeg-420", "jpeg-xl-e7", "avif-444-s4", "avif-444-s4 without wrapping")


@pytest.mark.parametrize("name", SETS)
def test_rates_at_equal_psnr(name: str) -> None:
    found = next(one for one in result("rd.json")["sets"] if one["name"] == name)["delta_rates"]
    rates = {rate["anchor"]: rate["bd"]["percent"] for rate in found if rate["metric"] == "psnr_db" and rate["bd"]}
    cells = " | ".join(f"{rates[peer]:+.0f} %" for peer in PEERS)
    row = next(line for line in page("docs/benchmarks.md").splitlines() if line.startswith(f"| {SETS[name]}"))
    assert row.endswith(f"| {cells} |")


def test_sizes_of_the_whole_slide() -> None:
    for row in result("demo.json")["rows"][2:]:
        assert f"{row['store_bytes']:,}" in page("README.md")
        assert f"{100 * row['ratio_to_source']:.0f} %" in page("README.md")
    for row in result("demo-perticarari2023.json")["rows"]:
        sizes = f"{row['bits_per_pixel']:.3f} | {row['store_bytes']:,} | {row['ratio_to_source']:.2f}"
        quality = f"{row['psnr_db']:.2f} | {row['ssim']:.3f} | {row['ms_ssim']:.3f}"
        line = f"| {row['depth']} | {100 * row['element_ratio']:.2f} % | {sizes} | {quality} |"
        assert line in page("docs/study.md")


def scores(row: dict[str, Any]) -> str:
    """Cells from accuracy to flips, as the pages have them."""
    shares = (
        f"{100 * row[name]:.1f} [{100 * row['intervals'][name][0]:.0f}, {100 * row['intervals'][name][1]:.0f}]"
        for name in ("accuracy", "precision", "recall")
    )
    return " | ".join([*shares, f"{row['auc']:.3f}", f"{100 * row['flip_rate']:.1f} %"])


def test_scores_with_wsic() -> None:
    rows = result("wsic-lung.json")["rows"]
    assert f"| original | 24.00 |  | {scores(rows[0])} |" in page("docs/study.md")
    for row in rows[1:]:
        head = f"depth {row['depth']}, quality {row['quality']:g} | {row['bits_per_pixel']:.3f} | {row['psnr_db']:.2f}"
        assert f"| {head} | {scores(row)} |" in page("docs/study.md")


@pytest.mark.parametrize("network", ["compact", "full"])
def test_scores_of_the_founding_study(network: str) -> None:
    rows = [row for row in result("study-lung.json")["reports"][network]["rows"] if row["codec"] == "perticarari2023"]
    assert len(rows) == 4
    for row in rows:
        head = f"{row['depth']} | {100 * row['element_ratio']:.2f} % | {row['bits_per_pixel']:.2f}"
        assert f"| {head} | {row['psnr_db']:.2f} | {row['ssim']:.3f} | {scores(row)} |" in page("docs/study.md")


def test_memory_and_start() -> None:
    one, ten = result("memory.json")["rows"]
    text = " ".join(page("docs/pipelines.md").split())
    peaks = [row["encode_peak_rss_bytes"] / 1e6 for row in (one, ten)]
    assert f"peaks at {peaks[0]:.0f} and {peaks[1]:.0f} MB of resident memory at 1 and 10 gigapixels" in text
    assert {f"{row['regions_peak_rss_bytes'] / 1e6:.0f}" for row in (one, ten)} == {"568"}
    assert "reading regions at 568 MB at both" in text
    seconds = {
        row["command"]: Decimal(str(row["median_s"])).quantize(Decimal("0.01"), ROUND_HALF_UP)
        for row in result("startup.json")["rows"]
    }
    text = " ".join(page("docs/benchmarks.md").split())
    assert f"`wsicomp --help` takes {seconds['wsicomp --help']} s" in text
    assert f"`wsicomp info` {seconds['wsicomp info SLIDE']} s" in text
    assert f"`import torch` alone takes {seconds['import torch']} s" in text


def test_what_a_cluster_costs() -> None:
    found = result("cluster.json")
    text = " ".join(page("docs/pipelines.md").split())
    rows = f"in {found['shards']} shards and {found['rows_of_shards']} rows of shards"
    assert f"{found['tissue_tiles']:,} tissue tiles {rows}" in text
    wall, cpu = ([pair[f"{kind}_ratio"] for pair in found["pairs"]] for kind in ("wall", "cpu"))
    span = f"({min(cpu):.2f} to {max(cpu):.2f} in {len(cpu)} pairs)"
    assert f"takes {found['median_cpu_ratio']:.2f} times the CPU time of one process {span}" in text
    assert f"{min(wall):.2f} to {max(wall):.2f} times its wall time" in text
    assert found["stores_equal"]
