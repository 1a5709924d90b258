"""Laws of contexts: they see only what has been decoded, they are worth their bits, and bad ones are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.codec.models import busy_latents, fitted, latents
from wsicomp.codec.contexts import ContextModel, count_contexts
from wsicomp.codec.entropy_model import EntropyModel
from wsicomp.codec.tables import COLUMNS


def slow_classes(latent: NDArray[np.int16], model: ContextModel) -> NDArray[np.int64]:
    """The definition, symbol by symbol, in Python's integers."""
    channels, height, width = latent.shape
    history = [[0] * width for _ in range(height)]
    result = np.zeros(latent.shape, np.int64)
    for c in range(channels):
        size = {
            (y, x): min(abs(int(latent[c, y, x]) - int(model.centre[c])), 31)
            for y in range(height)
            for x in range(width)
        }
        for y, x in size:
            around = ((4, 0, -1), (4, -1, 0), (2, -1, -1), (2, -1, 1), (1, 0, -2), (1, -2, 0))
            own = sum(weight * size.get((y + dy, x + dx), 0) for weight, dy, dx in around)
            cross = min(history[y][x], 32767)
            energy = (int(model.own_weight[c]) * own + int(model.cross_weight[c]) * cross) >> 12
            result[c, y, x] = sum(min(energy, 1023) >= int(t) for t in model.thresholds[c])
        for y, x in size:
            history[y][x] += size[y, x] * int(model.gain[c]) - (history[y][x] >> 4)
    return result


@given(latents())
def test_classes_are_those_of_the_definition(latent: NDArray[np.int16]) -> None:
    model = fitted().contexts
    assert np.array_equal(model.classify(latent), slow_classes(latent, model))


@given(st.integers(0, 3 * 16 * 16 - 1), st.integers(-500, 500), st.integers(0, 5))
def test_a_class_depends_only_on_symbols_before_its_own(place: int, value: int, seed: int) -> None:
    latent = busy_latents(1, seed=seed)[0]
    changed = latent.copy()
    changed.flat[place] = value
    model = fitted().contexts
    before, after = model.classify(latent).ravel(), model.classify(changed).ravel()
    assert np.array_equal(before[: place + 1], after[: place + 1])


def test_each_neighbour_counts() -> None:
    # A model that is all neighbours of its own, with a threshold at every energy, tells each weight apart.
    zero, one = np.zeros(1, np.int32), np.full(1, 1 << 12, np.int32)
    model = ContextModel(np.zeros(1, np.int16), zero, one, zero, np.arange(1, 20, dtype=np.int32)[None])
    seen = {}
    for dy, dx in [(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (0, 1), (1, 0), (-2, -2)]:
        latent = np.zeros((1, 5, 5), np.int16)
        latent[0, 2 + dy, 2 + dx] = -1
        seen[dy, dx] = int(model.classify(latent)[0, 2, 2])
    assert seen == {
        (0, -1): 4,
        (-1, 0): 4,
        (-1, -1): 2,
        (-1, 1): 2,
        (0, -2): 1,
        (-2, 0): 1,
        (0, 1): 0,
        (1, 0): 0,
        (-2, -2): 0,
    }


def test_quiet_and_busy_places_are_told_apart() -> None:
    classes = fitted().contexts.classify(busy_latents(1, seed=7)[0])
    assert classes[:, 4:, :6].mean() + 2 < classes[:, 4:, -6:].mean()


def test_centres_are_medians() -> None:
    assert fitted().contexts.centre.tolist() == [-5, 0, 9]


def test_fitting_twice_gives_the_same_model() -> None:
    training = busy_latents(8, seed=3)
    assert EntropyModel.fit(training).digest == EntropyModel.fit(training).digest


@given(latents())
def test_counts_count_every_symbol_once(latent: NDArray[np.int16]) -> None:
    model = fitted().contexts
    counts = count_contexts([latent, latent], model)
    assert counts.shape == (3, model.classes, COLUMNS)
    assert (counts.sum(axis=(1, 2)) == 2 * latent[0].size).all()
    known = (latent >= model.window[:, None, None]) & (latent - model.window[:, None, None].astype(np.int64) < 255)
    assert counts[..., 0].sum() == 2 * np.count_nonzero(~known)


def test_counts_stand_at_their_values() -> None:
    model = ContextModel.none(np.array([100], np.int16))
    counts = count_contexts([np.array([[[100, 100, 101, -27, -28, 227, 228]]], np.int16)], model)[0, 0]
    assert {int(i): int(counts[i]) for i in np.flatnonzero(counts)} == {0: 2, 1: 1, 128: 2, 129: 1, 255: 1}


@pytest.mark.parametrize("value", [-32768, 32767])
def test_windows_stay_within_int16(value: int) -> None:
    model = EntropyModel.fit([np.full((1, 4, 4), value, np.int16)], classes=2)
    assert -32768 <= int(model.contexts.window[0]) <= 32767 - 254


def test_a_channel_of_one_value_needs_no_contexts() -> None:
    model = ContextModel.fit([np.full((1, 8, 8), 3, np.int8)], classes=4)
    assert model.own_weight.tolist() == model.cross_weight.tolist() == [0]
    assert model.thresholds.tolist() == [[1024] * 3]


def test_a_model_survives_its_arrays() -> None:
    model = fitted()
    arrays = model.arrays()
    again = EntropyModel.from_arrays({name: array.copy() for name, array in arrays.items()})
    assert again.digest == model.digest
    assert again.arrays().keys() == arrays.keys()


@pytest.mark.parametrize("name", sorted(fitted().arrays()))
def test_the_digest_covers_every_array_and_each_is_needed(name: str) -> None:
    arrays = fitted().arrays()
    del arrays[name]
    with pytest.raises(ValueError, match=f"lack the array '{name}'"):
        EntropyModel.from_arrays(arrays)


@pytest.mark.parametrize("field", ["centre", "gain", "own_weight", "cross_weight", "thresholds"])
def test_another_model_has_another_digest(field: str) -> None:
    model = fitted()
    array = getattr(model.contexts, field).copy()
    array.flat[0] += 1
    other = EntropyModel(replace(model.contexts, **{field: array}), model.tables)
    assert other.digest != model.digest


@pytest.mark.parametrize(
    ("field", "array", "message"),
    [
        ("centre", np.zeros(3, np.int32), "centre is int32"),
        ("centre", np.zeros(0, np.int16), "centre is int16"),
        ("gain", np.zeros(3, np.int64), "gain is int64"),
        ("gain", np.full(3, 513, np.int32), "gain is not within 0 to 512"),
        ("gain", np.full(2, 1, np.int32), "gain is int32"),
        ("own_weight", np.full(3, -1, np.int32), "own_weight is not within"),
        ("own_weight", np.full(3, 2**20 + 1, np.int32), "own_weight is not within"),
        ("cross_weight", np.full(3, 2**15 + 1, np.int32), "cross_weight is not within"),
        ("cross_weight", np.zeros(3, np.float32), "cross_weight is float32"),
        ("thresholds", np.full((3, 5), 1025, np.int32), "thresholds is not within"),
        ("thresholds", np.tile(np.array([5, 4, 6, 7, 8], np.int32), (3, 1)), "do not ascend"),
        ("thresholds", np.zeros((3, 64), np.int32), "not of 1 to 64 classes"),
        ("thresholds", np.zeros(3, np.int32), "not of 1 to 64 classes"),
        ("thresholds", np.zeros((2, 5), np.int32), "thresholds is int32"),
    ],
)
def test_bad_contexts_are_refused(field: str, array: NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(fitted().contexts, **{field: array})


def test_tables_of_other_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"tables for \(3, 1\) channels and classes, contexts for \(3, 6\)"):
        EntropyModel(fitted().contexts, fitted(classes=1).tables)


@pytest.mark.parametrize(
    ("training", "classes", "message"),
    [
        ([], 4, "needs latents"),
        ([np.zeros((1, 2, 2), np.int8), np.zeros((2, 2, 2), np.int8)], 4, "same number of channels"),
        ([np.zeros((1, 0, 2), np.int8)], 4, "not empty"),
        ([np.zeros((1, 2, 2), np.float32)], 4, "integers"),
        ([np.zeros((2, 2), np.int8)], 4, "integers"),
        ([np.full((1, 2, 2), 40_000)], 4, "do not fit int16"),
        ([np.zeros((1, 2, 2), np.int8)], 0, "0 classes"),
        ([np.zeros((1, 2, 2), np.int8)], 65, "65 classes"),
    ],
)
def test_what_cannot_be_fitted_is_refused(training: list[NDArray[Any]], classes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EntropyModel.fit(training, classes=classes)
