"""The compiled loops of the entropy coder: the network that chooses tables, and rANS forwards and backwards.

    a latent (C, H, W) is walked pass by pass, row by row, position by position, channel by channel of the pass's slice

Only integers, so an encoder and a decoder agree on every machine. The encoder notes each symbol's span and pushes them
backwards, because rANS is a stack. Two states take turns, so that a processor works on two symbols at once (Giesen,
Interleaved entropy coders, 2014; rANS: Duda, Asymmetric numeral systems, 2013).

    stream = the two states, 4 bytes each | 16-bit words, read forwards | escaped values, read backwards

Each table is a row of `spans`: start << 16 | frequency. Nothing here checks its tables or its network; `decode_latent`
checks every read of the stream, since that may be damaged.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsicomp.codec.compiled import compiled

__all__ = [
    "HIDDEN_LIMIT",
    "HIDDEN_SHIFT",
    "MAGNITUDES",
    "TABLES",
    "TABLE_SHIFT",
    "TAPS",
    "UNITS",
    "Network",
    "cheapest_class",
    "decode_latent",
    "find_spans",
    "find_tables",
    "push_spans",
]

Int: TypeAlias = Any
"""Python's integers outside a compiled loop, fixed-width ones inside."""

U8: TypeAlias = NDArray[np.uint8]
U32: TypeAlias = NDArray[np.uint32]
I16: TypeAlias = NDArray[np.int16]
I32: TypeAlias = NDArray[np.int32]
I64: TypeAlias = NDArray[np.int64]

Network: TypeAlias = tuple[I64, I32, I32, I32, I32]
"""Plan, spatial, inner, mixing and outer numbers of a `ScaleModel`, weights widened to int32."""

TABLES = 48
"""Tables of a model, from scales of 2**-5 to 2**6.75."""

UNITS = 32
"""Hidden units of the network."""

TAPS = 9
"""Positions of the 3x3 neighbourhood, row by row."""

MAGNITUDES = np.rint(16 * np.log2(1 + np.arange(1 << 12))).astype(np.uint8)
"""(4096,) uint8: 16 log2(1 + n), rounded, up to 192; larger symbols count as the last."""

HIDDEN_SHIFT, HIDDEN_LIMIT = 8, 32_767
"""A hidden unit is its sum over 2**8, clipped to 0..32767."""

TABLE_SHIFT = 14
"""A table is its sum over 2**14, rounded."""

LOW = 1 << 16  # a state at rest; one step brings it below this at most once
DAMAGED = 1
NETWORK = "i8[:,::1], i4[:,::1], i4[:,:,::1], i4[::1], i4[:,::1]"


@compiled("void(i8, i8, i8, i8, u1[::1], i4[:,::1], i4[:,:,:,::1])")
def _remember(value: Int, channel: Int, y: Int, x: Int, magnitudes: U8, counts: I32, busy: I32) -> None:
    # Most symbols are zero and say nothing, so each position lists the others, in the order of their channels.
    place = counts[y + 1, x + 1]
    busy[y + 1, x + 1, place, 0] = channel
    busy[y + 1, x + 1, place, 1] = magnitudes[min(abs(value), magnitudes.size - 1)]
    counts[y + 1, x + 1] = place + 1


@compiled("void(i2[:,:,::1], u1[::1], i4[:,::1], i4[:,:,:,::1])")
def _remember_all(latent: I16, magnitudes: U8, counts: I32, busy: I32) -> None:
    channels, height, width = latent.shape
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                if latent[c, y, x] != 0:
                    _remember(np.int64(latent[c, y, x]), c, y, x, magnitudes, counts, busy)


@compiled(f"void(i4[:,::1], i4[:,:,:,::1], i8, i8, i8, {NETWORK}, i4[:,::1], i4[::1], i4[::1], u1[:,::1])")
def _choose_tables(
    counts: I32,
    busy: I32,
    y: Int,
    number: Int,
    tile_class: Int,
    plan: I64,
    spatial: I32,
    inner: I32,
    mixing: I32,
    outer: I32,
    terms: I32,
    hidden: I32,
    sums: I32,
    tables: U8,
) -> None:
    # Tables (W, C) of one row in pass `number`, its channels first; `counts` and `busy` have a border of one position.
    # What is to be summed is listed first, as rows of weights and their factors: two rows at a time go through the
    # vector units twice as fast as one.
    start, end, colour = plan[number, 0], plan[number, 1], plan[number, 2]
    size = end - start
    row_length = end if colour else start
    biases = outer[tile_class, plan[number, 5] : plan[number, 5] + size]
    for x in range((y + colour) & 1, len(tables), 2):
        for n in range(size):
            sums[n] = biases[n]
        if number > 0:
            for unit in range(UNITS):
                hidden[unit] = inner[number - 1, tile_class, unit]
            count = 0
            for tap in range(TAPS):
                down, right = tap // 3, tap % 3
                # A white field knows, in its own slice, its four neighbours, which are black, and no other.
                seen = end if colour and (down + right) & 1 else start
                first = plan[number, 3] + tap * row_length
                for place in range(counts[y + down, x + right]):
                    channel = busy[y + down, x + right, place, 0]
                    if channel >= seen:
                        break
                    terms[count, 0] = first + channel
                    terms[count, 1] = busy[y + down, x + right, place, 1]
                    count += 1
            terms[count, 0] = 0  # a last one alone is summed with nothing
            terms[count, 1] = 0
            for k in range(0, count, 2):
                here, there = np.uint64(terms[k, 0]), np.uint64(terms[k + 1, 0])
                a, b = terms[k, 1], terms[k + 1, 1]
                for unit in range(UNITS):
                    hidden[unit] += a * spatial[here, unit] + b * spatial[there, unit]
            count = 0
            for unit in range(UNITS):
                value = hidden[unit] >> HIDDEN_SHIFT
                if value > 0:
                    terms[count, 0] = plan[number, 4] + unit * size
                    terms[count, 1] = min(value, HIDDEN_LIMIT)
                    count += 1
            terms[count, 0] = 0
            terms[count, 1] = 0
            for k in range(0, count, 2):
                here, there = np.uint64(terms[k, 0]), np.uint64(terms[k + 1, 0])
                a, b = terms[k, 1], terms[k + 1, 1]
                for n in range(size):
                    sums[n] += a * mixing[here + np.uint64(n)] + b * mixing[there + np.uint64(n)]
        for n in range(size):
            rounded = (sums[n] >> (TABLE_SHIFT - 1)) + 1 >> 1
            tables[x, n] = min(max(rounded, 0), TABLES - 1)


@compiled(f"void(i2[:,:,::1], {NETWORK}, u1[::1], i8, u1[:,:,::1])")
def find_tables(
    latent: I16, plan: I64, spatial: I32, inner: I32, mixing: I32, outer: I32, magnitudes: U8, tile_class: Int, into: U8
) -> None:
    """Fill `into` (C, H, W) uint8 with the table of each symbol of a latent (C, H, W) int16."""
    channels, height, width = latent.shape
    counts = np.zeros((height + 2, width + 2), np.int32)
    busy = np.empty((height + 2, width + 2, channels, 2), np.int32)
    _remember_all(latent, magnitudes, counts, busy)
    hidden, sums = np.zeros(UNITS, np.int32), np.zeros(channels, np.int32)
    terms = np.empty((max(TAPS * channels, UNITS) + 1, 2), np.int32)
    tables = np.zeros((width, channels), np.uint8)
    for number in range(len(plan)):
        start, end, colour = plan[number, 0], plan[number, 1], plan[number, 2]
        for y in range(height):
            _choose_tables(
                counts, busy, y, number, tile_class, plan, spatial, inner, mixing, outer, terms, hidden, sums, tables
            )
            for x in range((y + colour) & 1, width, 2):
                for n in range(end - start):
                    into[start + n, y, x] = tables[x, n]


@compiled("i8(i2[:,:,::1], u1[:,::1], i4[:,::1], i2[::1], i8[::1])")
def cheapest_class(latent: I16, tables: U8, costs: I32, lowest: I16, sizes: I64) -> Int:
    """Class whose tables (Z, m) code the first pass, the black fields of m channels, at the least cost.

    Parameters
    ----------
    costs
        (T, 256) int32, cost of each column of each table, in any unit.
    """
    _, height, width = latent.shape
    best, least = np.int64(0), np.int64(-1)
    for k in range(tables.shape[0]):
        total = np.int64(0)
        for c in range(tables.shape[1]):
            table = np.uint64(tables[k, c])
            for y in range(height):
                for x in range(y & 1, width, 2):
                    column = np.int64(latent[c, y, x]) - lowest[table] + 1
                    if column < 1 or column > sizes[table]:
                        column = np.int64(0)
                    total += costs[table, np.uint64(column)]
        if least < 0 or total < least:
            best, least = np.int64(k), total
    return best


@compiled("i8(i2[:,:,::1], i8[:,::1], u1[:,:,::1], u4[:,::1], i2[::1], i8[::1], u4[::1], u1[::1])")
def find_spans(latent: I16, plan: I64, tables: U8, spans: U32, lowest: I16, sizes: I64, coded: U32, escapes: U8) -> Int:
    """Find the span of every symbol of a latent, in coding order.

    Parameters
    ----------
    latent
        (C, H, W) int16.
    tables
        (C, H, W) uint8, the table of each symbol.
    coded
        (C * H * W,) uint32, filled with spans.
    escapes
        (3 * C * H * W,) uint8, filled with what the tables do not cover, in reading order.

    Returns
    -------
    Bytes of `escapes` in use.
    """
    _, height, width = latent.shape
    place, escaped = np.uint64(0), np.uint64(0)
    for number in range(len(plan)):
        start, end, colour = plan[number, 0], plan[number, 1], plan[number, 2]
        for y in range(height):
            for x in range((y + colour) & 1, width, 2):
                for n in range(start, end):
                    table = np.uint64(tables[n, y, x])
                    column = np.int64(latent[n, y, x]) - lowest[table] + 1
                    if column < 1 or column > sizes[table]:
                        rest = (-column << 1) | 1 if column < 1 else (column - sizes[table] - 1) << 1
                        while rest > 127:
                            escapes[escaped] = (rest & 127) | 128
                            escaped += np.uint64(1)
                            rest >>= 7
                        escapes[escaped] = rest
                        escaped += np.uint64(1)
                        column = np.int64(0)
                    coded[place] = spans[table, np.uint64(column)]
                    place += np.uint64(1)
    return np.int64(escaped)


@compiled("i8(u4[::1], i8, u1[::1])")
def push_spans(coded: U32, bits: Int, stream: U8) -> Int:
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
def _coarse_shift(buckets: Int, bits: Int) -> Int:
    shift = bits
    while buckets > 1:
        buckets >>= 1
        shift -= 1
    return np.uint64(shift)


@compiled("u8(u1[:,::1], u4[:,::1], u8, u8, u8)")
def _find(lookup: U8, spans: U32, table: Int, slot: Int, coarse: Int) -> Int:
    # The last column that starts at or before a slot. Within a bucket that is mostly the first column or the next.
    column = np.uint64(lookup[table, slot >> coarse])
    column += np.uint64(np.uint64(spans[table, column + np.uint64(1)] >> np.uint64(16)) <= slot)
    while np.uint64(spans[table, column + np.uint64(1)] >> np.uint64(16)) <= slot:
        column += np.uint64(1)
    return column


@compiled("UniTuple(i8, 2)(u1[::1], i8, i8, i8, i8)")
def _escaped(stream: U8, front: Int, back: Int, lowest: Int, size: Int) -> tuple[Int, Int]:
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


@compiled(f"i8(u1[::1], i8, {NETWORK}, u1[::1], i8, u4[:,::1], u1[:,::1], i2[::1], i8[::1], i8, i2[:,:,::1])")
def decode_latent(
    stream: U8,
    end: Int,
    plan: I64,
    spatial: I32,
    inner: I32,
    mixing: I32,
    outer: I32,
    magnitudes: U8,
    tile_class: Int,
    spans: U32,
    lookup: U8,
    lowest: I16,
    sizes: I64,
    bits: Int,
    latent: I16,
) -> Int:
    """Decode a stream into `latent` (C, H, W) int16.

    Parameters
    ----------
    stream
        uint8: the stream and at least 2 * C + 2 bytes more, so that one position can be read before the end is checked.
    end
        Length of the stream itself, at least 8.

    Returns
    -------
    0, or 1 if the stream is not one of such a latent coded with these tables; `latent` is then without meaning.
    """
    channels, height, width = latent.shape
    counts = np.zeros((height + 2, width + 2), np.int32)
    busy = np.empty((height + 2, width + 2, channels, 2), np.int32)
    hidden, sums = np.zeros(UNITS, np.int32), np.zeros(channels, np.int32)
    terms = np.empty((max(TAPS * channels, UNITS) + 1, 2), np.int32)
    tables = np.zeros((width, channels), np.uint8)
    mask, word, shift = np.uint64((1 << bits) - 1), np.uint64(16), np.uint64(bits)
    low, short, coarse = np.uint64(LOW), np.uint64(0xFFFF), _coarse_shift(lookup.shape[1], bits)
    first, second = np.uint64(0), np.uint64(0)
    for k in range(4):
        first |= np.uint64(stream[k]) << np.uint64(8 * k)
        second |= np.uint64(stream[4 + k]) << np.uint64(8 * k)
    front, back = np.uint64(8), np.int64(end)
    for number in range(len(plan)):
        start, stop, colour = plan[number, 0], plan[number, 1], plan[number, 2]
        for y in range(height):
            _choose_tables(
                counts, busy, y, number, tile_class, plan, spatial, inner, mixing, outer, terms, hidden, sums, tables
            )
            for x in range((y + colour) & 1, width, 2):
                for n in range(stop - start):
                    table = np.uint64(tables[x, n])
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
                    latent[start + n, y, x] = value
                    if value != 0:
                        _remember(np.int64(value), start + n, y, x, magnitudes, counts, busy)
                if np.int64(front) > back:
                    return DAMAGED
    return 0 if first == low and second == low and np.int64(front) == back else DAMAGED
