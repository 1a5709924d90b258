"""Laws of the coder: lossless on every latent, close to the ideal size, and no wrong latent from a damaged stream."""

from __future__ import annotations

import constriction
import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.codec.models import CHANNELS, busy_latents, fitted, latents
from wsicomp.codec import rans
from wsicomp.codec.contexts import ContextModel
from wsicomp.codec.entropy_model import EntropyModel
from wsicomp.codec.tables import COLUMNS, MAX_BITS, MIN_BITS, FrequencyTables

OVERHEAD_BYTES = 12

Shape = tuple[int, int, int]


def shape_of(latent: NDArray[np.int16]) -> Shape:
    channels, height, width = latent.shape
    return channels, height, width


def sealed(body: bytes) -> bytes:
    """A stream whose checksum holds, whatever it is made of."""
    checksum: int = google_crc32c.value(body)
    return body + checksum.to_bytes(4, "little")


def ideal_bits(latent: NDArray[np.int16], model: EntropyModel) -> float:
    """Information of a latent by the model's own frequencies, and a byte for each escape."""
    tables, classes = model.tables, model.contexts.classify(latent).astype(np.intp)
    table = tables.index[np.arange(CHANNELS)[:, None, None], classes]
    column = latent.astype(np.int64) - tables.lowest[table] + 1
    column[(column < 1) | (column > tables.sizes[table])] = 0
    information = -np.log2(tables.frequencies[table, column] / 2**tables.bits).sum()
    return float(information) + 8 * np.count_nonzero(column == 0)


@given(latents(), st.sampled_from([1, 6]), st.sampled_from([MIN_BITS, 12, MAX_BITS]))
def test_every_latent_comes_back(latent: NDArray[np.int16], classes: int, bits: int) -> None:
    model = fitted(classes, bits)
    again = rans.decode(rans.encode(latent, model), shape_of(latent), model)
    assert again.dtype == np.int16
    assert np.array_equal(again, latent)


@given(latents(np.int8, -128, 127))
def test_int8_comes_back_as_int8(latent: NDArray[np.int16]) -> None:
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


@pytest.mark.parametrize("classes", [1, 6])
@pytest.mark.parametrize("bits", [MIN_BITS, 12, MAX_BITS])
def test_size_is_within_a_thousandth_of_the_information(classes: int, bits: int) -> None:
    model = fitted(classes, bits)
    latent = np.concatenate(busy_latents(12, seed=1), axis=1)  # 12 of (3, 16, 16) -> (3, 192, 16)
    size_bits = 8 * (len(rans.encode(latent, model)) - OVERHEAD_BYTES)
    assert size_bits == pytest.approx(ideal_bits(latent, model), rel=1e-3, abs=32)


def test_size_is_that_of_constriction() -> None:
    model = fitted(classes=1, bits=12)
    index, tables = model.tables.index[:, 0], model.tables
    low, high = (end[index][:, None, None] for end in (tables.lowest, tables.lowest + tables.sizes - 1))
    latent = np.clip(np.concatenate(busy_latents(20), axis=1), low, high)  # 20 of (3, 16, 16) -> (3, 320, 16)
    oracle = constriction.stream.stack.AnsCoder()
    for c in reversed(range(CHANNELS)):
        size = int(tables.sizes[index[c]])
        probabilities = tables.frequencies[index[c], : size + 1] / 2**tables.bits
        columns = (latent[c].ravel().astype(np.int32) - tables.lowest[index[c]] + 1).astype(np.int32)
        oracle.encode_reverse(columns, constriction.stream.model.Categorical(probabilities, perfect=False))
    ours_bits = 8 * (len(rans.encode(latent.astype(np.int16), model)) - OVERHEAD_BYTES)
    assert ours_bits == pytest.approx(oracle.num_valid_bits(), rel=1e-3, abs=64)


def test_contexts_make_streams_smaller() -> None:
    unseen = busy_latents(6, side=32, seed=99)
    sizes = [sum(len(rans.encode(latent, fitted(classes, 14))) for latent in unseen) for classes in (1, 6)]
    assert sizes[1] < 0.9 * sizes[0]


@pytest.mark.parametrize(
    ("value", "escape_bytes"),
    [(4, 1), (67, 1), (68, 2), (-64, 1), (-65, 2), (8195, 2), (8196, 3), (32767, 3), (-32768, 3)],
)
def test_an_escaped_value_costs_its_bytes(value: int, escape_bytes: int) -> None:
    # Values 0 to 3 with a quarter each, less the escape's one share: a state of 16 bits and nothing else is left over.
    counts = np.zeros((1, 1, COLUMNS), np.int64)
    counts[0, 0, :5] = [1, 256, 256, 256, 255]
    tables = FrequencyTables.from_counts(counts, np.zeros(1, np.int16), bits=10)
    model = EntropyModel(ContextModel.none(np.zeros(1, np.int16)), tables)
    stream = rans.encode(np.full((1, 1, 1), value), model)
    assert len(stream) == OVERHEAD_BYTES + escape_bytes
    assert rans.decode(stream, (1, 1, 1), model).item() == value


def slow_decode(stream: bytes, shape: Shape, model: EntropyModel) -> NDArray[np.int16]:
    """The format, symbol by symbol, in Python's integers; contexts from whatever has been decoded so far."""
    tables, latent = model.tables, np.zeros(shape, np.int16)
    states = [int.from_bytes(stream[:4], "little"), int.from_bytes(stream[4:8], "little")]
    front, back = 8, len(stream) - 4
    for k, place in enumerate(np.ndindex(shape)):
        table = int(tables.index[place[0], model.contexts.classify(latent)[place]])
        frequencies = [int(f) for f in tables.frequencies[table]]
        slot = states[k % 2] % 2**tables.bits
        column = next(j for j in range(COLUMNS) if slot < sum(frequencies[: j + 1]))
        states[k % 2] = frequencies[column] * (states[k % 2] >> tables.bits) + slot - sum(frequencies[:column])
        if states[k % 2] < 2**16:
            states[k % 2] = states[k % 2] << 16 | int.from_bytes(stream[front : front + 2], "little")
            front += 2
        value, size = int(tables.lowest[table]) + column - 1, int(tables.sizes[table])
        if column == 0:
            rest, places = 0, 0
            while True:
                back -= 1
                rest |= (stream[back] & 127) << places
                places += 7
                if stream[back] < 128:
                    break
            value = value - rest // 2 if rest % 2 else value + 1 + size + rest // 2
        latent[place] = value
    assert (front, states) == (back, [2**16, 2**16])
    return latent


@pytest.mark.parametrize("classes", [1, 6])
def test_streams_are_what_the_format_says(classes: int) -> None:
    latent = busy_latents(1, side=7, spread=30.0, seed=2)[0]
    latent[0, 0, :3] = [32767, -32768, 500]
    model = fitted(classes)
    assert np.array_equal(slow_decode(rans.encode(latent, model), shape_of(latent), model), latent)


def test_streams_of_this_format_stay_as_they_are() -> None:
    counts = np.zeros((1, 2, COLUMNS), np.int64)
    counts[0, :, 126:131] = [[1, 6, 40, 6, 1], [9, 16, 20, 16, 9]]
    gain, own_weight, cross_weight = (np.array([value], np.int32) for value in (40, 1 << 12, 1 << 6))
    contexts = ContextModel(np.zeros(1, np.int16), gain, own_weight, cross_weight, np.array([[6]], np.int32))
    model = EntropyModel(contexts, FrequencyTables.from_counts(counts, contexts.window, bits=12))
    latent = np.array([[[0, 0, 1, -1, 2], [0, 0, -2, 1, 0], [0, 0, 0, 300, 0], [1, 0, 0, -9, -1]]], np.int16)
    assert model.digest == "cbafb6c3ffe831031d3f60d215e4038d0a06502665719d05b85aab0eb077b8f8"
    assert rans.encode(latent, model).hex() == "229326155093531410281d2e0d04d27cb242c0"


# Damage. The checksum finds all of it in the field; `sealed` streams show what the decoder does without one.


@given(latents(), st.data())
def test_a_flipped_bit_is_found(latent: NDArray[np.int16], data: st.DataObject) -> None:
    stream = bytearray(rans.encode(latent, fitted()))
    bit = data.draw(st.integers(0, 8 * len(stream) - 1))
    stream[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match="checksum"):
        rans.decode(bytes(stream), shape_of(latent), fitted())


@given(latents(), st.data())
def test_a_stream_cut_short_is_found(latent: NDArray[np.int16], data: st.DataObject) -> None:
    stream = rans.encode(latent, fitted())
    cut = data.draw(st.integers(0, len(stream) - 1))
    with pytest.raises(ValueError, match=r"checksum|cut short"):
        rans.decode(stream[:cut], shape_of(latent), fitted())


@given(st.binary(min_size=8, max_size=400), st.tuples(st.just(CHANNELS), st.integers(0, 12), st.integers(0, 12)))
def test_any_bytes_under_a_good_checksum_decode_or_are_refused(body: bytes, shape: Shape) -> None:
    for classes in (1, 6):
        try:
            latent = rans.decode(sealed(body), shape, fitted(classes))
        except ValueError as error:
            assert str(error) == "a coded latent was made with other tables, or is of another shape"  # noqa: PT017
        else:
            assert latent.shape == shape


@given(latents().filter(lambda latent: latent.size > 0), st.data())
def test_cut_and_flipped_bodies_under_a_good_checksum_never_escape(
    latent: NDArray[np.int16], data: st.DataObject
) -> None:
    body = bytearray(rans.encode(latent, fitted())[:-4])
    for _ in range(data.draw(st.integers(0, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    body = body[: data.draw(st.integers(8, len(body)))]
    try:
        again = rans.decode(sealed(bytes(body)), shape_of(latent), fitted())
    except ValueError:
        return
    assert again.shape == latent.shape


@pytest.mark.parametrize("extra", [b"\0", b"\0\0", b"\x80", b"\xff" * 8])
def test_bytes_too_many_are_found(extra: bytes) -> None:
    latent = busy_latents(1)[0]
    body = rans.encode(latent, fitted())[:-4]
    with pytest.raises(ValueError, match="other tables, or is of another shape"):
        rans.decode(sealed(body + extra), shape_of(latent), fitted())


def test_an_escape_beyond_int16_is_found() -> None:
    latent = np.full((3, 1, 1), 32767, np.int16)
    body = bytearray(rans.encode(latent, fitted())[:-4])
    assert body[-1] > 127
    body[-2] |= 1
    body[-1] |= 127
    body[-3] |= 127
    with pytest.raises(ValueError, match="other tables"):
        rans.decode(sealed(bytes(body)), (3, 1, 1), fitted())


@pytest.mark.parametrize("seed", range(8))
def test_a_stream_of_other_tables_is_found(seed: int) -> None:
    latent = busy_latents(1, seed=seed)[0]
    stream = rans.encode(latent, fitted())
    for other in (fitted(classes=1), fitted(seed=5), fitted(bits=13)):
        with pytest.raises(ValueError, match="other tables, or is of another shape"):
            rans.decode(stream, shape_of(latent), other)


@pytest.mark.parametrize("shape", [(3, 16, 15), (3, 15, 16), (3, 16, 17), (3, 32, 16), (3, 0, 0), (3, 1, 1)])
def test_a_stream_of_another_shape_is_found(shape: Shape) -> None:
    stream = rans.encode(busy_latents(1)[0], fitted())
    with pytest.raises(ValueError, match="other tables, or is of another shape"):
        rans.decode(stream, shape, fitted())


@pytest.mark.parametrize("data", [b"", b"\0" * 11, sealed(b""), sealed(b"\0" * 7)])
def test_what_is_too_short_for_any_latent_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="cut short"):
        rans.decode(data, (3, 1, 1), fitted())


def test_values_outside_int8_are_refused_for_int8() -> None:
    latent = np.full((3, 2, 2), 128, np.int16)
    with pytest.raises(ValueError, match="values outside int8"):
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
def test_what_is_no_latent_is_refused(latent: NDArray[np.int16], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rans.encode(latent, fitted())
