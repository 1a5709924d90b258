"""The year on paper: its arithmetic, and that it takes its rates from the results that are committed."""

from __future__ import annotations

import json

import pytest

from benchmarks.scale import RESULTS, Rates, measured, report

RATES = Rates(whole=100, read=2000, network=200, write=400, decode=50, bits_per_pixel=0.5, source_bits_per_pixel=2.0)


@pytest.fixture
def cells() -> dict[str, list[str]]:
    rows = [line.strip("|").split("|") for line in report(RATES, {"cores": 2, "cpu": "X"}).splitlines() if "|" in line]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_the_arithmetic(cells: dict[str, list[str]]) -> None:
    tiles = 8e9 / 65536 * 0.4 * (1 + 1 / 16 + 1 / 256)
    assert cells["tissue tiles of 256 px, all levels"][0] == f"{tiles:,.0f}"
    assert cells["bytes of the scanner's JPEG, at 2.00 bits per pixel, glass like tissue"] == ["2.00 GB", "200 TB"]
    assert cells["hours of a two-core machine: end to end, as measured"][1] == f"{tiles * 1e5 / 100 / 3600:,.0f}"
    stored = tiles * 65536 * 0.5 / 8 / 1e9
    assert cells["bytes of the stores, at 0.50 bits per pixel of tissue"][0] == f"{stored:.2f} GB"


def test_twice_the_speed_is_half_the_hours(cells: dict[str, list[str]]) -> None:
    hours = {name: float(row[1].replace(",", "")) for name, row in cells.items() if name.startswith("hours of a two")}
    assert hours["hours of a two-core machine: network"] == pytest.approx(
        hours["hours of a two-core machine: entropy coding and writing"] * 2, rel=1e-3
    )


def test_the_rates_are_those_of_the_results() -> None:
    pipeline, rd = (json.loads((RESULTS / name).read_text()) for name in ("pipeline.json", "rd.json"))
    rates = measured(pipeline, rd)
    assert rates.whole < rates.network < rates.read
    assert 0 < rates.bits_per_pixel < rates.source_bits_per_pixel
