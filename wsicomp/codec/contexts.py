"""Which of a few contexts a symbol is in, told from the magnitudes of symbols decoded before it.

    own, cross (see `kernels`) -> energy = (own_weight * own + cross_weight * cross) >> 12 -> thresholds -> 0..N-1

Where the image is quiet, so are all channels; where a channel was busy a pixel ago, it is likely to be so again. A
context is a class of such energies, and each has its table. Weights and thresholds are a channel's own, are integers,
and are stored; a channel for which contexts do not pay keeps weights of zero and a single class.

`fit` chooses them on training latents: for each channel a few mixtures of `own` and `cross` are tried, and for each the
cut of its energies into classes that leaves the least entropy is found by dynamic programming. It computes entropies in
float64, once; what it found is integers, and nothing that codes or decodes sees a float. No tables are built here: see
`tables`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wsicomp.codec.kernels import ENERGY_BITS, ENERGY_LIMIT, MAGNITUDE_LIMIT, sum_neighbours
from wsicomp.codec.tables import COLUMNS

__all__ = ["ContextModel", "as_int16", "count_contexts"]

MAX_CLASSES = 64
MAX_GAIN = 512
MAX_OWN_WEIGHT, MAX_CROSS_WEIGHT = 1 << 20, 1 << 15

USUAL_MAGNITUDE = 32  # of a channel after its gain
OWN_NEIGHBOURS = 14  # sum of the causal neighbours' weights
HISTORY_CHANNELS = 16  # that the fading history is worth
BUSY = 4  # an energy scale reaches this many times a channel's mean at half its range
RATIOS = (0.0, 0.5, 2.0, 4.0, 8.0, 16.0, 64.0)  # of cross to own at a channel's mean
CLASS_COST_BITS = 64.0  # what a further class must save on the training latents

_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, eq=False)
class ContextModel:
    """The contexts of C channels, N classes each.

    Parameters
    ----------
    centre
        (C,) int16, the value whose magnitude is 0: a channel's median.
    gain
        (C,) int32 in 0..512, what brings a channel's magnitudes to a common size for the channels after it.
    own_weight, cross_weight
        (C,) int32 in 0..2**20 and 0..2**15, with 12 binary places.
    thresholds
        (C, N - 1) int32 in 0..1024, ascending: a symbol's class is how many of them its energy reaches. 1024 is never
        reached.

    Raises
    ------
    ValueError
        If an array has another type, shape or range.
    """

    centre: NDArray[np.int16]
    gain: NDArray[np.int32]
    own_weight: NDArray[np.int32]
    cross_weight: NDArray[np.int32]
    thresholds: NDArray[np.int32]

    def __post_init__(self) -> None:
        if self.centre.dtype != np.int16 or self.centre.ndim != 1 or not self.centre.size:
            raise ValueError(f"centre is {self.centre.dtype} {self.centre.shape}, not int16 (C,)")
        for name, limit in (("gain", MAX_GAIN), ("own_weight", MAX_OWN_WEIGHT), ("cross_weight", MAX_CROSS_WEIGHT)):
            self._check(name, getattr(self, name), self.centre.shape, limit)
        if self.thresholds.ndim != 2 or self.thresholds.shape[1] >= MAX_CLASSES:
            raise ValueError(f"thresholds {self.thresholds.shape} are not of 1 to {MAX_CLASSES} classes")
        self._check("thresholds", self.thresholds, (self.channels, self.classes - 1), ENERGY_LIMIT + 1)
        if (np.diff(self.thresholds, axis=1) < 0).any():
            raise ValueError("thresholds do not ascend")

    @staticmethod
    def _check(name: str, array: NDArray[np.int32], shape: tuple[int, ...], limit: int) -> None:
        if array.dtype != np.int32 or array.shape != shape:
            raise ValueError(f"{name} is {array.dtype} {array.shape}, not int32 {shape}")
        if array.size and not 0 <= int(array.min()) <= int(array.max()) <= limit:
            raise ValueError(f"{name} is not within 0 to {limit}")

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return len(self.centre)

    @property
    def classes(self) -> int:
        """Number of classes N."""
        return int(self.thresholds.shape[1]) + 1

    @property
    def by_energy(self) -> NDArray[np.uint8]:
        """(C, 1024) uint8, the class of each energy."""
        energies = np.arange(ENERGY_LIMIT + 1)
        return np.stack([np.searchsorted(row, energies, side="right") for row in self.thresholds]).astype(np.uint8)

    @property
    def window(self) -> NDArray[np.int16]:
        """(C,) int16, the lowest of the 255 values around each centre that tables may hold."""
        low, high = _INT16.min, _INT16.max - (COLUMNS - 2)
        return np.clip(self.centre.astype(np.int64) - (COLUMNS - 2) // 2, low, high).astype(np.int16)

    @classmethod
    def none(cls, centre: NDArray[np.int16]) -> Self:
        """Put every symbol of a channel into one class: tables alone."""
        zeros = np.zeros(len(centre), np.int32)
        return cls(centre, zeros, zeros, zeros, np.zeros((len(centre), 0), np.int32))

    @classmethod
    def fit(cls, latents: Sequence[NDArray[np.integer[Any]]], *, classes: int = 8) -> Self:
        """Choose centres, gains, weights and thresholds on training latents.

        Parameters
        ----------
        latents
            Any number of (C, h, w) integer latents within int16, of any sizes.
        classes
            Classes per channel at most, 1 to 64.

        Raises
        ------
        ValueError
            If there are no latents, or they differ in channels, or are not integers within int16.
        """
        if not 1 <= classes <= MAX_CLASSES:
            raise ValueError(f"{classes} classes; use 1 to {MAX_CLASSES}")
        checked = [as_int16(latent) for latent in latents]
        if len({latent.shape[0] for latent in checked}) != 1:
            raise ValueError("fitting contexts needs latents, all of the same number of channels")
        flat = np.concatenate(
            [latent.reshape(latent.shape[0], -1) for latent in checked], axis=1
        )  # (C, h, w) -> (C, n)
        if not flat.size:
            raise ValueError("fitting contexts needs latents that are not empty")
        middle = (flat.shape[1] - 1) // 2
        centre = np.partition(flat, middle, axis=1)[:, middle].copy()
        if classes == 1:
            return cls.none(centre)
        means = np.minimum(np.abs(flat.astype(np.int32) - centre[:, None]), MAGNITUDE_LIMIT).mean(axis=1)
        means = np.maximum(means, USUAL_MAGNITUDE / MAX_GAIN)
        gain = np.rint(USUAL_MAGNITUDE / means).astype(np.int32)
        own, cross = _neighbours(checked, centre, gain)
        fitted = [_fit_channel(flat[c], centre[c], own[c], cross[c], means[c], classes) for c in range(len(flat))]
        weights = np.array([[own_weight, cross_weight] for own_weight, cross_weight, _ in fitted], np.int32)
        own_weight, cross_weight = np.ascontiguousarray(weights.T)  # (C, 2) -> 2 of (C,)
        return cls(centre, gain, own_weight, cross_weight, np.stack([cuts for _, _, cuts in fitted]))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild contexts from what `arrays` gave.

        Raises
        ------
        ValueError
            If an array is missing or is not what contexts need.
        """
        try:
            return cls(*(arrays[n] for n in ("centre", "gain", "own_weight", "cross_weight", "thresholds")))
        except KeyError as error:
            raise ValueError(f"contexts lack the array {error}") from None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that makes these contexts, as integer arrays for a weights file."""
        return {
            "centre": self.centre,
            "gain": self.gain,
            "own_weight": self.own_weight,
            "cross_weight": self.cross_weight,
            "thresholds": self.thresholds,
        }

    def classify(self, latent: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Class of each symbol of a latent (C, h, w), as (C, h, w) uint8."""
        own, cross = _neighbours([as_int16(latent)], self.centre, self.gain)
        by_energy = self.by_energy
        rows = [
            by_energy[c][_energy(own[c], cross[c], int(self.own_weight[c]), int(self.cross_weight[c]))]
            for c in range(self.channels)
        ]
        return np.stack(rows).reshape(latent.shape)  # (C, h * w) -> (C, h, w)


def count_contexts(latents: Iterable[NDArray[np.integer[Any]]], contexts: ContextModel) -> NDArray[np.int64]:
    """Count symbols by channel and context on training latents (C, h, w), any number and sizes.

    Returns
    -------
    (C, N, 256) int64: column 0 counts the values outside `contexts.window`, column j the value `window + j - 1`.

    Raises
    ------
    ValueError
        If a latent has other channels or is not of integers within int16.
    """
    channels, classes = contexts.channels, contexts.classes
    counts = np.zeros((channels, classes, COLUMNS), np.int64)
    start = contexts.window.astype(np.int64)[:, None, None]
    for latent in latents:
        columns = as_int16(latent).astype(np.int64) - start + 1
        columns[(columns < 1) | (columns >= COLUMNS)] = 0
        rows = np.arange(channels)[:, None, None] * classes + contexts.classify(latent)
        counts += np.bincount((rows * COLUMNS + columns).ravel(), minlength=counts.size).reshape(counts.shape)
    return counts


def as_int16(latent: NDArray[np.integer[Any]]) -> NDArray[np.int16]:
    """Bring a latent (C, h, w) of any integer type to contiguous int16.

    Raises
    ------
    ValueError
        If it has other dimensions, another type, or a value outside int16.
    """
    if latent.ndim != 3 or not np.issubdtype(latent.dtype, np.integer):
        raise ValueError(f"a latent is integers (C, h, w), not {latent.dtype} {latent.shape}")
    if latent.dtype.itemsize > 1 and latent.dtype != np.int16 and latent.size:
        low, high = int(latent.min()), int(latent.max())
        if low < _INT16.min or high > _INT16.max:
            raise ValueError(f"a latent's values {low} to {high} do not fit int16")
    return np.ascontiguousarray(latent, np.int16)


def _neighbours(
    latents: Sequence[NDArray[np.int16]], centre: NDArray[np.int16], gain: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    owns, crosses = [], []
    for latent in latents:
        if len(latent) != len(centre):
            raise ValueError(f"a latent of {len(latent)} channels for contexts of {len(centre)}")
        own, cross = np.empty(latent.shape, np.int32), np.empty(latent.shape, np.int32)
        sum_neighbours(latent, centre, gain, own, cross)
        owns.append(own.reshape(len(latent), -1))  # (C, h, w) -> (C, h * w)
        crosses.append(cross.reshape(len(latent), -1))
    return np.concatenate(owns, axis=1), np.concatenate(crosses, axis=1)


def _energy(own: NDArray[np.int32], cross: NDArray[np.int32], own_weight: int, cross_weight: int) -> NDArray[np.int64]:
    total = own.astype(np.int64) * own_weight + cross.astype(np.int64) * cross_weight
    energy: NDArray[np.int64] = np.minimum(total >> ENERGY_BITS, ENERGY_LIMIT)
    return energy


def _bin_edges() -> NDArray[np.int64]:
    # Every energy up to 8, then four bins to each doubling.
    octaves = [(4 + quarter) << octave for octave in range(1, 8) for quarter in range(4)]
    return np.array([*range(1, 8), *octaves], np.int64)


_EDGES = _bin_edges()


def _fit_channel(
    values: NDArray[np.int16],
    centre: np.int16,
    own: NDArray[np.int32],
    cross: NDArray[np.int32],
    mean: float,
    classes: int,
) -> tuple[int, int, NDArray[np.int32]]:
    # The best of a few mixtures, and its thresholds; more classes than pay are left unreachable.
    half = COLUMNS // 2
    columns = np.clip(values.astype(np.int64) - int(centre), -half, half - 1) + half
    unit = min(64.0, (ENERGY_LIMIT + 1) / (2 * BUSY * OWN_NEIGHBOURS * mean)) * (1 << ENERGY_BITS)
    usual_own, usual_cross = OWN_NEIGHBOURS * mean, HISTORY_CHANNELS * USUAL_MAGNITUDE
    mixtures = [(unit / (1 + ratio), unit / (1 + ratio) * ratio * usual_own / usual_cross) for ratio in RATIOS]
    mixtures.append((0.0, unit * usual_own / usual_cross))
    best: tuple[float, int, int, list[int]] = (float("inf"), 0, 0, [])
    for own_part, cross_part in mixtures:
        weights = min(round(own_part), MAX_OWN_WEIGHT), min(round(cross_part), MAX_CROSS_WEIGHT)
        bins = np.searchsorted(_EDGES, _energy(own, cross, *weights), side="right")
        size = (len(_EDGES) + 1) * COLUMNS
        histogram = np.bincount(bins * COLUMNS + columns, minlength=size).reshape(-1, COLUMNS)
        cost, cuts = _best_cuts(histogram, classes)
        if cost < best[0]:
            best = (cost, *weights, cuts)
    _, own_weight, cross_weight, cuts = best
    if not cuts:
        own_weight = cross_weight = 0
    thresholds = np.full(classes - 1, ENERGY_LIMIT + 1, np.int32)
    thresholds[: len(cuts)] = _EDGES[[cut - 1 for cut in cuts]]
    return own_weight, cross_weight, thresholds


def _best_cuts(histogram: NDArray[np.int64], classes: int) -> tuple[float, list[int]]:
    # Cut rows into at most `classes` runs of the least total entropy, by dynamic programming over where runs end.
    bins = len(histogram)
    below = np.concatenate([np.zeros((1, COLUMNS), np.int64), np.cumsum(histogram, axis=0)])
    cost = np.full((bins + 1, bins + 1), np.inf)
    for start in range(bins):
        cost[start, start + 1 :] = _entropy_bits(below[start + 1 :] - below[start]) + CLASS_COST_BITS
    best = np.full((classes + 1, bins + 1), np.inf)
    best[0, 0] = 0.0
    came_from = np.zeros((classes + 1, bins + 1), np.int64)
    for n in range(1, classes + 1):
        totals = best[n - 1][:, None] + cost
        came_from[n], best[n] = totals.argmin(axis=0), totals.min(axis=0)
    n, end = int(best[:, bins].argmin()), bins
    total = float(best[n, bins])
    cuts = []
    while n > 1:
        end = int(came_from[n, end])
        cuts.append(end)
        n -= 1
    return total, cuts[::-1]


def _entropy_bits(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    totals = counts.sum(axis=1)
    parts = (counts * np.log2(np.maximum(counts, 1))).sum(axis=1)
    result: NDArray[np.float64] = totals * np.log2(np.maximum(totals, 1)) - parts
    return result
