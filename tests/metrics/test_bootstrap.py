from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsicomp.evaluation.report import STATISTICS
from wsicomp.metrics.bootstrap import Resamples, resample_groups, score_distributions
from wsicomp.metrics.classification import score


def spelled_out(resamples: Resamples, row: int) -> NDArray[np.intp]:
    """Indices of a resample's tiles, each as often as its group was drawn."""
    return np.repeat(np.arange(len(resamples.group_index)), resamples.counts[row][resamples.group_index].astype(int))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.integers(1, 6), st.sampled_from([0.3, 0.5]))
def test_every_statistic_equals_that_of_the_copied_tiles(
    seed: int, count: int, n_groups: int, threshold: float
) -> None:
    rng = np.random.default_rng(seed)
    logits, reference = rng.integers(-4, 5, (2, count)) / 2.0  # ties
    labels, groups = rng.integers(0, 2, count), rng.integers(0, n_groups, count).astype(str)
    resamples = resample_groups(groups, n_resamples=8, seed=seed)
    distributions = score_distributions(resamples, logits, labels, threshold, reference)
    assert tuple(distributions) == STATISTICS
    for row in range(8):
        copies = spelled_out(resamples, row)
        expected = score(logits[copies], labels[copies], threshold, reference[copies])
        for name, values in distributions.items():
            value = getattr(expected, name)
            assert values[row] == pytest.approx(np.nan if value is None else value, nan_ok=True), name


def test_whole_groups_are_drawn_as_many_as_there_are() -> None:
    resamples = resample_groups(["a", "b", "b", "c", "a"], n_resamples=50, seed=1)
    assert resamples.group_index.tolist() == [0, 1, 1, 2, 0]
    assert resamples.counts.shape == (50, 3)
    assert set(resamples.counts.sum(axis=1)) == {3}
    assert resamples.counts.max() > 1


def test_draws_are_even() -> None:
    counts = resample_groups(np.arange(20), n_resamples=4000, seed=0).counts
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.1)
    np.testing.assert_allclose(counts.var(axis=0), 0.95, atol=0.15)  # binomial, 20 draws of 1 in 20


def test_the_seed_decides() -> None:
    groups = np.arange(30)
    one, same, other = (resample_groups(groups, n_resamples=20, seed=seed).counts for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_means_weigh_tiles_alike_though_groups_differ_in_size() -> None:
    resamples = Resamples(np.array([0, 0, 0, 1]), np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]]))
    np.testing.assert_allclose(resamples.means([1, 1, 1, 5]), [2, 1, 5])


def width(values: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    resamples = resample_groups(groups, n_resamples=1000, seed=0)
    interval = resamples.interval(resamples.means(values))
    assert interval is not None
    return interval[1] - interval[0]


def test_identical_members_widen_the_interval_as_theory_says() -> None:
    of_groups = np.random.default_rng(0).integers(0, 2, 40).astype(np.float64)
    values, groups = np.repeat(of_groups, 10), np.repeat(np.arange(40), 10)
    clustered, naive = width(values, groups), width(values, np.arange(400))
    assert clustered / naive == pytest.approx(np.sqrt(10), rel=0.15)
    # Ten identical copies of a group say what one says.
    assert clustered == pytest.approx(width(of_groups, np.arange(40)))


def test_interval_agrees_with_the_normal_one_and_holds_the_estimate() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    resamples = resample_groups(np.arange(400), n_resamples=2000, seed=0)
    interval = resamples.interval(resamples.means(values))
    assert interval is not None
    half = 1.96 * values.std() / 20
    assert interval == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_a_shared_shift_has_a_paired_interval_of_no_width() -> None:
    values = np.random.default_rng(2).normal(size=50)
    resamples = resample_groups(np.arange(50) // 5, n_resamples=200, seed=0)
    interval = resamples.interval(resamples.means(values) - resamples.means(values - 0.25))
    assert interval is not None
    assert interval == pytest.approx((0.25, 0.25))


def test_undefined_resamples_are_left_out() -> None:
    resamples = resample_groups(["a", "b"], n_resamples=100, seed=0)
    aucs = resamples.aucs(np.array([0.0, 1.0]), np.array([0, 1]))
    missing = int((resamples.counts == 2).any(axis=1).sum())  # one slide drawn twice: one class
    assert 20 < missing < 80
    interval = resamples.interval(aucs)
    assert np.isnan(aucs).sum() == missing
    assert interval == (1, 1)


def test_no_interval_from_one_group_or_from_nothing_defined() -> None:
    one = resample_groups(["a", "a"], n_resamples=10)
    assert one.interval(one.means([0, 1])) is None
    two = resample_groups(["a", "b"], n_resamples=10)
    assert two.interval(np.full(10, np.nan)) is None


def test_blocks_of_resamples_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=60), rng.integers(0, 2, 60)
    resamples = resample_groups(np.arange(60) // 3, n_resamples=17, seed=0)
    whole = resamples.aucs(scores, labels)
    monkeypatch.setattr("wsicomp.metrics.bootstrap._BLOCK_ELEMENTS", 120)
    np.testing.assert_array_equal(resamples.aucs(scores, labels), whole)


@pytest.mark.parametrize(("groups", "n_resamples"), [([], 10), (["a"], 0)])
def test_nothing_to_draw_is_refused(groups: list[str], n_resamples: int) -> None:
    with pytest.raises(ValueError, match="needs tiles and resamples"):
        resample_groups(groups, n_resamples=n_resamples)
