"""What the points of a set say: curves, rates against every peer, and the targets that `wsic` was set.

    points -> per codec the envelope of its settings (wsic: over depths and qualities) -> BD-rate of wsic against each
           -> points near a rate -> what the classifier loses there -> targets

Every codec is given its envelope, so a peer is never held to a setting that its others beat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.rd.learned import OWN
from benchmarks.rd.measure import Point
from wsicomp.metrics.bd import RATE_RANGE, Curve, bd_rate, ms_ssim_db, pareto
from wsicomp.models.hyperprior import PEERS

__all__ = ["METRICS", "Target", "best_under", "curves", "delta_rates", "envelope", "targets"]

METRICS = {"psnr_db": "PSNR", "ms_ssim": "MS-SSIM", "feature_distance": "features"}
"""The last one is of the frozen classifier's features: what it sees of a difference, where predictions only flip."""
HIGH_RATES = (1.0, 2.0)
WITHOUT_WRAPPING = " without wrapping"
"""Marks the curve of a codec's payload alone."""

DELTA_TARGETS = {
    ("prostate", "psnr_db"): {"jpeg-420": -63, "jpeg-xl-e7": -50, "avif-444-s4": -32},
    ("lung", "psnr_db"): {"jpeg-420": -72, "jpeg-xl-e7": -58, "avif-444-s4": -48},
    ("prostate", "ms_ssim"): {"jpeg-420": -65, "jpeg-xl-e7": -55, "avif-444-s4": -42},
}
"""Percent of rate, over `RATE_RANGE`."""
PEER_TARGETS = {"balle2018-hyperprior": -20, "minnen2018-mean": -14}
"""Percent of rate in PSNR on lung and prostate, at an eighth of the peer's decoder."""
MAC_TARGET = 1 / 8
CLASSIFIER_TARGETS = ((0.24, 0.01, 0.03), (0.5, 0.003, None))
"""Bits per pixel; largest loss of accuracy, recall and AUC; largest share of flipped predictions."""
SPEED_TARGET = 100
"""Tiles per second of one core, each way: 200 on two."""

Points = Sequence[Point]


@dataclass(frozen=True)
class Target:
    """One line of the table of targets; a `distance` above 0 is how far it was missed, None where it is unknown."""

    what: str
    target: float
    reached: float | None
    distance: float | None
    unit: str


def quality_of(point: Point, metric: str) -> float | None:
    """Quality of a point as decibels; None where it was not measured."""
    value = (point["classifier"] or {}).get(metric) if metric == "feature_distance" else point[metric]
    if value is None or metric == "psnr_db":
        return None if value is None else float(value)
    return ms_ssim_db(value if metric == "ms_ssim" else 1 - value)


def curves(points: Points, metric: str) -> dict[str, Curve]:
    """Envelope of each codec, in the order of the points; payload alone as a curve of its own, where there is one."""
    series: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        quality = quality_of(point, metric)
        if quality is None:
            continue
        series.setdefault(point["codec"], []).append((point["bits_per_pixel"], quality))
        if point["payload_bits_per_pixel"] is not None:
            name = point["codec"] + WITHOUT_WRAPPING
            series.setdefault(name, []).append((point["payload_bits_per_pixel"], quality))
    return {name: Curve.envelope(*zip(*pairs, strict=True)) for name, pairs in series.items()}


def envelope(points: Points, metric: str) -> list[Point]:
    """Choose the points of `wsic` that none of its others beats, by ascending rate."""
    own = [
        (point, quality)
        for point in points
        if point["codec"] == OWN and (quality := quality_of(point, metric)) is not None
    ]
    kept = pareto([point["bits_per_pixel"] for point, _ in own], [quality for _, quality in own])
    return [own[index][0] for index in kept]


def delta_rates(points: Points, rates: tuple[float, float] = RATE_RANGE) -> list[dict[str, Any]]:
    """BD-rate of the envelope of `wsic` against every other codec in each metric; "bd" is None where it has none.

    What comes without its wrapping is compared with `wsic` without its own.
    """
    rows = []
    for metric in METRICS:
        found = curves(points, metric)
        whole, bare = found.pop(OWN, None), found.pop(OWN + WITHOUT_WRAPPING, None)
        for name, curve in found.items():
            own = bare if name.endswith(WITHOUT_WRAPPING) and bare is not None else whole
            delta = bd_rate(curve, own, rates) if own is not None else None
            rows.append({"anchor": name, "metric": metric, "bd": asdict(delta) if delta else None})
    return rows


def best_under(points: Points, bits_per_pixel: float) -> Point | None:
    """Choose the setting of `wsic` with the best PSNR of those that cost no more than a rate; None if there is none."""
    within = [point for point in envelope(points, "psnr_db") if point["bits_per_pixel"] <= bits_per_pixel]
    return within[-1] if within else None


def targets(name: str, points: Points, original: Point | None) -> list[Target]:
    """Targets of one set, and what was reached; lower is better in all but speed."""
    rows = [
        target(f"BD-rate in {metric} against {anchor}", wanted, delta_of(points, anchor, metric), "%")
        for (of_set, metric), anchors in DELTA_TARGETS.items()
        if of_set == name
        for anchor, wanted in anchors.items()
    ]
    if name not in ("lung", "prostate"):
        return rows
    high = delta_of(points, "jpeg-xl-e7", "psnr_db", HIGH_RATES)
    rows.append(
        target(f"BD-rate in psnr_db against jpeg-xl-e7, {HIGH_RATES[0]:g} to {HIGH_RATES[1]:g} bpp", 0, high, "%")
    )
    for peer in PEERS:
        what = f"BD-rate in psnr_db against {peer}"
        rows.append(target(what, PEER_TARGETS[peer], delta_of(points, peer, "psnr_db"), "%"))
        rows.append(target(f"decoder MACs over {peer}'s", MAC_TARGET, mac_ratio(points, peer), ""))
    used = in_range(points)
    for way in ("encode", "decode"):
        slowest = min((point[f"{way}_tiles_per_s"] for point in used), default=None)
        distance = None if slowest is None else SPEED_TARGET - slowest
        rows.append(Target(f"{way}, slowest setting of the envelope", SPEED_TARGET, slowest, distance, "tiles/s/core"))
    if original is not None:
        rows += classifier_targets(points, original)
    return rows


def classifier_targets(points: Points, original: Point) -> list[Target]:
    """Hold what the frozen classifier loses at the best setting under each rate against its targets."""
    rows = []
    for rate, loss, flips in CLASSIFIER_TARGETS:
        point = best_under(points, rate)
        scores = point["classifier"] if point else None
        where = f"at {rate:g} bpp" + (f" ({point['setting']}, {point['bits_per_pixel']:.3f})" if point else "")
        for name in ("accuracy", "recall", "auc"):
            known = scores is not None and None not in (scores[name], original[name])
            change = abs(original[name] - scores[name]) if scores is not None and known else None
            rows.append(target(f"classifier's {name}, change {where}", loss, change, ""))
        if flips is not None:
            rows.append(target(f"predictions flipped {where}", flips, scores["flip_rate"] if scores else None, ""))
    return rows


def target(what: str, wanted: float, reached: float | None, unit: str) -> Target:
    """Line of a target that is met from below."""
    return Target(what, wanted, reached, None if reached is None else reached - wanted, unit)


def delta_of(points: Points, anchor: str, metric: str, rates: tuple[float, float] = RATE_RANGE) -> float | None:
    """BD-rate against one anchor, percent; None where it cannot be told."""
    for row in delta_rates(points, rates):
        if row["anchor"] == anchor and row["metric"] == metric and row["bd"]:
            return float(row["bd"]["percent"])
    return None


def in_range(points: Points) -> list[Point]:
    """Points of the envelope in PSNR within `RATE_RANGE`."""
    low, high = RATE_RANGE
    return [point for point in envelope(points, "psnr_db") if low <= point["bits_per_pixel"] <= high]


def mac_ratio(points: Points, peer: str) -> float | None:
    """Divide the MACs of the costliest decoder of the envelope by a peer's."""
    peers = [point["decode_kmac_per_px"] for point in points if point["codec"] == peer]
    own = max((point["decode_kmac_per_px"] for point in in_range(points)), default=math.nan)
    return own / peers[0] if peers and not math.isnan(own) else None
