"""The compiled loops of the entropy coder: energies of contexts, and rANS forwards and backwards.

    energy of a symbol = (own_weight * own + cross_weight * cross) >> 12

                2 1 2 1        `own`: magnitudes of the causal neighbours in the same channel, so weighted
          TT .  . 1 .          `cross`: magnitudes at the same place in the channels before, each channel's brought to a
          TL T TR . 4 2   ...  common size by its gain, older channels fading by 1/16 per channel
        LL L  x

Only integers, so an encoder and a decoder agree on every machine. Encoding and decoding walk a latent (C, H, W) in the
same order, channel by channel and row by row; the encoder notes each symbol's span and pushes them backwards, because
rANS is a stack. Two states take turns, so that a processor works on two symbols at once (Giesen, Interleaved entropy
coders, 2014; rANS: Duda, Asymmetric numeral systems, 2013).

    stream = the two states, 4 bytes each | 16-bit words, read forwards | escaped values, read backwards

Each table is a row of `spans`: start << 16 | frequency. `classes` gives the table by channel and energy. Nothing here
checks its tables; `decode_latent` checks every read of the stream, since that may be damaged.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsicomp.codec.compiled import compiled

__all__ = [
    "CROSS_LIMIT",
    "ENERGY_BITS",
    "ENERGY_LIMIT",
    "LEFT",
    "LEFT_LEFT",
    "MAGNITUDE_LIMIT",
    "TOP",
    "TOP_CORNER",
    "TOP_TOP",
    "decode_latent",
    "push_spans",
    "scan_latent",
    "sum_neighbours",
]

Integer: TypeAlias = Any
"""Python's integers outside a compiled loop, fixed-width ones inside."""

LEFT, TOP, TOP_CORNER, LEFT_LEFT, TOP_TOP = 4, 4, 2, 1, 1
"""Weights of the causal neighbours; TOP_CORNER is of each of the two corners."""

MAGNITUDE_LIMIT = 31
"""Magnitudes count up to here."""

CROSS_LIMIT = 32_767
"""Largest `cross`; with weights of at most 2**20 and 2**15 an energy's sum stays below 2**31."""

ENERGY_BITS = 12
"""Binary places of the two weights."""

ENERGY_LIMIT = 1023
"""Largest energy; whatever is above counts as this."""

FADING = 4
LOW = 1 << 16  # a state at rest; one step brings it below this at most once
DAMAGED = 1
MODEL = "i2[::1], i4[::1], i4[::1], i4[::1], u2[:,::1]"  # centre, gain, own_weight, cross_weight, tables by energy


@compiled("void(i4[:,::1], i4[:,::1], i8, i8, i8, i8[::1])")
def _start_row(
    magnitudes: NDArray[np.int32],
    history: NDArray[np.int32],
    y: Integer,
    own_weight: Integer,
    cross_weight: Integer,
    row: NDArray[np.int64],
) -> None:
    # What of a row's energies is known before the row itself is; `magnitudes` has a border: 2 above, 2 left, 1 right.
    for x in range(row.size):
        corners = magnitudes[y + 1, x + 1] + magnitudes[y + 1, x + 3]
        own = TOP * magnitudes[y + 1, x + 2] + TOP_CORNER * corners + TOP_TOP * magnitudes[y, x + 2]
        row[x] = own_weight * own + cross_weight * min(history[y, x], CROSS_LIMIT)


@compiled("void(i2[::1], i8, i4[::1])")
def _measure(values: NDArray[np.int16], centre: Integer, magnitudes: NDArray[np.int32]) -> None:
    # One row; its two places on the left stay zero.
    for x in range(values.size):
        magnitudes[x + 2] = min(abs(np.int64(values[x]) - centre), MAGNITUDE_LIMIT)


@compiled("void(i4[:,::1], i8, i4[:,::1])")
def _remember(magnitudes: NDArray[np.int32], gain: Integer, history: NDArray[np.int32]) -> None:
    height, width = history.shape
    for y in range(height):
        for x in range(width):
            history[y, x] += magnitudes[y + 2, x + 2] * gain - (history[y, x] >> FADING)


@compiled("void(i2[:,:,::1], i2[::1], i4[::1], i4[:,:,::1], i4[:,:,::1])")
def sum_neighbours(
    latent: NDArray[np.int16],
    centre: NDArray[np.int16],
    gain: NDArray[np.int32],
    own: NDArray[np.int32],
    cross: NDArray[np.int32],
) -> None:
    """Fill `own` and `cross` (C, H, W) int32 for a latent (C, H, W) int16."""
    channels, height, width = latent.shape
    magnitudes = np.zeros((height + 2, width + 3), np.int32)
    history = np.zeros((height, width), np.int32)
    row = np.zeros(width, np.int64)
    for c in range(channels):
        for y in range(height):
            _measure(latent[c, y], np.int64(centre[c]), magnitudes[y + 2])
            _start_row(magnitudes, history, y, 1, 0, row)
            for x in range(width):
                left = LEFT * magnitudes[y + 2, x + 1] + LEFT_LEFT * magnitudes[y + 2, x]
                own[c, y, x] = row[x] + left
                cross[c, y, x] = min(history[y, x], CROSS_LIMIT)
        _remember(magnitudes, np.int64(gain[c]), history)


@compiled(f"i8(i2[:,:,::1], {MODEL}, u4[:,::1], i2[::1], i8[::1], u4[::1], u1[::1])")
def scan_latent(
    latent: NDArray[np.int16],
    centre: NDArray[np.int16],
    gain: NDArray[np.int32],
    own_weight: NDArray[np.int32],
    cross_weight: NDArray[np.int32],
    classes: NDArray[np.uint16],
    spans: NDArray[np.uint32],
    lowest: NDArray[np.int16],
    sizes: NDArray[np.int64],
    coded: NDArray[np.uint32],
    escapes: NDArray[np.uint8],
) -> Integer:
    """Find the span of every symbol of a latent, in coding order.

    Parameters
    ----------
    latent
        (C, H, W) int16.
    coded
        (C * H * W,) uint32, filled with spans.
    escapes
        (3 * C * H * W,) uint8, filled with what the tables do not cover, in reading order.

    Returns
    -------
    Bytes of `escapes` in use.
    """
    channels, height, width = latent.shape
    magnitudes = np.zeros((height + 2, width + 3), np.int32)
    history = np.zeros((height, width), np.int32)
    row = np.zeros(width, np.int64)
    contextual = bool((own_weight | cross_weight).any())
    place, escaped = np.uint64(0), np.uint64(0)
    for c in range(channels):
        weight, across = np.int64(own_weight[c]), np.int64(cross_weight[c])
        with_contexts = bool(weight | across)
        table = np.uint64(classes[c, 0])
        for y in range(height):
            if contextual:
                _measure(latent[c, y], np.int64(centre[c]), magnitudes[y + 2])
            if with_contexts:
                _start_row(magnitudes, history, y, weight, across, row)
            for x in range(width):
                if with_contexts:
                    near = weight * (LEFT * magnitudes[y + 2, x + 1] + LEFT_LEFT * magnitudes[y + 2, x])
                    table = np.uint64(classes[c, np.uint64(min((row[x] + near) >> ENERGY_BITS, ENERGY_LIMIT))])
                column = np.int64(latent[c, y, x]) - lowest[table] + 1
                if column < 1 or column > sizes[table]:
                    rest = (-column << 1) | 1 if column < 1 else (column - sizes[table] - 1) << 1
                    while rest > 127:
                        escapes[escaped] = (rest & 127) | 128
                        escaped += np.uint64(1)
                        rest >>= 7
                    escapes[escaped] = rest
                    escaped += np.uint64(1)
                    column = 0
                coded[place] = spans[table, np.uint64(column)]
                place += np.uint64(1)
        if contextual:
            _remember(magnitudes, np.int64(gain[c]), history)
    return np.int64(escaped)


@compiled("i8(u4[::1], i8, u1[::1])")
def push_spans(coded: NDArray[np.uint32], bits: Integer, stream: NDArray[np.uint8]) -> Integer:
    """Code spans from the last to the first, filling `stream` from its end; the states come to lie in front.

    Parameters
    ----------
    coded
        (K,) uint32 spans of tables that sum to 2**bits.
    stream
        (2 * K + 8,) uint8 at least.

    Returns
    -------
    Where in `stream` the result begins.
    """
    mask, word, shift = np.uint64(0xFFFF), np.uint64(16), np.uint64(bits)
    first, second = np.uint64(LOW), np.uint64(LOW)
    place = np.uint64(stream.size)
    for k in range(coded.size - 1, -1, -1):
        frequency = np.uint64(coded[k]) & mask
        state = second
        if state >= frequency << (np.uint64(32) - shift):
            place -= np.uint64(2)
            stream[place] = state & np.uint64(0xFF)
            stream[place + np.uint64(1)] = (state >> np.uint64(8)) & np.uint64(0xFF)
            state >>= word
        quotient = np.uint64(np.uint32(state) // np.uint32(frequency))
        state = (quotient << shift) + (state - quotient * frequency) + (np.uint64(coded[k]) >> word)
        second, first = first, state
    for k in range(4):
        stream[place - np.uint64(8 - k)] = (first >> np.uint64(8 * k)) & np.uint64(0xFF)
        stream[place - np.uint64(4 - k)] = (second >> np.uint64(8 * k)) & np.uint64(0xFF)
    return np.int64(place) - 8


@compiled("u8(i8, i8)")
def _coarse_shift(buckets: Integer, bits: Integer) -> Integer:
    shift = bits
    while buckets > 1:
        buckets >>= 1
        shift -= 1
    return np.uint64(shift)


@compiled("u8(u1[:,::1], u4[:,::1], u8, u8, u8)")
def _find(
    lookup: NDArray[np.uint8], spans: NDArray[np.uint32], table: Integer, slot: Integer, coarse: Integer
) -> Integer:
    # The last column that starts at or before a slot. Within a bucket that is mostly the first column or the next.
    column = np.uint64(lookup[table, slot >> coarse])
    column += np.uint64(np.uint64(spans[table, column + np.uint64(1)] >> np.uint64(16)) <= slot)
    while np.uint64(spans[table, column + np.uint64(1)] >> np.uint64(16)) <= slot:
        column += np.uint64(1)
    return column


@compiled("UniTuple(i8, 2)(u1[::1], i8, i8, i8, i8)")
def _escaped(
    stream: NDArray[np.uint8], front: Integer, back: Integer, lowest: Integer, size: Integer
) -> tuple[Integer, Integer]:
    # The value and where its bytes begin, or -1 for bytes that are not there or not of an int16.
    rest, places = np.int64(0), np.int64(0)
    while True:
        back -= 1
        if back < front or places > 14:
            return 0, -1
        rest |= np.int64(stream[back] & 127) << places
        places += 7
        if stream[back] < 128:
            break
    value = lowest - 1 - (rest >> 1) if rest & 1 else lowest + size + (rest >> 1)
    return (value, back) if -32768 <= value <= 32767 else (0, -1)


@compiled(f"i8(u1[::1], i8, {MODEL}, u4[:,::1], u1[:,::1], i2[::1], i8[::1], i8, i2[:,:,::1])")
def decode_latent(
    stream: NDArray[np.uint8],
    end: Integer,
    centre: NDArray[np.int16],
    gain: NDArray[np.int32],
    own_weight: NDArray[np.int32],
    cross_weight: NDArray[np.int32],
    classes: NDArray[np.uint16],
    spans: NDArray[np.uint32],
    lookup: NDArray[np.uint8],
    lowest: NDArray[np.int16],
    sizes: NDArray[np.int64],
    bits: Integer,
    latent: NDArray[np.int16],
) -> Integer:
    """Decode a stream into `latent` (C, H, W) int16.

    Parameters
    ----------
    stream
        uint8: the stream and at least 2 * W + 2 bytes more, so that one row can be read before the end is checked.
    end
        Length of the stream itself, at least 8.

    Returns
    -------
    0, or 1 if the stream is not one of such a latent coded with these tables; `latent` is then without meaning.
    """
    channels, height, width = latent.shape
    magnitudes = np.zeros((height + 2, width + 3), np.int32)
    history = np.zeros((height, width), np.int32)
    row = np.zeros(width, np.int64)
    contextual = bool((own_weight | cross_weight).any())
    mask, word, shift = np.uint64((1 << bits) - 1), np.uint64(16), np.uint64(bits)
    low, short, coarse = np.uint64(LOW), np.uint64(0xFFFF), _coarse_shift(lookup.shape[1], bits)
    first, second = np.uint64(0), np.uint64(0)
    for k in range(4):
        first |= np.uint64(stream[k]) << np.uint64(8 * k)
        second |= np.uint64(stream[4 + k]) << np.uint64(8 * k)
    front, back = np.uint64(8), np.int64(end)
    for c in range(channels):
        weight, across = np.int64(own_weight[c]), np.int64(cross_weight[c])
        middle = np.int64(centre[c])
        with_contexts = bool(weight | across)
        table = np.uint64(classes[c, 0])
        for y in range(height):
            if with_contexts:
                _start_row(magnitudes, history, y, weight, across, row)
            left = left_left = np.int64(0)
            for x in range(width):
                if with_contexts:
                    near = weight * (LEFT * left + LEFT_LEFT * left_left)
                    table = np.uint64(classes[c, np.uint64(min((row[x] + near) >> ENERGY_BITS, ENERGY_LIMIT))])
                slot = first & mask
                column = _find(lookup, spans, table, slot, coarse)
                span = np.uint64(spans[table, column])
                state = (span & short) * (first >> shift) + slot - (span >> word)
                refill = np.uint64(stream[front]) | np.uint64(stream[front + np.uint64(1)]) << np.uint64(8)
                if state < low:
                    state = (state << word) | refill
                    front += np.uint64(2)
                first, second = second, state
                value = np.int64(lowest[table]) + np.int64(column) - 1
                if column == 0:
                    value, back = _escaped(stream, np.int64(front), back, np.int64(lowest[table]), sizes[table])
                    if back < 0:
                        return DAMAGED
                latent[c, y, x] = value
                if with_contexts:
                    left_left, left = left, np.int64(min(abs(int(value) - int(middle)), MAGNITUDE_LIMIT))
            if np.int64(front) > back:
                return DAMAGED
            if contextual:
                _measure(latent[c, y], middle, magnitudes[y + 2])
        if contextual:
            _remember(magnitudes, np.int64(gain[c]), history)
    return 0 if first == low and second == low and np.int64(front) == back else DAMAGED
