"""Contexts and tables together: all that coding and decoding a latent takes, under one name.

    latents -> ContextModel.fit -> count_contexts -> FrequencyTables -> EntropyModel -> digest, arrays

The digest names a model in an array's metadata; the arrays are what a weights file keeps of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wsicomp.codec.contexts import ContextModel, count_contexts
from wsicomp.codec.tables import FrequencyTables

__all__ = ["DEFAULT_BITS", "EntropyModel"]

DEFAULT_BITS = 14
"""Of a table's sum. 12 bits cost 0.7 % of rate where most symbols are 0, and are no faster."""

PRIOR = 4  # observations of the channel's whole distribution that each context starts with
COUNT_SCALE = 256


@dataclass(frozen=True, eq=False)
class EntropyModel:
    """Probabilities of the symbols of a latent of C channels.

    Parameters
    ----------
    contexts
        Tells the context of a symbol.
    tables
        One table for each channel and context.

    Raises
    ------
    ValueError
        If the two differ in channels or classes.
    """

    contexts: ContextModel
    tables: FrequencyTables

    def __post_init__(self) -> None:
        expected = self.contexts.channels, self.contexts.classes
        if self.tables.index.shape != expected:
            raise ValueError(f"tables for {self.tables.index.shape} channels and classes, contexts for {expected}")

    @classmethod
    def fit(cls, latents: Sequence[NDArray[np.integer[Any]]], *, classes: int = 8, bits: int = DEFAULT_BITS) -> Self:
        """Fit contexts and tables on training latents (C, h, w); `classes=1` makes one table for each channel.

        Raises
        ------
        ValueError
            If there are no latents, they differ in channels, or a setting is out of range.
        """
        contexts = ContextModel.fit(latents, classes=classes)
        counts = count_contexts(latents, contexts)
        whole = counts.sum(axis=1, keepdims=True)
        # A context that training hardly met starts from its channel, instead of from nothing but escapes.
        prior = whole * (PRIOR * COUNT_SCALE) // np.maximum(whole.sum(axis=2, keepdims=True), 1)
        return cls(contexts, FrequencyTables.from_counts(counts * COUNT_SCALE + prior, contexts.window, bits=bits))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild a model from what `arrays` gave.

        Raises
        ------
        ValueError
            If an array is missing, damaged or does not fit the others.
        """
        return cls(ContextModel.from_arrays(arrays), FrequencyTables.from_arrays(arrays))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that makes this model, as integer arrays for a weights file."""
        return self.contexts.arrays() | self.tables.arrays()

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return self.contexts.channels

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the arrays, in hexadecimal: equal models have equal digests on every machine."""
        sha256 = hashlib.sha256()
        for name, array in sorted(self.arrays().items()):
            sha256.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
            sha256.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return sha256.hexdigest()

    @cached_property
    def table_by_energy(self) -> NDArray[np.uint16]:
        """(C, 1024) uint16, the table that each channel uses at each energy."""
        return np.ascontiguousarray(np.take_along_axis(self.tables.index, self.contexts.by_energy.astype(np.intp), 1))
