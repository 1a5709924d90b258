"""The entropy model: scales and tables together, all that coding and decoding a latent takes, under one name.

    ScaleModel, training latents -> count_symbols -> FrequencyTables -> EntropyModel -> digest, arrays

The digest names a model in an array's metadata; the arrays are what a weights file keeps of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wsicomp.codec.kernels import TABLES, cheapest_class
from wsicomp.codec.scales import ScaleModel, as_int16
from wsicomp.codec.tables import COLUMNS, FrequencyTables

__all__ = ["DEFAULT_BITS", "EntropyModel", "count_symbols"]

DEFAULT_BITS = 14
"""Bits of a table's sum. 12 bits cost 0.7 % of rate where most symbols are 0, and are no faster."""

PRIOR_COUNT = 1 << 12
"""Observations that the logistic distribution of a table's scale stands for; those seen in training come on top."""

LOWEST_SCALE, TABLES_PER_OCTAVE = -5.0, 4
LOWEST = -(COLUMNS // 2 - 1)
"""Tables hold the values -127 to 127."""

COST_UNIT = 256
"""Units of cost to a bit."""

ESCAPE_COST = 16 * COST_UNIT
"""What an escaped value costs beside the escape itself, about."""


@dataclass(frozen=True, eq=False)
class EntropyModel:
    """Probabilities of the symbols of a latent of C channels.

    Parameters
    ----------
    scales
        Tells the table of a symbol.
    tables
        The 48 tables.

    Raises
    ------
    ValueError
        If there are other than 48.
    """

    scales: ScaleModel
    tables: FrequencyTables

    def __post_init__(self) -> None:
        if len(self.tables.frequencies) != TABLES:
            raise ValueError(f"{len(self.tables.frequencies)} tables; scales choose among {TABLES}")

    @classmethod
    def fit(cls, scales: ScaleModel, latents: Sequence[NDArray[np.integer[Any]]], *, bits: int = DEFAULT_BITS) -> Self:
        """Fit the tables on training latents (C, h, w), which the scales sort out.

        A table starts as the logistic distribution of its scale, so one that training never used can still be. The
        classes of the latents depend on the tables, so this is done twice.

        Raises
        ------
        ValueError
            If a latent has other channels, or a setting is out of range.
        """
        prior = np.stack([logistic_counts(2.0 ** (LOWEST_SCALE + k / TABLES_PER_OCTAVE)) for k in range(TABLES)])
        model = cls(scales, FrequencyTables.from_counts(prior, LOWEST, bits=bits))
        for _ in range(2):
            counts = prior + COST_UNIT * count_symbols(latents, model)
            model = cls(scales, FrequencyTables.from_counts(counts, LOWEST, bits=bits))
        return model

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild a model from what `arrays` gave.

        Raises
        ------
        ValueError
            If an array is missing, damaged or does not fit the others.
        """
        return cls(ScaleModel.from_arrays(arrays), FrequencyTables.from_arrays(arrays))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that makes this model, as integer arrays for a weights file."""
        return self.scales.arrays() | self.tables.arrays()

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return self.scales.channels

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the arrays, in hexadecimal: equal models have equal digests on every machine."""
        sha256 = hashlib.sha256()
        for name, array in sorted(self.arrays().items()):
            sha256.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
            sha256.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return sha256.hexdigest()

    @cached_property
    def costs(self) -> NDArray[np.int32]:
        """(48, 256) int32, what each column of each table costs in 1/256 bits, the escape with what follows it."""
        shares = np.maximum(self.tables.frequencies, 1) / (1 << self.tables.bits)
        costs: NDArray[np.int32] = np.rint(-COST_UNIT * np.log2(shares)).astype(np.int32)
        costs[:, 0] += ESCAPE_COST
        return costs

    def classify(self, latent: NDArray[np.integer[Any]]) -> int:
        """Class that codes the first pass of a latent (C, h, w) best, an encoder's choice."""
        tables = self.tables
        found: int = cheapest_class(
            as_int16(latent), self.scales.first_tables(), self.costs, tables.lowest, tables.sizes
        )
        return found


def count_symbols(latents: Iterable[NDArray[np.integer[Any]]], model: EntropyModel) -> NDArray[np.int64]:
    """Count symbols by table on latents (C, h, w), any number and sizes.

    Returns
    -------
    (48, 256) int64: column 0 counts the values beyond -127 to 127, column j the value j - 128.

    Raises
    ------
    ValueError
        If a latent has other channels or is not of integers within int16.
    """
    counts = np.zeros((TABLES, COLUMNS), np.int64)
    for latent in latents:
        if len(latent) != model.channels:
            raise ValueError(f"a latent of {len(latent)} channels for an entropy model of {model.channels}")
        tables = model.scales.tables(latent, model.classify(latent)).astype(np.int64)
        columns = as_int16(latent).astype(np.int64) - LOWEST + 1
        columns[(columns < 1) | (columns >= COLUMNS)] = 0
        counts += np.bincount((tables * COLUMNS + columns).ravel(), minlength=counts.size).reshape(counts.shape)
    return counts


def logistic_counts(scale: float) -> NDArray[np.int64]:
    """(256,) int64 in units of 1/256: a logistic distribution of mean zero, its tails in column 0."""
    edges = np.arange(LOWEST - 1, LOWEST + COLUMNS - 1) + 0.5
    below = 0.5 * (1 + np.tanh(edges / (2 * scale)))
    inside = np.rint(np.diff(below) * PRIOR_COUNT * COST_UNIT).astype(np.int64)
    return np.concatenate([[max(PRIOR_COUNT * COST_UNIT - int(inside.sum()), 1)], inside])
