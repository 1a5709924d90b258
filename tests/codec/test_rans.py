"""Laws of the coder: lossless on every latent, close to the ideal size, and no wrong latent from a damaged stream."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

import constriction
import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codec.models import (
    CHANNELS,
    SLICES,
    Latent,
    blind_scales,
    busy_latents,
    fitted,
    formula_scales,
    formula_tables,
    latents,
    senseless,
    sensible_scales,
)
from tests.codec.test_scales import pass_numbers
from wsicomp.codec import rans
from wsicomp.codec.entropy_model import EntropyModel
from wsicomp.codec.kernels import MAGNITUDES, TABLES, decode_latent
from wsicomp.codec.tables import COLUMNS, MAX_BITS, MIN_BITS, FrequencyTables
from wsicomp.errors import LatentError
from wsicomp.models.context import SLICES as REAL_SLICES

OVERHEAD_BYTES = 13

Shape = tuple[int, int, int]


def shape_of(latent: Latent) -> Shape:
    channels, height, width = latent.shape
    return channels, height, width


def sealed(body: bytes) -> bytes:
    """A stream whose checksum holds, whatever it is made of."""
    checksum: int = google_crc32c.value(body)
    return body + checksum.to_bytes(4, "little")


def ideal_bits(latent: Latent, model: EntropyModel) -> float:
    """Information of a latent by the model's own frequencies, and the bytes of each escape."""
    tables = model.tables
    table = model.scales.tables(latent, model.classify(latent)).astype(np.intp)
    column = latent.astype(np.int64) - tables.lowest[table] + 1
    beyond = np.maximum(-column, column - tables.sizes[table] - 1)
    escaped = (column < 1) | (column > tables.sizes[table])
    column[escaped] = 0
    information = -np.log2(tables.frequencies[table, column] / 2**tables.bits).sum()
    return float(information + 8 * (1 + (beyond >= 64) + (beyond >= 8192))[escaped].sum())


@given(latents(), st.sampled_from([1, 3]), st.sampled_from([MIN_BITS, 12, MAX_BITS]))
def test_every_latent_comes_back(latent: Latent, classes: int, bits: int) -> None:
    model = fitted(classes, bits)
    again = rans.decode(rans.encode(latent, model), shape_of(latent), model)
    assert again.dtype == np.int16
    assert np.array_equal(again, latent)


@given(latents(), st.integers(0, 30))
def test_every_latent_comes_back_by_any_model(latent: Latent, seed: int) -> None:
    model = senseless(seed)
    assert np.array_equal(rans.decode(rans.encode(latent, model), shape_of(latent), model), latent)


@pytest.mark.parametrize("depth", REAL_SLICES)
def test_latents_of_the_real_slices_come_back(depth: int) -> None:
    slices = REAL_SLICES[depth]
    model = EntropyModel(sensible_scales(slices, classes=16), formula_tables(14))
    rng = np.random.default_rng(depth)
    latent = np.rint(rng.laplace(0, rng.uniform(0, 3, (sum(slices), 1, 1)), (sum(slices), 33, 17))).astype(np.int16)
    assert np.array_equal(rans.decode(rans.encode(latent, model), shape_of(latent), model), latent)


@pytest.mark.parametrize("value", [-32768, 32767])
@pytest.mark.parametrize("slices", [(1,), (2, 1), (1,) * 16])
def test_the_extremes_come_back(value: int, slices: tuple[int, ...]) -> None:
    model = senseless(3, slices)
    latent = np.full((sum(slices), 5, 3), value, np.int16)
    assert np.array_equal(rans.decode(rans.encode(latent, model), shape_of(latent), model), latent)


@given(latents(np.int8, -128, 127))
def test_int8_comes_back_as_int8(latent: Latent) -> None:
    model = fitted()
    again = rans.decode(rans.encode(latent, model), shape_of(latent), model, dtype=np.int8)
    assert again.dtype == np.int8
    assert np.array_equal(again, latent)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.uint16])
def test_other_integer_types_are_coded_as_their_values(dtype: type[np.generic]) -> None:
    latent = np.arange(27).reshape(3, 3, 3).astype(dtype)
    assert rans.encode(latent, fitted()) == rans.encode(latent.astype(np.int16), fitted())


def test_a_view_is_coded_as_its_copy() -> None:
    latent = busy_latents(1)[0][:, ::-2, 1::3]
    assert rans.encode(latent, fitted()) == rans.encode(latent.copy(), fitted())


def test_a_latent_that_cannot_be_written_to_is_coded_as_its_copy() -> None:
    latent = busy_latents(1)[0]
    stream = rans.encode(latent, fitted())
    latent.flags.writeable = False
    assert rans.encode(latent, fitted()) == stream


def test_a_model_of_arrays_that_cannot_be_written_to_codes_the_same() -> None:
    arrays = {name: array.copy() for name, array in fitted().arrays().items()}
    for array in arrays.values():
        array.flags.writeable = False
    model, latent = EntropyModel.from_arrays(arrays), busy_latents(1)[0]
    stream = rans.encode(latent, model)
    assert stream == rans.encode(latent, fitted())
    assert np.array_equal(rans.decode(stream, shape_of(latent), model), latent)


@pytest.mark.parametrize("model", [fitted(3, MIN_BITS), fitted(1, 12), fitted(3, MAX_BITS), senseless()])
def test_size_is_within_a_thousandth_of_the_information(model: EntropyModel) -> None:
    latent = np.concatenate(busy_latents(12, seed=1), axis=1)  # 12 of (3, 16, 16) -> (3, 192, 16)
    size_bits = 8 * (len(rans.encode(latent, model)) - OVERHEAD_BYTES)
    assert size_bits == pytest.approx(ideal_bits(latent, model), rel=1e-3, abs=32)


def test_size_is_that_of_constriction() -> None:
    numbers = np.array([30, 30, 20, 26, 20, 26])  # of both colours of channel 0, then of channels 1 and 2
    model = EntropyModel(blind_scales(SLICES, (numbers[None] << 14).astype(np.int32)), fitted().tables)
    tables, chosen = model.tables, numbers[[0, 2, 3]]
    low, high = (end[chosen][:, None, None] for end in (tables.lowest, tables.lowest + tables.sizes - 1))
    latent = np.clip(np.concatenate(busy_latents(20), axis=1), low, high)  # 20 of (3, 16, 16) -> (3, 320, 16)
    oracle = constriction.stream.stack.AnsCoder()
    for c in reversed(range(CHANNELS)):
        table = chosen[c]
        probabilities = tables.frequencies[table, : tables.sizes[table] + 1] / 2**tables.bits
        columns = (latent[c].ravel().astype(np.int32) - tables.lowest[table] + 1).astype(np.int32)
        oracle.encode_reverse(columns, constriction.stream.model.Categorical(probabilities, perfect=False))
    ours_bits = 8 * (len(rans.encode(latent.astype(np.int16), model)) - OVERHEAD_BYTES)
    assert ours_bits == pytest.approx(oracle.num_valid_bits(), rel=1e-3, abs=64)


def test_what_is_around_makes_streams_smaller() -> None:
    unseen, train = busy_latents(6, side=32, seed=99, spread=20.0), busy_latents(200, spread=20.0)
    models = [EntropyModel.fit(sensible_scales(slope=slope), train) for slope in (0, 1.5)]
    blind, seeing = (sum(len(rans.encode(latent, model)) for latent in unseen) for model in models)
    assert seeing < 0.92 * blind


@pytest.mark.parametrize(
    ("value", "escape_bytes"),
    [(4, 1), (67, 1), (68, 2), (-64, 1), (-65, 2), (8195, 2), (8196, 3), (32767, 3), (-32768, 3)],
)
def test_an_escaped_value_costs_its_bytes(value: int, escape_bytes: int) -> None:
    # Values 0 to 3 with a quarter each, less the escape's one share: a state of 16 bits and nothing else is left over.
    counts = np.zeros((TABLES, COLUMNS), np.int64)
    counts[:, :5] = [1, 256, 256, 256, 255]
    tables = FrequencyTables.from_counts(counts, 0, bits=10)
    model = EntropyModel(blind_scales((1,), np.zeros((1, 2), np.int32)), tables)
    stream = rans.encode(np.full((1, 1, 1), value), model)
    assert len(stream) == OVERHEAD_BYTES + escape_bytes
    assert rans.decode(stream, (1, 1, 1), model).item() == value


def slow_decode(stream: bytes, shape: Shape, model: EntropyModel) -> Latent:
    """The format, symbol by symbol, in Python's integers; tables from whatever has been decoded so far."""
    tables, latent = model.tables, np.zeros(shape, np.int16)
    order = pass_numbers(tuple(model.scales.slices.tolist()), *shape[1:])
    states = [int.from_bytes(stream[1:5], "little"), int.from_bytes(stream[5:9], "little")]
    front, back, k = 9, len(stream) - 4, 0
    for number in range(len(model.scales.plan)):
        chosen = model.scales.tables(latent, stream[0])
        places = np.argwhere(order == number).tolist()
        for place in sorted(places, key=lambda at: (at[1], at[2], at[0])):
            table = int(chosen[tuple(place)])
            frequencies: list[int] = tables.frequencies[table].tolist()
            slot = states[k % 2] % 2**tables.bits
            column = next(j for j, end in enumerate(accumulate(frequencies)) if slot < end)
            states[k % 2] = frequencies[column] * (states[k % 2] >> tables.bits) + slot - sum(frequencies[:column])
            if states[k % 2] < 2**16:
                states[k % 2] = states[k % 2] << 16 | int.from_bytes(stream[front : front + 2], "little")
                front += 2
            value, size = int(tables.lowest[table]) + column - 1, int(tables.sizes[table])
            if column == 0:
                rest, shift = 0, 0
                while True:
                    back -= 1
                    rest |= (stream[back] & 127) << shift
                    shift += 7
                    if stream[back] < 128:
                        break
                value = value - rest // 2 if rest % 2 else value + 1 + size + rest // 2
            latent[tuple(place)] = value
            k += 1
    assert (front, states) == (back, [2**16, 2**16])
    return latent


@pytest.mark.parametrize("model", [fitted(1), fitted(), senseless(2), senseless(4, (1, 1, 1))])
def test_streams_are_what_the_format_says(model: EntropyModel) -> None:
    latent = busy_latents(1, side=7, spread=30.0, seed=2)[0]
    latent[0, 0, :3] = [32767, -32768, 500]
    assert np.array_equal(slow_decode(rans.encode(latent, model), shape_of(latent), model), latent)


def test_streams_of_this_format_stay_as_they_are() -> None:
    model = EntropyModel(formula_scales(), formula_tables())
    latent = np.array(
        [
            [[0, 0, 1, -1, 2], [0, 0, -2, 1, 0], [0, 0, 0, 300, 0], [1, 0, 0, -9, -1]],
            [[0, 1, 0, -3, 0], [0, 0, -1, 5, 0], [0, 0, 0, -8, 1], [0, 0, -32768, 1, 0]],
        ],
        np.int16,
    )
    assert len(np.unique(model.scales.tables(latent, model.classify(latent)))) > 10
    assert model.digest == "6035c9a498ef264be9bbba5f30b1f59e92f6a4312d6ab9d32fb7d6c807099c44"
    assert rans.encode(latent, model).hex() == "00f4c40700ee2e1b1f1f6f50354c694907a01826271c0203ff8f0498d11275ba"


# Damage. The checksum finds all of it in the field; `sealed` streams show what the decoder does without one.


@given(latents(), st.data())
def test_a_flipped_bit_is_found(latent: Latent, data: st.DataObject) -> None:
    stream = bytearray(rans.encode(latent, fitted()))
    bit = data.draw(st.integers(0, 8 * len(stream) - 1))
    stream[bit // 8] ^= 1 << bit % 8
    with pytest.raises(LatentError, match="checksum"):
        rans.decode(bytes(stream), shape_of(latent), fitted())


@given(latents(), st.data())
def test_a_stream_cut_short_is_found(latent: Latent, data: st.DataObject) -> None:
    stream = rans.encode(latent, fitted())
    cut = data.draw(st.integers(0, len(stream) - 1))
    with pytest.raises(LatentError, match=r"checksum|cut short"):
        rans.decode(stream[:cut], shape_of(latent), fitted())


@given(st.binary(min_size=9, max_size=400), st.tuples(st.just(CHANNELS), st.integers(0, 12), st.integers(0, 12)))
def test_any_bytes_under_a_good_checksum_decode_or_are_refused(body: bytes, shape: Shape) -> None:
    for model in (fitted(), senseless()):
        for first in (body[0], body[0] % 3):  # seldom a class that there is
            try:
                latent = rans.decode(sealed(bytes([first]) + body[1:]), shape, model)
            except LatentError as error:
                words = "which its entropy model does not have" if first > 2 else "of another shape"
                assert str(error).endswith(words)  # noqa: PT017
            else:
                assert latent.shape == shape


@settings(max_examples=300)
@given(latents().filter(lambda latent: latent.size > 0), st.data())
def test_cut_and_flipped_bodies_under_a_good_checksum_never_escape(latent: Latent, data: st.DataObject) -> None:
    whole = rans.encode(latent, fitted())[:-4]
    body = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 3))):
        body[data.draw(st.integers(1, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    stream = sealed(bytes(body[: data.draw(st.integers(9, len(body)))]))
    try:
        again = rans.decode(stream, shape_of(latent), fitted())
    except LatentError:
        assert stream[:-4] != whole
    else:
        # What passes, an escape's own bytes for one, is a sound stream of whatever it gives.
        assert np.array_equal(again, slow_decode(stream, shape_of(latent), fitted()))


@pytest.mark.parametrize("tile_class", [3, 4, 128, 255])
def test_a_class_that_there_is_none_of_is_found(tile_class: int) -> None:
    body = rans.encode(busy_latents(1)[0], fitted())[:-4]
    with pytest.raises(LatentError, match=f"is of class {tile_class}, which its entropy model does not have"):
        rans.decode(sealed(bytes([tile_class]) + body[1:]), (3, 16, 16), fitted())


def test_another_class_is_found() -> None:
    latent = busy_latents(1)[0]
    body = rans.encode(latent, fitted())[:-4]
    assert body[0] == fitted().classify(latent)
    for tile_class in {0, 1, 2} - {body[0]}:
        with pytest.raises(LatentError, match="other tables"):
            rans.decode(sealed(bytes([tile_class]) + body[1:]), (3, 16, 16), fitted())


def test_decoding_ends_where_a_stream_that_is_cut_short_does() -> None:
    model = EntropyModel(blind_scales(SLICES, np.full((1, 2 * CHANNELS), 20 << 14, np.int32)), formula_tables())
    tables = model.tables
    latent = np.clip(busy_latents(1, side=32)[0], -4, 4)  # an escape that is missing would end it too
    body, decoded = rans.encode(latent, model)[:-4], np.full(latent.shape, 7777, np.int16)
    # The rest of the stream is still there, where a decoder that runs on would read it.
    stream, cut = np.frombuffer(body[1:] + bytes(2 * CHANNELS + 2), np.uint8).copy(), len(body) // 4
    damaged = decode_latent(
        stream,
        cut,
        *model.scales.network,
        MAGNITUDES,
        body[0],
        tables.spans,
        tables.lookup,
        tables.lowest,
        tables.sizes,
        tables.bits,
        decoded,
    )
    assert damaged
    assert 0.1 < (decoded != 7777).mean() < 0.5


@pytest.mark.parametrize("extra", [b"\0", b"\0\0", b"\x80", b"\xff" * 8])
def test_bytes_too_many_are_found(extra: bytes) -> None:
    latent = busy_latents(1)[0]
    body = rans.encode(latent, fitted())[:-4]
    with pytest.raises(LatentError, match="other tables, or is of another shape"):
        rans.decode(sealed(body + extra), shape_of(latent), fitted())


def test_an_escape_beyond_int16_is_found() -> None:
    latent = np.full((3, 1, 1), 32767, np.int16)
    body = bytearray(rans.encode(latent, fitted())[:-4])
    assert body[-1] > 127
    body[-2] |= 1
    body[-1] |= 127
    body[-3] |= 127
    with pytest.raises(LatentError, match="other tables"):
        rans.decode(sealed(bytes(body)), (3, 1, 1), fitted())


@pytest.mark.parametrize("seed", range(8))
def test_a_stream_of_other_tables_is_found(seed: int) -> None:
    latent = busy_latents(1, seed=seed)[0]
    stream = rans.encode(latent, fitted())
    for other in (fitted(seed=5), fitted(bits=13), senseless(), replace(fitted(), tables=fitted(seed=5).tables)):
        with pytest.raises(LatentError, match="other tables, or is of another shape"):
            rans.decode(stream, shape_of(latent), other)


@pytest.mark.parametrize("shape", [(3, 16, 15), (3, 15, 16), (3, 16, 17), (3, 32, 16), (3, 0, 0), (3, 1, 1)])
def test_a_stream_of_another_shape_is_found(shape: Shape) -> None:
    stream = rans.encode(busy_latents(1)[0], fitted())
    with pytest.raises(LatentError, match="other tables, or is of another shape"):
        rans.decode(stream, shape, fitted())


@pytest.mark.parametrize("data", [b"", b"\0" * 12, sealed(b""), sealed(b"\0" * 8)])
def test_what_is_too_short_for_any_latent_is_refused(data: bytes) -> None:
    with pytest.raises(LatentError, match="cut short"):
        rans.decode(data, (3, 1, 1), fitted())


def test_values_outside_int8_are_refused_for_int8() -> None:
    latent = np.full((3, 2, 2), 128, np.int16)
    with pytest.raises(LatentError, match="values outside int8"):
        rans.decode(rans.encode(latent, fitted()), (3, 2, 2), fitted(), dtype=np.int8)


@pytest.mark.parametrize(
    ("latent", "message"),
    [
        (np.zeros((2, 4, 4), np.int8), "2 channels for an entropy model of 3"),
        (np.zeros((4, 4), np.int8), "integers"),
        (np.zeros((3, 4, 4), np.float32), "integers"),
        (np.full((3, 4, 4), 32768), "do not fit int16"),
    ],
)
def test_what_is_no_latent_is_refused(latent: Latent, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rans.encode(latent, fitted())
