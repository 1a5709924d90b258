"""The network in whole numbers that chooses the table of each symbol from the symbols that were coded before.

    four slices of channels x two colours of a checkerboard = eight passes (black: row + column is even)

    a tile's class, 0..Z-1, is transmitted
    16 log2(1 + |symbol|) of earlier passes -> 3x3 convolution + bias(class) -> ReLU -> 1x1 + bias(class) -> table

Where an image is quiet, so are all channels; where a neighbour is busy, a symbol is likely to be so too. The first pass
knows nothing but the tile's class. What a network of floats would find, this one computes in int32 and shifts, so that
an encoder and a decoder agree on every machine (Balle et al., Integer networks, 2019); that no sum can overflow is
checked when the numbers are loaded. A table is a scale: its number is 4 log2 of it, and `tables` holds what follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wsicomp.codec.kernels import (
    HIDDEN_LIMIT,
    MAGNITUDES,
    TABLE_SHIFT,
    TABLES,
    TAPS,
    UNITS,
    Network,
    find_tables,
)

__all__ = ["ScaleModel", "as_int16"]

MAX_CLASSES = 255
SPATIAL_BITS, MIXING_BITS = 10, 10
"""Binary places of the two layers' weights."""

INNER_BITS = SPATIAL_BITS + 4
"""Binary places of the first layer's sums: its weights', and the four of the magnitudes."""

OUTER_BITS = TABLE_SHIFT + 2
"""Binary places of the second layer's sums: a table is a quarter of an octave."""

_INT16 = np.iinfo(np.int16)
_INT32_LIMIT = 1 << 31


@dataclass(frozen=True, eq=False)
class ScaleModel:
    """The network of a latent of C channels in S slices, of Z classes and K = 32 hidden units.

    Parameters
    ----------
    slices
        (S,) int32, channels of each slice; they sum to C.
    spatial
        int16, for each pass after the first (9 taps, channels that it knows, K), one after another; 10 binary places.
    inner
        (2 S - 1, Z, K) int32, biases of the hidden units; 14 binary places.
    mixing
        int16, for each pass after the first (K, channels of its slice), one after another; 10 binary places.
    outer
        (Z, 2 C) int32, biases of the results, pass after pass; 16 binary places.

    Raises
    ------
    ValueError
        If an array has another type or shape, or a sum could leave int32.
    """

    slices: NDArray[np.int32]
    spatial: NDArray[np.int16]
    inner: NDArray[np.int32]
    mixing: NDArray[np.int16]
    outer: NDArray[np.int32]

    def __post_init__(self) -> None:
        _check("slices", self.slices, np.int32, 1)
        if not 1 <= len(self.slices) <= 16 or self.slices.min() < 1 or self.slices.sum() > 1 << 12:
            raise ValueError(f"slices of {self.slices.tolist()} channels")
        _check("inner", self.inner, np.int32, 3)
        passes, classes, units = self.inner.shape
        if passes != 2 * len(self.slices) - 1 or not 1 <= classes <= MAX_CLASSES or units != UNITS:
            raise ValueError(f"inner is {self.inner.shape} for {len(self.slices)} slices")
        _check("outer", self.outer, np.int32, 2)
        _check("spatial", self.spatial, np.int16, 1)
        _check("mixing", self.mixing, np.int16, 1)
        *_, last = self.plan
        expected = int(last[4] + UNITS * (last[1] - last[0]))
        if len(self.mixing) != expected or len(self.spatial) != int(last[3] + TAPS * last[1]) * UNITS:
            raise ValueError(f"{len(self.spatial)} and {len(self.mixing)} weights are not of these slices")
        if self.outer.shape != (classes, 2 * self.channels):
            raise ValueError(f"outer is {self.outer.shape} for {classes} classes and {self.channels} channels")
        self._check_sums()

    def _check_sums(self) -> None:
        for k, (start, end, colour, spatial, mixing, outer) in enumerate(self.plan[1:].tolist()):
            known = end if colour else start
            first = np.abs(self.spatial[spatial * UNITS : (spatial + TAPS * known) * UNITS].astype(np.int64))
            sums = first.reshape(-1, UNITS).sum(axis=0) * int(MAGNITUDES.max())  # (9 * known, K) -> (K,)
            if (sums + np.abs(self.inner[k].astype(np.int64)) >= _INT32_LIMIT).any():
                raise ValueError("the first layer's sums may leave int32")
            second = np.abs(self.mixing[mixing : mixing + UNITS * (end - start)].astype(np.int64))
            largest = second.reshape(UNITS, -1).sum(axis=0) * HIDDEN_LIMIT  # (K, channels) -> (channels,)
            biases = np.abs(self.outer[:, outer : outer + end - start].astype(np.int64))
            if (largest + biases >= _INT32_LIMIT).any():
                raise ValueError("the second layer's sums may leave int32")

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return int(self.slices.sum())

    @property
    def classes(self) -> int:
        """Number of classes Z."""
        return len(self.inner[0])

    @cached_property
    def plan(self) -> NDArray[np.int64]:
        """(2 S, 6) int64, each pass: first channel, end, colour, and where its spatial, mixing, outer numbers begin."""
        rows: list[tuple[int, ...]] = []
        start = spatial = mixing = outer = 0
        for size in self.slices.tolist():
            for colour in (0, 1):
                first = not rows
                rows.append((start, start + size, colour, spatial, mixing, outer))
                if not first:
                    spatial += TAPS * (start + size if colour else start)
                    mixing += UNITS * size
                outer += size
            start += size
        return np.array(rows, np.int64)

    @cached_property
    def network(self) -> Network:
        """The arrays as the compiled loops take them."""
        return (
            self.plan,
            self.spatial.astype(np.int32).reshape(-1, UNITS),
            _plain(self.inner, np.int32),
            self.mixing.astype(np.int32),
            _plain(self.outer, np.int32),
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild a network from what `arrays` gave.

        Raises
        ------
        ValueError
            If an array is missing or is not what the network needs.
        """
        try:
            return cls(*(arrays[field.name] for field in fields(cls)))
        except KeyError as error:
            raise ValueError(f"scales lack the array {error}") from None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that makes this network, as integer arrays for a weights file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def tables(self, latent: NDArray[np.integer[Any]], tile_class: int) -> NDArray[np.uint8]:
        """Table of each symbol of a latent (C, h, w) of a class, as (C, h, w) uint8."""
        values = as_int16(latent)
        found = np.empty(values.shape, np.uint8)
        find_tables(values, *self.network, MAGNITUDES, tile_class, found)
        return found

    def first_tables(self) -> NDArray[np.uint8]:
        """Table of each class and channel of the first pass, (Z, channels of the first slice) uint8."""
        # Nothing bounds the biases of the first pass, so half a table more may leave int32.
        sums = self.outer[:, : self.slices[0]].astype(np.int64) + (1 << (TABLE_SHIFT - 1))
        tables: NDArray[np.uint8] = np.clip(sums >> TABLE_SHIFT, 0, TABLES - 1).astype(np.uint8)
        return tables


def as_int16(latent: NDArray[np.integer[Any]]) -> NDArray[np.int16]:
    """Bring a latent (C, h, w) of any integer type to contiguous and writable int16.

    Raises
    ------
    ValueError
        If it has other dimensions, another type, or a value outside int16.
    """
    if latent.ndim != 3 or not np.issubdtype(latent.dtype, np.integer):
        raise ValueError(f"a latent is integers (C, h, w), not {latent.dtype} {latent.shape}")
    if latent.dtype.itemsize > 1 and latent.dtype != np.int16 and latent.size:
        low, high = int(latent.min()), int(latent.max())
        if low < _INT16.min or high > _INT16.max:
            raise ValueError(f"a latent's values {low} to {high} do not fit int16")
    return _plain(latent, np.int16)


def _plain(array: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    # Compiled loops take no arrays that are read-only or have gaps.
    return np.require(array, dtype, ["C", "W"])


def _check(name: str, array: NDArray[Any], dtype: type[np.generic], ndim: int) -> None:
    if array.dtype != dtype or array.ndim != ndim or not array.size:
        raise ValueError(f"{name} is {array.dtype} {array.shape}, not {np.dtype(dtype)} of {ndim} dimensions")
