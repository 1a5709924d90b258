"""Laws of frequency tables: what they sum to, what they keep, and what is refused when they are loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from wsicomp.codec.tables import COLUMNS, MAX_BITS, MIN_BITS, FrequencyTables, quantise_counts

counts_of_a_table = hnp.arrays(
    np.int64, COLUMNS, elements=st.one_of(st.integers(0, 3), st.integers(0, 10**6), st.integers(0, 2**39))
)
widths = st.integers(MIN_BITS, MAX_BITS)


def row(**columns: int) -> NDArray[np.int64]:
    counts = np.zeros(COLUMNS, np.int64)
    for name, count in columns.items():
        counts[int(name[1:])] = count
    return counts


def small() -> FrequencyTables:
    counts = np.stack([row(_1=5, _2=3, _3=1), row(_4=7), row(_0=2, _100=9)])
    return FrequencyTables.from_counts(counts, -3, bits=10)


@given(counts_of_a_table, widths)
def test_frequencies_sum_to_their_bits_and_all_in_use_are_at_least_1(counts: NDArray[np.int64], bits: int) -> None:
    _, frequencies = quantise_counts(counts, bits)
    used = int(np.count_nonzero(frequencies))
    assert int(frequencies.sum(dtype=np.int64)) == 2**bits
    assert used >= 2
    assert (frequencies[:used] > 0).all()


@given(counts_of_a_table, widths)
def test_no_value_worth_one_share_is_left_out(counts: NDArray[np.int64], bits: int) -> None:
    skipped, frequencies = quantise_counts(counts, bits)
    size = int(np.count_nonzero(frequencies)) - 1
    outside = np.delete(counts[1:], np.s_[skipped : skipped + size])
    assert (outside * 2**bits < max(int(counts.sum()), 1)).all()


@given(counts_of_a_table, widths)
def test_shares_follow_the_counts(counts: NDArray[np.int64], bits: int) -> None:
    skipped, frequencies = quantise_counts(counts, bits)
    size = int(np.count_nonzero(frequencies)) - 1
    kept, shares = counts[1 + skipped : 1 + skipped + size], frequencies[1 : 1 + size].astype(np.int64)
    order = np.argsort(kept, kind="stable")
    assert (np.diff(shares[order]) >= -1).all()  # the remainder's one share may go to the smaller of two
    total = int(counts.sum())
    if total:
        # At most 255 columns lift their share to 1, so the others lose no more than that from what they are due.
        assert (shares * total >= kept * (2**bits - COLUMNS) - total).all()


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (row(_1=1, _2=1, _3=1), [1, 171, 170, 170]),  # a tie goes to the lower column
        (row(_1=1, _2=2, _3=1), [1, 128, 255, 128]),
        (row(_1=10**6, _2=10**6, _3=1), [1, 256, 255]),  # a value too rare for one share of 512 is escaped
        (row(_1=10**6, _2=1, _3=10**6), [1, 255, 1, 255]),  # but not between two that are kept
        (row(_0=1, _5=1), [256, 256]),
        (row(), [1, 511]),
        (row(_0=10), [511, 1]),
    ],
)
def test_shares_of_512(counts: NDArray[np.int64], expected: list[int]) -> None:
    _, frequencies = quantise_counts(counts, 9)
    assert frequencies[frequencies > 0].tolist() == expected


@given(counts_of_a_table, widths)
def test_each_slot_is_found_from_its_bucket(counts: NDArray[np.int64], bits: int) -> None:
    tables = FrequencyTables.from_counts(counts[None], -127, bits=bits)
    owners = np.repeat(np.arange(COLUMNS), tables.frequencies[0])
    starts = tables.spans[0] >> 16
    assert tables.lookup[0].tolist() == owners[:: 2 ** (bits - 8)].tolist()
    assert (np.searchsorted(starts, np.arange(2**bits), side="right") - 1).tolist() == owners.tolist()
    assert int(starts[-1]) == 2**bits


def test_a_table_begins_with_the_first_value_worth_it() -> None:
    tables = small()
    assert tables.lowest.tolist() == [-3, 0, 96]
    assert tables.sizes.tolist() == [3, 1, 1]


def test_tables_survive_their_arrays() -> None:
    tables = small()
    arrays = tables.arrays()
    for array in arrays.values():
        array.flags.writeable = False  # as arrays that a file is mapped to are
    again = FrequencyTables.from_arrays(arrays)
    assert all(np.issubdtype(array.dtype, np.integer) for array in arrays.values())
    assert again.bits == tables.bits
    for name in ("frequencies", "lowest", "sizes", "spans", "lookup"):
        assert np.array_equal(getattr(again, name), getattr(tables, name)), name


def test_columns_not_in_use_take_no_room() -> None:
    assert small().arrays()["frequencies"].size == 3 + 1 + 1 + 3


def changed(name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> dict[str, NDArray[Any]]:
    arrays = small().arrays()
    arrays[name] = change(arrays[name].copy())
    return arrays


def put(place: Any, value: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def change(array: NDArray[Any]) -> NDArray[Any]:
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (changed("frequencies", put(1, 0)), "lacks its escape or its first value, or has a gap"),
        (changed("frequencies", put(0, 0)), "lacks its escape"),
        (changed("frequencies", put(2, 9)), "does not sum to 1024"),
        (changed("frequencies", lambda a: a[:-1]), "against their sizes"),
        (changed("frequencies", lambda a: a.astype(np.int32)), "not uint16"),
        (changed("frequencies", lambda a: a.astype(np.float64)), "not uint16"),
        (changed("sizes", put(0, 4)), "against their sizes"),
        (changed("sizes", lambda a: a[:-1]), "against their sizes"),
        (changed("lowest", put(0, 32767)), "beyond int16"),
        (changed("lowest", lambda a: a[:-1]), "do not match"),
        (changed("lowest", lambda a: a.astype(np.int32)), "not int16"),
        (changed("sizes", lambda a: a.astype(np.int64)), "not uint8"),
        (changed("bits", lambda a: a.astype(np.int64)), "not uint8"),
        (changed("bits", put(0, 11)), "does not sum to 2048"),
        (changed("bits", put(0, 15)), "tables of 15 bits"),
        (changed("bits", lambda a: a[:0]), "0 bits entries"),
        ({}, "tables lack the array 'frequencies'"),
    ],
)
def test_damaged_tables_are_refused(arrays: dict[str, NDArray[Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrequencyTables.from_arrays(arrays)


@pytest.mark.parametrize(
    ("counts", "bits", "message"),
    [
        (np.zeros((1, COLUMNS - 1), np.int64), 12, r"not \(T, 256\)"),
        (np.zeros((1, 1, COLUMNS), np.int64), 12, r"not \(T, 256\)"),
        (np.full((1, COLUMNS), -1), 12, "must not be negative"),
        (np.full((1, COLUMNS), 2**40), 12, "less than 2"),
        (np.zeros((1, COLUMNS), np.int64), 8, "tables of 8 bits"),
        (np.zeros((1, COLUMNS), np.int64), 15, "tables of 15 bits"),
    ],
)
def test_counts_that_cannot_be_shared_out_are_refused(counts: NDArray[np.int64], bits: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrequencyTables.from_counts(counts, 0, bits=bits)
