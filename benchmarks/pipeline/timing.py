"""Interleaved runs, and what is made of their times: a ratio for each round, median and spread, a fitted exponent.

What is compared runs in turns, so that a machine that slows down slows down both; a ratio is of one round's times, and
what is reported is the median of the rounds' ratios with the smallest and the largest.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

__all__ = ["Row", "Seconds", "Target", "exponent", "interleaved", "ratios", "timed", "walls"]

T = TypeVar("T")


class Seconds(NamedTuple):
    """What a run took: by the clock on the wall, and of CPU by all threads together."""

    wall: float
    cpu: float


def timed(run: Callable[[], object]) -> Callable[[], Seconds]:
    """Make a run return its seconds."""

    def seconds() -> Seconds:
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        return Seconds(time.perf_counter() - wall, time.process_time() - cpu)

    return seconds


def walls(seconds: Mapping[str, Sequence[Seconds]]) -> dict[str, list[float]]:
    """Wall time of every round, case by case."""
    return {name: [each.wall for each in rounds] for name, rounds in seconds.items()}


def interleaved(cases: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Return what each case gave in each round; all run once before, for what is loaded or compiled but once.

    Each round begins with another case, so that none always comes after the same one.
    """
    names = list(cases)
    for case in cases.values():
        case()
    found: dict[str, list[T]] = {name: [] for name in names}
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            found[name].append(cases[name]())
    return found


def ratios(over: Sequence[float], under: Sequence[float]) -> tuple[float, ...]:
    """Ratio of each round."""
    return tuple(a / b for a, b in zip(over, under, strict=True))


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Exponent k of cost = c * size**k, by least squares in the logarithms; 1 is linear.

    Raises
    ------
    ValueError
        If there are fewer than two sizes, or one is not positive.
    """
    if len(set(sizes)) < 2 or min(*sizes, *costs) <= 0:
        raise ValueError("an exponent needs two sizes, and costs above zero")
    return statistics.linear_regression([math.log(size) for size in sizes], [math.log(cost) for cost in costs]).slope


@dataclass(frozen=True)
class Target:
    """What a ratio is to reach; None leaves a side open."""

    at_least: float | None = None
    at_most: float | None = None

    def reached(self, value: float) -> bool:
        """Tell whether a value lies within."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def missed_by(self, value: float) -> float:
        """Relative distance from the nearer side, 0 within."""
        if self.at_least is not None and value < self.at_least:
            return 1 - value / self.at_least
        if self.at_most is not None and value > self.at_most:
            return value / self.at_most - 1
        return 0.0

    def __str__(self) -> str:
        match self.at_least, self.at_most:
            case None, None:
                return ""
            case None, most:
                return f"at most {most:g}"
            case least, None:
                return f"at least {least:g}"
            case least, most:
                return f"{least:g} to {most:g}"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Parameters
    ----------
    key
        Name of the row, unique.
    what, against
        What is compared, in words.
    rounds
        Ratio of each round; None is not measured.
    target
        What is to be reached.
    values
        Medians behind the ratio, by name with unit.
    note
        What a reader must know besides.
    """

    key: str
    what: str
    against: str
    rounds: tuple[float, ...] | None
    target: Target = Target()
    values: dict[str, float] = field(default_factory=dict)
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Put the row into JSON values, those of the ratio null where it is not measured."""
        ratio = statistics.median(self.rounds) if self.rounds else None
        return {
            "key": self.key,
            "what": self.what,
            "against": self.against,
            "ratio": None if ratio is None else _rounded(ratio),
            "spread": [_rounded(min(self.rounds)), _rounded(max(self.rounds))] if self.rounds else None,
            "rounds": len(self.rounds) if self.rounds else 0,
            "target": {"at_least": self.target.at_least, "at_most": self.target.at_most},
            "target_words": str(self.target),
            "reached": None if ratio is None else self.target.reached(ratio),
            "missed_by": None if ratio is None else _rounded(self.target.missed_by(ratio)),
            "values": {name: _rounded(value) for name, value in self.values.items()},
            "note": self.note,
        }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
