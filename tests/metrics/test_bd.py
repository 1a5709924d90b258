from __future__ import annotations

import numpy as np
import pytest

from wsicomp.metrics.bd import Curve, bd_rate, ms_ssim_db, pareto

RATES = np.array([0.08, 0.12, 0.2, 0.33, 0.5, 0.8, 1.3, 2.0])
QUALITIES = 30 + 6 * np.log2(RATES) + 0.4 * RATES


def curve(factor: float) -> Curve:
    return Curve(RATES * factor, QUALITIES)


@pytest.mark.parametrize("factor", [0.9, 1.1, 0.5])
def test_a_curve_of_a_tenth_fewer_bits_has_a_delta_rate_of_minus_ten_percent(factor: float) -> None:
    found = bd_rate(curve(1.0), curve(factor))
    assert found is not None
    assert found.percent == pytest.approx(100 * (factor - 1), abs=0.01)
    assert found.percent_akima == pytest.approx(100 * (factor - 1), abs=0.01)


def test_only_the_range_of_rates_counts() -> None:
    # Twice as good above 1 bit per pixel, where nothing is averaged.
    better = Curve(np.where(RATES > 1.1, RATES * 0.5 + 0.5, RATES), QUALITIES)
    whole, part = bd_rate(curve(1.0), better, (0.1, 2.0)), bd_rate(curve(1.0), better, (0.15, 0.6))
    assert whole is not None
    assert part is not None
    assert whole.percent < -2
    assert abs(part.percent) < 0.5


def test_the_qualities_averaged_over_are_those_that_both_reach_within_the_range() -> None:
    found = bd_rate(curve(1.0), curve(0.5))
    assert found is not None
    # At the best quality the anchor costs 1.0, at the worst the test costs 0.15 and so the anchor 0.3.
    assert found.anchor_rates == pytest.approx((0.3, 1.0), rel=1e-6)


@pytest.mark.parametrize(
    "other",
    [
        Curve(RATES + 1.0, QUALITIES),  # never within the range
        Curve(RATES, QUALITIES + 40),  # no quality in common
        Curve(RATES[:1], QUALITIES[:1]),
    ],
)
def test_curves_that_cannot_be_compared_have_no_delta_rate(other: Curve) -> None:
    assert bd_rate(curve(1.0), other) is None


def test_the_envelope_drops_dominated_points() -> None:
    rate = [0.5, 0.2, 0.4, 0.3, 0.2, 0.9]
    quality = [30.0, 25.0, 31.0, 24.0, 26.0, 32.0]
    assert pareto(rate, quality) == [4, 2, 5]
    kept = Curve.envelope(rate, quality)
    assert kept.rate.tolist() == [0.2, 0.4, 0.9]
    assert kept.quality.tolist() == [26.0, 31.0, 32.0]


def test_an_equal_point_is_kept_once() -> None:
    assert pareto([0.2, 0.2], [30.0, 30.0]) == [0]


@pytest.mark.parametrize(("value", "decibels"), [(0.9, 10.0), (0.99, 20.0), (1.0, 100.0)])
def test_ms_ssim_in_decibels(value: float, decibels: float) -> None:
    assert ms_ssim_db(value) == pytest.approx(decibels)
