"""Laws of scales: exactly the network that the definition says, which sees only what was coded, and no bad one."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.codec.models import CHANNELS, SLICES, Latent, blind_scales, busy_latents, latents, random_scales
from wsicomp.codec.kernels import HIDDEN_LIMIT, MAGNITUDES, TABLES, TAPS, UNITS
from wsicomp.codec.scales import ScaleModel, as_int16
from wsicomp.models import context

INT32_MAX = 2**31 - 1


def pass_numbers(slices: tuple[int, ...], height: int, width: int) -> NDArray[np.int64]:
    """(C, h, w), the pass that codes each symbol."""
    colours = np.indices((height, width)).sum(axis=0) % 2
    numbers: NDArray[np.int64] = np.repeat(np.arange(len(slices)), slices)[:, None, None] * 2 + colours
    return numbers


def slow_magnitude(value: int) -> int:
    """16 log2(1 + |value|), rounded: half the number of bits of (1 + |value|)**32."""
    return int(((1 + min(abs(value), 4095)) ** 32).bit_length()) // 2


def slow_tables(latent: Latent, model: ScaleModel, tile_class: int) -> NDArray[np.int64]:
    """The definition, weight by weight over all taps, channels and units, in Python's integers."""
    _, height, width = latent.shape
    slices = tuple(model.slices.tolist())
    order = pass_numbers(slices, height, width)
    spatial, mixing = iter(model.spatial.tolist()), iter(model.mixing.tolist())
    biases = iter(model.outer[tile_class].tolist())
    result = np.full(latent.shape, -1, np.int64)
    for number in range(2 * len(slices)):
        end = sum(slices[: number // 2 + 1])
        start = end - slices[number // 2]
        bias = [next(biases) for _ in range(start, end)]
        if number:
            reach = end if number % 2 else start
            first = [[[next(spatial) for _ in range(UNITS)] for _ in range(reach)] for _ in range(TAPS)]
            second = [[next(mixing) for _ in range(start, end)] for _ in range(UNITS)]
        for y, x in np.argwhere(order[start] == number).tolist():
            sums = list(bias)
            if number:
                hidden = model.inner[number - 1, tile_class].tolist()
                for tap in range(TAPS):
                    row, col = y + tap // 3 - 1, x + tap % 3 - 1
                    if not (0 <= row < height and 0 <= col < width):
                        continue
                    for channel in range(reach):
                        if order[channel, row, col] < number:
                            magnitude = slow_magnitude(int(latent[channel, row, col]))
                            for unit in range(UNITS):
                                hidden[unit] += magnitude * first[tap][channel][unit]
                for unit in range(UNITS):
                    active = min(max(hidden[unit] >> 8, 0), 32767)
                    for n in range(end - start):
                        sums[n] += active * second[unit][n]
            for n, total in enumerate(sums):
                result[start + n, y, x] = min(max((total + 2**13) >> 14, 0), 47)
    assert next(spatial, None) is next(mixing, None) is next(biases, None) is None
    return result


def assert_tables(latent: Latent, model: ScaleModel, tile_class: int) -> None:
    found = model.tables(latent, tile_class)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, slow_tables(latent, model, tile_class))


@settings(max_examples=30, deadline=None)
@given(latents(), st.integers(0, 2), st.integers(0, 50))
def test_tables_are_those_of_the_definition(latent: Latent, tile_class: int, seed: int) -> None:
    assert_tables(latent, random_scales(seed=seed), tile_class)


@pytest.mark.parametrize("slices", [(1,), (3,), (1, 1), (2, 1, 3), (1, 2, 1, 2), (1,) * 16])
@pytest.mark.parametrize("size", [(0, 0), (0, 3), (3, 0), (1, 1), (1, 2), (2, 1), (3, 5), (4, 4)])
def test_tables_are_those_of_the_definition_for_all_slices_and_sizes(
    slices: tuple[int, ...], size: tuple[int, int]
) -> None:
    if len(slices) > 4 and size[0] * size[1] > 2:
        size = (2, 1)
    latent = np.random.default_rng(1).integers(-6, 7, (sum(slices), *size)).astype(np.int16)
    assert_tables(latent, random_scales(slices, seed=2), 1)


@pytest.mark.parametrize("value", [-32768, -32767, -4096, -4095, 4094, 4095, 32767])
def test_the_largest_symbols_count_as_the_definition_says(value: int) -> None:
    assert_tables(np.full((CHANNELS, 3, 4), value, np.int16), random_scales(), 2)


def test_a_latent_of_the_real_slices() -> None:
    slices = context.SLICES[1]
    latent = np.rint(np.random.default_rng(0).laplace(0, 1, (sum(slices), 5, 4))).astype(np.int16)
    assert_tables(latent, random_scales(slices, classes=16), 11)


def test_random_scales_use_all_of_the_network() -> None:
    tables = random_scales().tables(np.concatenate(busy_latents(9, spread=90.0), axis=1), 1)
    assert set(np.unique(tables[:, :, 1:])) >= {0, 10, 20, 30, 40, 47}, "tests on few tables test little"


def test_magnitudes_are_rounded_logarithms_on_every_machine() -> None:
    assert MAGNITUDES.tolist() == [slow_magnitude(n) for n in range(4096)]
    digest = "a5ec8067e685607bc05d4307165462a280aae7db0889d474be5b93f7bef85c1e"
    assert hashlib.sha256(MAGNITUDES.tobytes()).hexdigest() == digest


@pytest.mark.parametrize("depth", context.SLICES)
def test_passes_are_those_that_the_means_are_predicted_in(depth: int) -> None:
    slices = context.SLICES[depth]
    plan = blind_scales(slices, np.zeros((1, 2 * sum(slices)), np.int32)).plan
    assert list(map(tuple, plan[:, :3].tolist())) == context.passes(slices)


# What a symbol may tell, and whom.


@settings(max_examples=200)
@given(latents().filter(lambda latent: latent.size > 0), st.integers(0, 20), st.data())
def test_a_symbol_moves_tables_of_later_passes_around_it_alone(latent: Latent, seed: int, data: st.DataObject) -> None:
    model = random_scales(seed=seed)
    place = tuple(data.draw(st.integers(0, side - 1)) for side in latent.shape)
    changed = latent.copy()
    changed[place] = data.draw(st.integers(-32768, 32767))
    moved = model.tables(latent, 0) != model.tables(changed, 0)
    order = pass_numbers(SLICES, *latent.shape[1:])
    _, rows, cols = np.indices(latent.shape)
    near = (abs(rows - place[1]) <= 1) & (abs(cols - place[2]) <= 1)
    assert not moved[(order <= order[place]) | ~near].any()


@pytest.mark.parametrize(
    ("place", "later"),
    [
        ((0, 2, 2), {1, 2, 3}),  # slice 0, black: seen by the white fields beside it and by all of slice 1
        ((0, 2, 3), {2, 3}),  # slice 0, white
        ((1, 2, 2), {3}),  # slice 1, black
        ((1, 2, 3), set()),  # slice 1, white
    ],
)
def test_every_later_pass_does_see_it(place: tuple[int, int, int], later: set[int]) -> None:
    quiet, busy = np.zeros((CHANNELS, 5, 6), np.int16), np.zeros((CHANNELS, 5, 6), np.int16)
    busy[place] = 40
    order, moved = pass_numbers(SLICES, 5, 6), np.zeros(quiet.shape, bool)
    for seed in range(8):
        model = random_scales(seed=seed)
        moved |= model.tables(quiet, 0) != model.tables(busy, 0)
    assert set(order[moved].tolist()) == later
    for number in later:
        seen = moved & (order == number)
        own = number == order[place] + 1  # of its own slice, the four fields beside it
        assert seen.any(axis=0).sum() == (4 if own else 5 if number % 2 == order[place] % 2 else 4)


def test_signs_tell_nothing() -> None:
    latent = busy_latents(1)[0]
    np.testing.assert_array_equal(random_scales().tables(latent, 0), random_scales().tables(-latent, 0))


def test_a_class_has_biases_of_its_own() -> None:
    latent, model = busy_latents(1)[0], random_scales()
    tables = [model.tables(latent, tile_class) for tile_class in range(model.classes)]
    assert all((a != b).any(axis=(1, 2)).all() for a, b in pairwise(tables))


@pytest.mark.parametrize("outer", [-(2**31), -1, 2**13 - 1, 2**13, 2**31 - 2**13 - 1, 2**31 - 2**13, INT32_MAX])
def test_the_first_pass_takes_its_class_alone(outer: int) -> None:
    biases = np.zeros((2, 2 * CHANNELS), np.int32)
    biases[1, 0] = outer
    model = blind_scales(SLICES, biases)
    first = model.first_tables()
    assert first.shape == (2, SLICES[0])
    assert first[:, 0].tolist() == [0, min(max((outer + 2**13) >> 14, 0), TABLES - 1)]
    for tile_class in (0, 1):
        assert model.tables(busy_latents(1)[0], tile_class)[0, 0, 0] == first[tile_class, 0]


# What is refused.


def at_the_limit(sign: int, extra: int = 0) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """For each layer, arrays whose largest sum is one below 2**31, and `extra` more."""
    model = random_scales()
    spatial, inner, mixing, outer = (a.copy() for a in (model.spatial, model.inner, model.mixing, model.outer))
    spatial[: TAPS * SLICES[0] * UNITS] = sign * 32767  # of pass 1, which knows the first slice
    inner[0] = sign * (INT32_MAX - TAPS * SLICES[0] * 32767 * 192)
    inner[0, 1, 5] += sign * extra
    mixing[: UNITS * SLICES[0]] = sign * 2047
    outer[:, SLICES[0] : 2 * SLICES[0]] = sign * (INT32_MAX - UNITS * 2047 * HIDDEN_LIMIT)
    outer[2, SLICES[0]] += sign * extra
    return {"spatial": spatial, "inner": inner}, {"mixing": mixing, "outer": outer}


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_that_just_fit_are_exact(sign: int) -> None:
    first, second = at_the_limit(sign)
    second["inner"] = random_scales().inner.copy()
    second["inner"][0] = 2**24  # more than any hidden unit holds
    for arrays in (first, second):
        assert_tables(np.full((CHANNELS, 3, 3), -32768, np.int16), replace(random_scales(), **arrays), 2)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("layer", "name"), [(0, "first"), (1, "second")])
def test_sums_that_could_leave_int32_are_refused(layer: int, name: str, sign: int) -> None:
    with pytest.raises(ValueError, match=f"the {name} layer's sums may leave int32"):
        replace(random_scales(), **at_the_limit(sign, 1)[layer])


def test_the_lowest_bias_is_no_small_number() -> None:
    model = random_scales()
    inner, outer = model.inner.copy(), model.outer.copy()
    inner[1, 0, 0] = outer[0, 5] = -(2**31)
    changes: tuple[dict[str, Any], ...] = ({"inner": inner}, {"outer": outer})
    for change in changes:
        with pytest.raises(ValueError, match="may leave int32"):
            replace(model, **change)


@pytest.mark.parametrize(
    ("field", "array", "message"),
    [
        ("slices", np.array([1, 2], np.int64), "slices is int64"),
        ("slices", np.array([], np.int32), "slices is int32"),
        ("slices", np.array([[1, 2]], np.int32), "slices is int32"),
        ("slices", np.array([0, 3], np.int32), "slices of"),
        ("slices", np.array([-1, 4], np.int32), "slices of"),
        ("slices", np.array([1, 4096], np.int32), "slices of"),
        ("slices", np.array([2**31 - 1, 2**31 - 1], np.int32), "slices of"),
        ("slices", np.ones(17, np.int32), "slices of"),
        ("slices", np.array([2, 1], np.int32), "weights are not of these slices"),
        ("slices", np.array([3], np.int32), "inner is"),
        ("spatial", np.zeros(10, np.int16), "weights are not of these slices"),
        ("spatial", np.zeros(TAPS * UNITS * 5, np.int32), "spatial is int32"),
        ("spatial", np.zeros((TAPS * UNITS * 5, 1), np.int16), "spatial is int16"),
        ("mixing", np.zeros(UNITS * 5 + 1, np.int16), "weights are not of these slices"),
        ("mixing", np.zeros(UNITS * 5, np.float32), "mixing is float32"),
        ("inner", np.zeros((3, 0, UNITS), np.int32), "inner is int32"),
        ("inner", np.zeros((3, 256, UNITS), np.int32), "inner is"),
        ("inner", np.zeros((4, 3, UNITS), np.int32), "inner is"),
        ("inner", np.zeros((3, 3, UNITS - 1), np.int32), "inner is"),
        ("inner", np.zeros((3, 3, UNITS), np.int64), "inner is int64"),
        ("outer", np.zeros((2, 6), np.int32), "outer is"),
        ("outer", np.zeros((3, 5), np.int32), "outer is"),
        ("outer", np.zeros((3, 6), np.uint32), "outer is uint32"),
        ("outer", np.zeros(18, np.int32), "outer is int32"),
    ],
)
def test_bad_scales_are_refused(field: str, array: NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(random_scales(), **{field: array})


def test_scales_survive_their_arrays() -> None:
    model = random_scales()
    arrays = model.arrays()
    assert list(arrays) == [field.name for field in fields(ScaleModel)]
    for array in arrays.values():
        array.flags.writeable = False  # as arrays that a file is mapped to are
    again = ScaleModel.from_arrays(arrays)
    latent = busy_latents(1)[0]
    np.testing.assert_array_equal(again.tables(latent, 1), model.tables(latent, 1))
    for name in arrays:
        with pytest.raises(ValueError, match=f"lack the array '{name}'"):
            ScaleModel.from_arrays({other: array for other, array in arrays.items() if other != name})


@pytest.mark.parametrize(
    ("latent", "message"),
    [
        (np.zeros((2, 2), np.int8), "integers"),
        (np.zeros((1, 2, 2), np.float32), "integers"),
        (np.full((1, 2, 2), 32768), "do not fit int16"),
        (np.full((1, 2, 2), -32769), "do not fit int16"),
        (np.full((1, 2, 2), 2**63, np.uint64), "do not fit int16"),
    ],
)
def test_what_is_no_latent_is_refused(latent: NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_int16(latent)


def test_a_latent_is_copied_only_where_it_must_be() -> None:
    latent = busy_latents(1)[0]
    assert as_int16(latent) is latent
    fixed = latent.copy()
    fixed.flags.writeable = False
    for other in (fixed, latent[:, ::2], latent.astype(">i2"), latent.astype(np.int64)):
        made = as_int16(other)
        np.testing.assert_array_equal(made, other)
        assert made.dtype == np.dtype("=i2")
        assert made.flags.c_contiguous
        assert made.flags.writeable
