"""Tables of the probabilities of symbols, as integer frequencies.

    counts (T, 256) -> quantised to a sum of 2**bits -> T tables

A table covers one run of values, `lowest` to `lowest + size - 1`, and escapes all others: column 0 of every table is
the escape, columns 1 to `size` are the values. Each column in use has a frequency of at least 1, so whatever is coded
can be decoded; values at the ends of the run too rare to earn 1 of 2**bits are left to the escape, which then costs
less than keeping them.

All of it is integer arithmetic: frequencies are shares by largest remainder, ties going to the lower column. So the
same counts make the same tables on every machine, and a digest of them names them. This module does not code anything,
and does not know when a table is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["BUCKET_BITS", "COLUMNS", "MAX_BITS", "MIN_BITS", "FrequencyTables", "quantise_counts"]

COLUMNS = 256
"""Columns of a table: the escape and up to 255 values. A column's number fits a byte."""

MIN_BITS, MAX_BITS = 9, 14
"""Bits of a table's sum: at least one slot for each column; at most what a 32-bit state with 16-bit words allows."""

BUCKET_BITS = 8
"""A table's slots are looked up in 2**8 buckets: small enough that the tables in use stay in a core's first cache."""

MAX_TABLES = 65_535


@dataclass(frozen=True, eq=False)
class FrequencyTables:
    """A set of T frequency tables.

    Parameters
    ----------
    bits
        Each table sums to 2**bits; 9 to 14.
    frequencies
        (T, 256) uint16: column 0 the escape, then the values from `lowest` on, then zeros.
    lowest
        (T,) int16, the value of column 1.

    Raises
    ------
    ValueError
        If an array has another type or shape, or a table cannot be decoded with: no escape, a gap, a wrong sum, or
        values outside int16.
    """

    bits: int
    frequencies: NDArray[np.uint16]
    lowest: NDArray[np.int16]

    def __post_init__(self) -> None:
        if not MIN_BITS <= self.bits <= MAX_BITS:
            raise ValueError(f"tables of {self.bits} bits; use {MIN_BITS} to {MAX_BITS}")
        _check_array("frequencies", self.frequencies, np.uint16, 2)
        _check_array("lowest", self.lowest, np.int16, 1)
        count, columns = self.frequencies.shape
        if columns != COLUMNS or not 1 <= count <= MAX_TABLES or len(self.lowest) != count:
            raise ValueError(f"frequencies {self.frequencies.shape} and {len(self.lowest)} lowest values do not match")
        used = self.frequencies > 0
        if not used[:, :2].all() or (np.diff(used.astype(np.int8), axis=1) > 0).any():
            raise ValueError("a table lacks its escape or its first value, or has a gap")
        if (self.frequencies.sum(axis=1, dtype=np.int64) != 1 << self.bits).any():
            raise ValueError(f"a table does not sum to {1 << self.bits}")
        if (self.lowest.astype(np.int64) + self.sizes > 1 << 15).any():
            raise ValueError("a table has values beyond int16")

    @classmethod
    def from_counts(cls, counts: NDArray[np.int64], lowest: int, *, bits: int) -> Self:
        """Build tables from how often each symbol was seen.

        Parameters
        ----------
        counts
            (T, 256) int64, not negative, below 2**48 in sum for each table: column 0 counts values outside the window,
            column j the value `lowest + j - 1`.
        lowest
            Where the window begins.
        bits
            The tables' sum is 2**bits.

        Raises
        ------
        ValueError
            If the counts have another shape, or are negative, or more than can be shared out exactly.
        """
        if counts.ndim != 2 or counts.shape[1] != COLUMNS:
            raise ValueError(f"counts {counts.shape} are not (T, {COLUMNS})")
        if not MIN_BITS <= bits <= MAX_BITS:
            raise ValueError(f"tables of {bits} bits; use {MIN_BITS} to {MAX_BITS}")
        shared = [quantise_counts(row, bits) for row in counts]
        first = np.array([lowest + skipped for skipped, _ in shared], np.int16)
        return cls(bits, np.stack([row for _, row in shared]), first)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild tables from what `arrays` gave.

        Raises
        ------
        ValueError
            If an array is missing or is not what a table needs.
        """
        try:
            packed, sizes, lowest, bits = (arrays[n] for n in ("frequencies", "sizes", "lowest", "bits"))
        except KeyError as error:
            raise ValueError(f"tables lack the array {error}") from None
        _check_array("frequencies", packed, np.uint16, 1)
        _check_array("sizes", sizes, np.uint8, 1)
        _check_array("bits", bits, np.uint8, 1)
        used = np.arange(COLUMNS) <= sizes[:, None]
        if len(bits) != 1 or len(packed) != np.count_nonzero(used):
            raise ValueError(f"tables have {len(bits)} bits entries and {len(packed)} frequencies, against their sizes")
        frequencies = np.zeros(used.shape, np.uint16)
        frequencies[used] = packed
        return cls(int(bits[0]), frequencies, lowest.copy())  # compiled loops take no read-only array

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that makes these tables, as integer arrays for a weights file; columns not in use are left out."""
        return {
            "bits": np.array([self.bits], np.uint8),
            "frequencies": self.frequencies[self.frequencies > 0],
            "sizes": self.sizes.astype(np.uint8),
            "lowest": self.lowest,
        }

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """(T,) int64, how many values each table covers, 1 to 255."""
        sizes: NDArray[np.int64] = np.count_nonzero(self.frequencies, axis=1).astype(np.int64) - 1
        return sizes

    @cached_property
    def spans(self) -> NDArray[np.uint32]:
        """(T, 257) uint32: start << 16 | frequency of each column within 0..2**bits - 1.

        Columns not in use, and one more after the last, start at 2**bits with no frequency, so a search ends there.
        """
        ends = np.cumsum(self.frequencies, axis=1, dtype=np.uint32)
        spans = np.zeros((len(ends), COLUMNS + 1), np.uint32)
        spans[:, 1:] = ends << np.uint32(16)
        spans[:, :-1] |= self.frequencies
        return spans

    @cached_property
    def lookup(self) -> NDArray[np.uint8]:
        """(T, 256) uint8, the column that the first slot of each bucket belongs to; there are 2**8 equal buckets."""
        firsts = np.arange(1 << BUCKET_BITS) << (self.bits - BUCKET_BITS)
        starts = (self.spans >> np.uint32(16)).astype(np.int64)
        return np.stack([np.searchsorted(row, firsts, side="right") - 1 for row in starts]).astype(np.uint8)


def quantise_counts(counts: NDArray[np.int64], bits: int) -> tuple[int, NDArray[np.uint16]]:
    """Share 2**bits among the columns of one table, at least 1 to each in use.

    Parameters
    ----------
    counts
        (256,) int64, column 0 the escape; all zeros make a table that knows the middle of its window alone.
    bits
        The table's sum is 2**bits.

    Returns
    -------
    skipped
        Values dropped at the lower end of the window.
    frequencies
        (256,) uint16: the escape, the values kept from there on, zeros.

    Raises
    ------
    ValueError
        If a count is negative or they sum to 2**48 or more.
    """
    total = int(counts.sum())
    if int(counts.min()) < 0 or total >= 1 << 48:
        raise ValueError(f"counts must not be negative and must sum to less than 2**48, not {total}")
    values = counts[1:]
    worth = np.flatnonzero((values << bits) >= max(total, 1))
    middle = (COLUMNS - 1) // 2
    first, last = (int(worth[0]), int(worth[-1])) if len(worth) else (middle, middle)
    inside = values[first : last + 1]
    kept = np.concatenate([[total - int(inside.sum())], inside]) if total else np.array([0, 1])
    frequencies = np.zeros(COLUMNS, np.uint16)
    frequencies[: len(kept)] = _shares(kept, 1 << bits)
    return first, frequencies


def _shares(counts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Integers of at least 1 that sum to `total`, in proportion to `counts` (not all zero) as nearly as that allows."""
    shares = np.ones(len(counts), np.int64)
    rich = np.ones(len(counts), bool)
    # Whoever would get less than 1 gets 1 and leaves the sharing, which makes the others' shares smaller in turn.
    while True:
        seen, left = int(counts[rich].sum()), total - int(np.count_nonzero(~rich))
        poor = rich & (counts * left < seen)
        if not poor.any():
            break
        rich &= ~poor
    places = np.flatnonzero(rich)
    shares[places], remainders = np.divmod(counts[places] * left, seen)
    missing = total - int(shares.sum())
    shares[places[np.argsort(-remainders, kind="stable")[:missing]]] += 1
    return shares


def _check_array(name: str, array: NDArray[Any], dtype: type[np.generic], ndim: int) -> None:
    if array.dtype != dtype or array.ndim != ndim:
        raise ValueError(f"{name} is {array.dtype} of {array.ndim} dimensions, not {np.dtype(dtype)} of {ndim}")
