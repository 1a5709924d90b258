"""Percentile intervals by a bootstrap over groups: how far a score would move with other slides of the same kind.

    groups (N,) --> G groups, drawn with replacement R times --> counts (R, G): how often each group was drawn
    per-tile values --> sums per group (G,) --> counts @ sums --> statistic of each resample (R,) --> interval

Tiles of one slide resemble one another, so the unit that is drawn is the group, whole. A statistic of a resample is
computed from counts instead of copied tiles, and every statistic uses the same resamples: differences between two
codecs are paired by subtracting their arrays. A resample in which a statistic is undefined (NaN) is left out.
With fewer than two groups nothing is known of the spread between groups and there is no interval.

It does NOT correct the percentiles for bias or skew, and with few groups, some tens, intervals are a little narrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsicomp.metrics.classification import predict, tile_bce

__all__ = ["CONFIDENCE", "Resamples", "resample_groups", "score_distributions"]

CONFIDENCE = 0.95
"""Share of the resamples that an interval holds."""

_BLOCK_ELEMENTS = 2**20
"""Weights held at once while AUCs are computed: 8 MiB each of a few arrays."""


@dataclass(frozen=True)
class Resamples:
    """R resamples of G groups of N tiles.

    Parameters
    ----------
    group_index
        (N,) int64 in [0, G): the group of each tile.
    counts
        (R, G) float64, whole numbers: how often each resample holds each group; a row sums to G.
    """

    group_index: NDArray[np.int64]
    counts: NDArray[np.float64]

    def sums(self, values: ArrayLike) -> NDArray[np.float64]:
        """Sum of a per-tile value over each resample: (N,) -> (R,) float64."""
        per_tile = np.asarray(values, dtype=np.float64)
        per_group = np.bincount(self.group_index, weights=per_tile, minlength=self.counts.shape[1])
        totals: NDArray[np.float64] = self.counts @ per_group
        return totals

    def means(self, values: ArrayLike) -> NDArray[np.float64]:
        """Mean of a per-tile value over each resample: (N,) -> (R,) float64; every tile weighs the same."""
        return self.sums(values) / self.sums(np.ones(len(self.group_index)))

    def aucs(self, scores: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Area under the ROC curve of each resample, ties counted half; NaN where one class is missing.

        A resample's AUC is that of the original tiles weighted by how often their group was drawn, so one sort of
        the scores serves all resamples.

        Parameters
        ----------
        scores
            (N,) float64.
        labels
            (N,) 0 or 1.

        Returns
        -------
        (R,) float64 in [0, 1] or NaN.
        """
        order = np.argsort(scores, kind="stable")
        ties = np.flatnonzero(np.append(True, np.diff(scores[order]) > 0))  # where each run of equal scores begins
        positive = labels[order] == 1
        aucs = np.full(len(self.counts), np.nan)
        for block in self._blocks():
            weights = self.counts[block][:, self.group_index[order]]  # (B, N)
            positives = np.add.reduceat(weights * positive, ties, axis=1)  # (B, distinct scores)
            negatives = np.add.reduceat(weights * ~positive, ties, axis=1)
            below = np.cumsum(negatives, axis=1) - negatives
            wins = (positives * (below + 0.5 * negatives)).sum(axis=1)
            pairs = positives.sum(axis=1) * negatives.sum(axis=1)
            np.divide(wins, pairs, out=aucs[block], where=pairs > 0)
        return aucs

    def interval(self, values: NDArray[np.float64]) -> tuple[float, float] | None:
        """95 % percentile interval of a statistic's values over the resamples.

        Parameters
        ----------
        values
            (R,) float64; NaN where the statistic is undefined.

        Returns
        -------
        Its low and its high end, or None with fewer than two groups or no defined value.
        """
        defined = values[~np.isnan(values)]
        if self.counts.shape[1] < 2 or not defined.size:
            return None
        low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return float(low), float(high)

    def _blocks(self) -> Iterator[slice]:
        step = max(_BLOCK_ELEMENTS // max(len(self.group_index), 1), 1)
        return (slice(start, start + step) for start in range(0, len(self.counts), step))


def resample_groups(groups: ArrayLike, *, n_resamples: int = 1000, seed: int = 0) -> Resamples:
    """Draw whole groups with replacement, as many as there are.

    Parameters
    ----------
    groups
        (N,) names, one per tile, N at least 1: the slide, patient or original that the tile was cut from.
    n_resamples
        How many resamples, at least 1.
    seed
        Seed of the draw; the same seed and groups give the same resamples.

    Raises
    ------
    ValueError
        If there are no tiles or no resamples.
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if not names.size or n_resamples < 1:
        raise ValueError(f"a bootstrap needs tiles and resamples, not {names.size} groups and {n_resamples} resamples")
    drawn = np.random.default_rng(seed).integers(names.size, size=(n_resamples, names.size))
    cells = drawn + names.size * np.arange(n_resamples)[:, None]
    counts = np.bincount(cells.ravel(), minlength=n_resamples * names.size).reshape(n_resamples, names.size)
    return Resamples(index.astype(np.int64), counts.astype(np.float64))


def score_distributions(
    resamples: Resamples,
    logits: NDArray[np.float64],
    labels: NDArray[np.int64],
    threshold: float,
    reference_logits: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """Every statistic of `classification.Scores` on every resample, by the same definitions.

    Parameters
    ----------
    resamples
        From `resample_groups` on the same N tiles.
    logits, labels, threshold, reference_logits
        As `classification.score` takes them.

    Returns
    -------
    For each statistic's name, (R,) float64; NaN where it is undefined.
    """
    positive, predicted = labels == 1, predict(logits, threshold)
    hits, n_predicted, n_positive = (resamples.sums(a) for a in (predicted & positive, predicted, positive))
    return {
        "bce": resamples.means(tile_bce(logits, labels)),
        "accuracy": resamples.means(predicted == positive),
        "precision": np.divide(hits, n_predicted, out=np.zeros_like(hits), where=n_predicted > 0),
        "recall": np.divide(hits, n_positive, out=np.full_like(hits, np.nan), where=n_positive > 0),
        "auc": resamples.aucs(logits, labels),
        "flip_rate": resamples.means(predicted != predict(reference_logits, threshold)),
    }
