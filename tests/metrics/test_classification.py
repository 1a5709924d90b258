from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, precision_score, recall_score

from wsicomp.errors import DataError
from wsicomp.metrics.classification import predict, probabilities, score, youden_threshold

# Halves, so that ties occur and sums with whole shifts are exact.
LOGITS = st.integers(-12, 12).map(lambda v: v / 2)


@st.composite
def scored(draw: st.DrawFn, min_size: int = 1) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    count = draw(st.integers(min_size, 30))
    logits = draw(arrays(np.float64, count, elements=LOGITS))
    return logits, draw(arrays(np.int64, count, elements=st.integers(0, 1)))


def test_by_hand() -> None:
    logits, labels = np.array([2.0, 1.0, -1.0, -2.0, 3.0]), np.array([1, 0, 1, 0, 1])
    scores = score(logits, labels, reference_logits=np.array([2.0, -1.0, -1.0, 2.0, 3.0]))
    assert scores.accuracy == 3 / 5
    assert scores.precision == 2 / 3
    assert scores.recall == 2 / 3
    assert scores.auc == pytest.approx(5 / 6)  # of 3 x 2 pairs only (-1, 1) is in the wrong order
    assert scores.flip_rate == 2 / 5
    expected = np.log1p(np.exp(-2)) + np.log1p(np.exp(1)) * 2 + np.log1p(np.exp(-2)) + np.log1p(np.exp(-3))
    assert scores.bce == pytest.approx(expected / 5)


@settings(deadline=None, max_examples=50)
@given(scored(), st.floats(0.05, 0.95))
def test_agrees_with_scikit_learn(case: tuple[NDArray[np.float64], NDArray[np.int64]], threshold: float) -> None:
    logits, labels = case
    scores, predicted = score(logits, labels, threshold), predict(logits, threshold)
    assert scores.accuracy == pytest.approx(accuracy_score(labels, predicted))
    assert scores.precision == pytest.approx(precision_score(labels, predicted, zero_division=0))
    assert scores.bce == pytest.approx(log_loss(labels, probabilities(logits), labels=[0, 1]))
    if labels.any():
        assert scores.recall == pytest.approx(recall_score(labels, predicted))


@settings(deadline=None, max_examples=50)
@given(scored())
def test_nothing_flips_against_itself(case: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    logits, labels = case
    assert score(logits, labels, reference_logits=logits).flip_rate == score(logits, labels).flip_rate == 0


@settings(deadline=None, max_examples=50)
@given(scored(), st.integers(-20, 20), st.sampled_from([0.25, 1.0, 8.0]))
def test_auc_sees_only_the_order(case: tuple[NDArray[np.float64], NDArray[np.int64]], shift: int, scale: float) -> None:
    logits, labels = case
    assert score(logits * scale + shift, labels).auc == score(logits, labels).auc


@settings(deadline=None, max_examples=50)
@given(scored())
def test_swapping_the_classes_mirrors_auc_and_keeps_bce(
    case: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> None:
    logits, labels = case
    scores, mirrored = score(logits, labels), score(-logits, 1 - labels)
    assert scores.bce == pytest.approx(mirrored.bce)
    assert scores.auc == (None if mirrored.auc is None else pytest.approx(mirrored.auc))


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_auc(label: int) -> None:
    scores = score(np.array([-1.0, 1.0]), np.full(2, label))
    assert scores.auc is None
    assert scores.recall == (0.5 if label else None)


def test_no_predicted_positives_is_precision_zero() -> None:
    assert score(np.array([-1.0, -2.0]), np.array([1, 0])).precision == 0


def test_huge_logits_stay_finite() -> None:
    scores = score(np.array([1e4, -1e4]), np.array([0, 1]))
    assert scores.bce == 1e4
    assert probabilities(np.array([-1e4, 1e4])).tolist() == [0, 1]


def test_a_probability_at_the_threshold_is_positive() -> None:
    assert predict(np.array([0.0]), 0.5).tolist() == [True]


@settings(deadline=None, max_examples=50)
@given(scored(min_size=2))
def test_calibration_is_the_best_of_all_thresholds(case: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    logits, labels = case
    labels[:2] = (0, 1)
    threshold = youden_threshold(logits, labels)
    best = max(balanced_accuracy_score(labels, logits >= cut) for cut in [*logits, logits.max() + 1])
    found = balanced_accuracy_score(labels, predict(logits, threshold))
    assert found == pytest.approx(best)
    assert 0 < threshold < 1
    if balanced_accuracy_score(labels, predict(logits, 0.5)) == pytest.approx(best):
        assert threshold == 0.5


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        ([2.0, 4.0], [0, 1], 3.0),
        ([-4.0, -2.0], [0, 1], -3.0),
        ([-3.0, 1.0], [0, 1], 0.0),  # 0.5 is as good as the middle at -1
        ([-4.0, -3.0, -2.0, -1.0], [0, 1, 0, 1], -1.5),  # as good as -3.5, and nearer
    ],
)
def test_calibration_by_hand(logits: list[float], labels: list[int], expected: float) -> None:
    threshold = youden_threshold(np.array(logits), np.array(labels))
    assert threshold == pytest.approx(probabilities(np.array([expected]))[0])


def test_calibration_survives_saturated_logits() -> None:
    threshold = youden_threshold(np.array([300.0, 400.0, -500.0]), np.array([0, 1, 0]))
    assert 0 < threshold < 1


@pytest.mark.parametrize("label", [0, 1])
def test_calibration_needs_both_classes(label: int) -> None:
    with pytest.raises(DataError, match="one class"):
        youden_threshold(np.array([1.0, 2.0]), np.full(2, label))


@pytest.mark.parametrize(
    ("logits", "labels", "threshold", "message"),
    [
        ([], [], 0.5, "N at least 1"),
        ([1.0], [0, 1], 0.5, "one \\(N,\\)"),
        ([np.nan], [0], 0.5, "finite"),
        ([1.0], [2], 0.5, "0 or 1"),
        ([1.0], [1], 1.0, "between 0 and 1"),
    ],
)
def test_nonsense_is_refused(logits: list[float], labels: list[int], threshold: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(np.array(logits, float), np.array(labels, int), threshold)
