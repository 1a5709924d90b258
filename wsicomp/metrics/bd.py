"""Bjontegaard delta rate between two codecs, over a range of rates, and the envelope of a codec's settings.

    points (bits per pixel, quality) -> envelope: those that no other setting beats -> curve
    two curves -> log10 of the rate as a function of the quality, interpolated -> mean difference -> percent

The interpolators are those of the `bjontegaard` package. PCHIP is monotone like the curves themselves; an envelope over
several depths needs that, because its points lie unevenly. The package advises Akima's for regular curves (Herglotz et
al., "The Bjontegaard Bible", 2024), but it overshoots there; its result is kept as a check on the choice.

The mean is taken over the qualities at which BOTH curves cost between the two ends of the range of rates. Curves are
interpolated whole, so points outside the range shape the curve, but are not averaged over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import bjontegaard
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

__all__ = ["RATE_RANGE", "BdRate", "Curve", "bd_rate", "ms_ssim_db", "pareto"]

RATE_RANGE = (0.15, 1.0)
"""Bits per pixel, where slides are kept."""


@dataclass(frozen=True)
class Curve:
    """A rate-distortion curve: rate, bits per pixel, and quality, dB, (K,) float64 each, both strictly ascending."""

    rate: NDArray[np.float64]
    quality: NDArray[np.float64]

    @classmethod
    def envelope(cls, rate: Sequence[float], quality: Sequence[float]) -> Curve:
        """Curve of the points that `pareto` keeps."""
        kept = pareto(rate, quality)
        return cls(np.array(rate, np.float64)[kept], np.array(quality, np.float64)[kept])

    def quality_at(self, rate: float) -> float:
        """Quality at a rate, clipped to the curve's ends; the inverse of what is averaged over."""
        log_rate = np.log10(self.rate)
        if rate <= self.rate[0]:
            return float(self.quality[0])
        if rate >= self.rate[-1]:
            return float(self.quality[-1])
        (root,) = PchipInterpolator(self.quality, log_rate).solve(np.log10(rate), extrapolate=False)[:1]
        return float(root)


@dataclass(frozen=True)
class BdRate:
    """Percent of rate that the test codec takes more (or less, negative) than the anchor at equal quality.

    Parameters
    ----------
    percent
        By PCHIP.
    percent_akima
        By Akima, for comparison.
    quality_range
        The qualities averaged over, dB.
    anchor_rates
        The anchor's bits per pixel at the two; a peer that does not reach down to the range's end shows here.
    """

    percent: float
    percent_akima: float
    quality_range: tuple[float, float]
    anchor_rates: tuple[float, float]


def pareto(rate: Sequence[float], quality: Sequence[float]) -> list[int]:
    """Choose the points that no other beats in both, as indices in ascending order of rate."""
    kept: list[int] = []
    for index in sorted(range(len(rate)), key=lambda k: (rate[k], -quality[k])):
        if not kept or quality[index] > quality[kept[-1]]:
            kept.append(index)
    # Equal rates: the better one came first, and the other was dropped.
    return kept


def bd_rate(anchor: Curve, test: Curve, rates: tuple[float, float] = RATE_RANGE) -> BdRate | None:
    """Compare two curves; None where they share no quality within the range of rates, or one has a single point."""
    if min(len(anchor.rate), len(test.rate)) < 2:
        return None
    ends = [
        (curve.quality_at(rates[0]), curve.quality_at(rates[1]))
        for curve in (anchor, test)
        if curve.rate[0] < rates[1] and curve.rate[-1] > rates[0]
    ]
    if len(ends) < 2:
        return None
    low, high = max(end[0] for end in ends), min(end[1] for end in ends)
    if high <= low:
        return None
    percents = []
    for method in ("pchip", "akima"):
        _, of_anchor, of_test = bjontegaard.bd_rate(
            anchor.rate,
            anchor.quality,
            test.rate,
            test.quality,
            method=method,
            require_matching_points=False,
            interpolators=True,
            min_overlap=0,
        )
        log_ratio = (of_test.integrate(low, high) - of_anchor.integrate(low, high)) / (high - low)
        percents.append(100 * (10 ** float(log_ratio) - 1))
    at = PchipInterpolator(anchor.quality, np.log10(anchor.rate))
    return BdRate(percents[0], percents[1], (low, high), (float(10 ** at(low)), float(10 ** at(high))))


def ms_ssim_db(ms_ssim: float) -> float:
    """MS-SSIM as decibels, -10 log10(1 - MS-SSIM), in which its curves are about as straight as PSNR's."""
    return float(-10 * np.log10(max(1 - ms_ssim, 1e-10)))
