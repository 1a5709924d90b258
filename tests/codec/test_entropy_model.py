"""Laws of entropy models: what they count, which class they choose, what names them, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from tests.codec.models import (
    CHANNELS,
    SLICES,
    Latent,
    blind_scales,
    busy_latents,
    fitted,
    formula_tables,
    latents,
    random_scales,
    senseless,
    sensible_scales,
)
from wsicomp.codec.entropy_model import EntropyModel, count_symbols, logistic_counts
from wsicomp.codec.kernels import TABLES
from wsicomp.codec.tables import COLUMNS, FrequencyTables


def slow_costs(latent: Latent, model: EntropyModel) -> list[float]:
    """Bits of the first pass in each class, an escape at 16 more."""
    tables, costs = model.tables, []
    for tile_class in range(model.scales.classes):
        chosen = model.scales.tables(latent, tile_class)
        total = 0.0
        for c, y, x in np.ndindex(SLICES[0], *latent.shape[1:]):
            if (y + x) % 2 == 0:
                table = int(chosen[c, y, x])
                column = int(latent[c, y, x]) - int(tables.lowest[table]) + 1
                escaped = not 1 <= column <= tables.sizes[table]
                share = float(tables.frequencies[table, 0 if escaped else column]) / 2**tables.bits
                total += 16 * escaped - np.log2(share)
        costs.append(total)
    return costs


@settings(max_examples=60)
@given(latents())
def test_the_cheapest_class_is_chosen(latent: Latent) -> None:
    for model in (fitted(), senseless(1)):
        costs = slow_costs(latent, model)
        rounding = latent[0].size * 2**-8
        assert costs[model.classify(latent)] <= min(costs) + rounding


def test_quiet_and_busy_latents_are_of_different_classes() -> None:
    quiet, busy = np.zeros((CHANNELS, 8, 8), np.int16), np.full((CHANNELS, 8, 8), 30, np.int16)
    assert (fitted().classify(quiet), fitted().classify(busy)) == (0, 2)


def test_white_fields_and_later_slices_do_not_choose_the_class() -> None:
    latent = np.zeros((CHANNELS, 8, 8), np.int16)
    latent[1:] = 99
    latent[0, 1::2, ::2] = latent[0, ::2, 1::2] = 99
    assert fitted().classify(latent) == 0


def test_symbols_are_counted_by_table() -> None:
    training = [*busy_latents(3, spread=40.0), busy_latents(1, side=5)[0]]
    training[0][:, 0, 0] = 128, -128, 32767
    expected = np.zeros((TABLES, COLUMNS), np.int64)
    for latent in training:
        tables = fitted().scales.tables(latent, fitted().classify(latent))
        for table, value in zip(tables.ravel(), latent.ravel(), strict=True):
            expected[table, int(value) + 128 if abs(int(value)) <= 127 else 0] += 1
    assert expected[:, 0].sum() >= 3
    np.testing.assert_array_equal(count_symbols(training, fitted()), expected)


@pytest.mark.parametrize("number", [0, 10, 20, 30, 40, 47])
def test_a_table_starts_as_the_logistic_distribution_of_its_scale(number: int) -> None:
    scale = 2.0 ** (number / 4 - 5)
    counts = logistic_counts(scale)
    assert 0 <= int(counts.sum()) - 2**20 <= 16  # what rounding gave too much, and the escape has one at least
    assert counts[0] >= 1
    assert counts[1:].tolist() == counts[:0:-1].tolist()
    assert counts[128 + 1] / 2**20 == pytest.approx(
        1 / (1 + np.exp(-1.5 / scale)) - 1 / (1 + np.exp(-0.5 / scale)), abs=1e-6
    )
    tails = 2 / (1 + np.exp(min(127.5 / scale, 700)))
    assert counts[0] / 2**20 == pytest.approx(tails, abs=2e-4)


def test_a_table_that_training_does_not_use_keeps_its_distribution_and_the_others_learn() -> None:
    latent = np.zeros((CHANNELS, 32, 32), np.int16)
    biases = np.full((1, 2 * CHANNELS), 28 << 14, np.int32)
    fit = EntropyModel.fit(blind_scales(SLICES, biases), [latent] * 50)
    prior = FrequencyTables.from_counts(
        np.stack([logistic_counts(2.0 ** (k / 4 - 5)) for k in range(TABLES)]), -127, bits=14
    )
    same = (fit.tables.frequencies == prior.frequencies).all(axis=1)
    assert np.flatnonzero(~same).tolist() == [28]
    share_of_zero = fit.tables.frequencies[28, 1 - int(fit.tables.lowest[28])] / 2**14
    assert share_of_zero > 0.97


def test_fitted_tables_cost_less_than_the_logistic_ones() -> None:
    unseen = busy_latents(6, seed=99)
    prior = EntropyModel.fit(sensible_scales(), [], bits=12)

    def bits(model: EntropyModel) -> float:
        counts = count_symbols(unseen, model)
        columns = np.arange(-127, 128)[None] - model.tables.lowest[:, None] + 1
        inside = (columns > 0) & (columns <= model.tables.sizes[:, None])
        shares = np.take_along_axis(model.tables.frequencies, np.where(inside, columns, 0), 1) / 2**12
        return float(-(counts[:, 1:] * np.log2(shares)).sum())

    assert bits(fitted()) < 0.995 * bits(prior)


# Names.


def test_the_digest_is_of_the_numbers_and_stays_what_it_is() -> None:
    biases = (np.arange(12, dtype=np.int32) << 16).reshape(2, 6)
    model = EntropyModel(blind_scales(SLICES, biases), formula_tables())
    assert model.digest == "de5abed3eec6a801c32ef2758b15ab471d0a2e028d702a0c74c64cabcf9db09a"
    again = EntropyModel.from_arrays({name: np.array(array) for name, array in model.arrays().items()})
    assert again.digest == model.digest


@pytest.mark.parametrize("field", ["spatial", "inner", "mixing", "outer"])
def test_another_network_has_another_digest(field: str) -> None:
    model = fitted()
    array = getattr(model.scales, field).copy()
    array.flat[-1] += 1
    other = EntropyModel(replace(model.scales, **{field: array}), model.tables)
    assert other.digest != model.digest


def test_other_tables_and_slices_have_another_digest() -> None:
    biases = np.zeros((1, 6), np.int32)
    models = [EntropyModel(blind_scales(slices, biases), formula_tables()) for slices in ((1, 2), (2, 1))]
    models += [EntropyModel(blind_scales((1, 2), biases), formula_tables(bits)) for bits in (11, 13)]
    frequencies = models[0].tables.frequencies.copy()
    frequencies[47, 100] += 1
    frequencies[47, 101] -= 1
    models.append(replace(models[0], tables=replace(models[0].tables, frequencies=frequencies)))
    assert len({model.digest for model in models}) == len(models)


def test_models_survive_their_arrays() -> None:
    model = fitted()
    arrays = model.arrays()
    assert all(np.issubdtype(array.dtype, np.integer) for array in arrays.values())
    assert set(arrays) == {"slices", "spatial", "inner", "mixing", "outer", "bits", "frequencies", "sizes", "lowest"}
    again = EntropyModel.from_arrays(arrays)
    assert again.digest == model.digest
    assert again.classify(busy_latents(1)[0]) == model.classify(busy_latents(1)[0])


# What is refused.


@pytest.mark.parametrize("name", fitted().arrays())
def test_a_missing_array_is_refused(name: str) -> None:
    arrays = fitted().arrays()
    del arrays[name]
    with pytest.raises(ValueError, match=f"lack the array '{name}'"):
        EntropyModel.from_arrays(arrays)


@pytest.mark.parametrize("count", [1, TABLES - 1, TABLES + 1])
def test_tables_of_another_number_are_refused(count: int) -> None:
    counts = np.ones((count, COLUMNS), np.int64)
    with pytest.raises(ValueError, match=f"{count} tables; scales choose among 48"):
        EntropyModel(fitted().scales, FrequencyTables.from_counts(counts, -127, bits=12))


@pytest.mark.parametrize(
    ("training", "bits", "message"),
    [
        ([np.zeros((2, 2, 2), np.int8)], 12, "2 channels for an entropy model of 3"),
        ([np.zeros((3, 2, 2), np.float32)], 12, "integers"),
        ([np.zeros((3, 2), np.int8)], 12, "integers"),
        ([np.full((3, 2, 2), 40_000)], 12, "do not fit int16"),
        ([], 8, "tables of 8 bits"),
        ([], 15, "tables of 15 bits"),
    ],
)
def test_what_cannot_be_fitted_is_refused(training: list[NDArray[Any]], bits: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EntropyModel.fit(random_scales(), training, bits=bits)
