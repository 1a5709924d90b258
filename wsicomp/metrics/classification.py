"""Scores of a two-class classifier: loss, accuracy, precision, recall, AUC and flipped predictions.

    logits (N,) --> probs = sigmoid(logits) --> predictions = probs >= threshold --> counts --> Scores
    logits of validation tiles --> youden_threshold --> the threshold to use beside 0.5

Divisions by zero have one meaning everywhere, in the bootstrap too: precision is 0 where nothing is predicted
positive; recall without positive labels, and AUC with one class only, are undefined (None, or NaN in an array).
It does NOT choose the tiles and gives no intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicomp.errors import DataError

__all__ = ["Scores", "auc", "predict", "probabilities", "score", "tile_bce", "youden_threshold"]


@dataclass(frozen=True)
class Scores:
    """Scores of one set of logits against the labels.

    Parameters
    ----------
    bce
        Mean binary cross-entropy in nats, at least 0; independent of the threshold.
    accuracy
        Share of right predictions.
    precision
        Share of predicted positives that are positive; 0 where nothing is predicted positive.
    recall
        Share of positives that are predicted so; None where there are none.
    auc
        Area under the ROC curve, ties counted half; None with one class only; independent of the threshold.
    flip_rate
        Share of predictions that differ from those of the reference at the same threshold.
    """

    bce: float
    accuracy: float
    precision: float
    recall: float | None
    auc: float | None
    flip_rate: float


def probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sigmoid of logits without overflow: (N,) float64 -> (N,) float64 in [0, 1]."""
    small = np.exp(-np.abs(logits))
    probs: NDArray[np.float64] = np.where(logits >= 0, 1.0, small) / (1.0 + small)
    return probs


def predict(logits: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Predictions, (N,) bool: positive where the probability is at least the threshold.

    Raises
    ------
    ValueError
        If the threshold is not a probability strictly between 0 and 1.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"a threshold is a probability between 0 and 1, not {threshold}")
    positive: NDArray[np.bool_] = probabilities(logits) >= threshold
    return positive


def tile_bce(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Binary cross-entropy of each tile in nats, (N,) float64, stable for any finite logit."""
    losses: NDArray[np.float64] = np.logaddexp(0.0, logits) - labels * logits
    return losses


def score(
    logits: NDArray[np.float64],
    labels: NDArray[np.int64],
    threshold: float = 0.5,
    reference_logits: NDArray[np.float64] | None = None,
) -> Scores:
    """Score logits against labels, and against the predictions on the originals.

    Parameters
    ----------
    logits
        (N,) float64, finite, N at least 1.
    labels
        (N,) 0 or 1.
    threshold
        Probability from which a tile counts as positive.
    reference_logits
        (N,) float64, the same tiles' logits on the originals; None compares the logits with themselves.

    Raises
    ------
    ValueError
        If shapes, labels, logits or the threshold cannot be.
    """
    _check(logits, labels)
    if reference_logits is not None:
        _check(reference_logits, labels)
    positive = labels == 1
    predicted = predict(logits, threshold)
    reference = predicted if reference_logits is None else predict(reference_logits, threshold)
    hits, n_predicted, n_positive = (int(np.count_nonzero(a)) for a in (predicted & positive, predicted, positive))
    return Scores(
        bce=float(tile_bce(logits, labels).mean()),
        accuracy=float((predicted == positive).mean()),
        precision=hits / n_predicted if n_predicted else 0.0,
        recall=hits / n_positive if n_positive else None,
        auc=auc(logits, labels),
        flip_rate=float((predicted != reference).mean()),
    )


def auc(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float | None:
    """Area under the ROC curve, ties counted half; None where the labels, (N,) 0 or 1, are of one class only."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, logits)) if 0 < np.count_nonzero(labels) < len(labels) else None


def youden_threshold(logits_val: NDArray[np.float64], labels_val: NDArray[np.int64]) -> float:
    """Threshold with the best balanced accuracy on validation tiles (Youden, 1950), as a probability in (0, 1).

    Candidates are 0.5, the middle, in logits, between each two neighbouring logits, and one beyond either end; of
    equally good ones the nearest to 0.5 is taken.

    Parameters
    ----------
    logits_val
        (N,) float64, finite: logits of validation tiles, never of those that are reported.
    labels_val
        (N,) 0 or 1, both present.

    Raises
    ------
    ValueError
        If shapes, labels or logits cannot be.
    DataError
        If the validation tiles hold one class only.
    """
    _check(logits_val, labels_val)
    negatives, positives = (np.sort(probabilities(logits_val[labels_val == label])) for label in (0, 1))
    if not (negatives.size and positives.size):
        raise DataError("a threshold cannot be calibrated: the validation tiles hold one class only; give both")
    distinct = np.unique(logits_val)
    middles = distinct[:-1] + np.diff(distinct) / 2
    candidates = probabilities(np.concatenate([distinct[:1] - 1, middles, distinct[-1:] + 1, [0.0]]))
    # Confident networks saturate: what rounds to 0 or 1 is no threshold.
    candidates = candidates[(candidates > 0) & (candidates < 1)]
    # With `>=`, a tile is negative where it lies strictly below the threshold.
    specificity = np.searchsorted(negatives, candidates, side="left") / negatives.size
    recall = 1 - np.searchsorted(positives, candidates, side="left") / positives.size
    youden = specificity + recall
    # Rounding must not break a tie: the sums are multiples of 1 / (n_negative n_positive).
    best = candidates[youden >= youden.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - 0.5))])


def _check(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    if logits.ndim != 1 or logits.shape != labels.shape or not logits.size:
        raise ValueError(f"logits {logits.shape} and labels {labels.shape} must be one (N,), N at least 1")
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
