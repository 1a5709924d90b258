"""Latents and entropy models for tests: small, seeded, and with every feature in use."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from wsicomp.codec.entropy_model import EntropyModel
from wsicomp.codec.kernels import TABLES, TAPS, UNITS
from wsicomp.codec.scales import INNER_BITS, MIXING_BITS, OUTER_BITS, SPATIAL_BITS, ScaleModel
from wsicomp.codec.tables import COLUMNS, FrequencyTables

SLICES = (1, 2)
CHANNELS = sum(SLICES)

Latent = NDArray[np.int16]


def busy_latents(count: int, *, side: int = 16, seed: int = 0, spread: float = 4.0) -> list[Latent]:
    """Latents (3, side, side) int16, quiet on the left and busy on the right."""
    rng = np.random.default_rng(seed)
    scale = np.where(np.arange(side) < side // 2, 0.3, spread)
    return list(np.rint(rng.laplace(0, 1, (count, CHANNELS, side, side)) * scale).astype(np.int16))


def known(slices: Sequence[int]) -> list[tuple[int, int]]:
    """For each pass but the first, how many channels it knows, and how many it codes."""
    ends = np.cumsum(slices)
    return [(int(end if colour else end - n), n) for end, n in zip(ends, slices, strict=True) for colour in (0, 1)][1:]


def random_scales(slices: Sequence[int] = SLICES, classes: int = 3, seed: int = 0) -> ScaleModel:
    """Scales that follow no sense, only their inputs: hidden units on and off and clipped, and every table."""
    rng = np.random.default_rng(seed)
    spatial = [rng.integers(-500, 500, TAPS * inputs * UNITS) for inputs, _ in known(slices)]
    mixing = [rng.integers(-600, 600, UNITS * outputs) for _, outputs in known(slices)]
    spatial[-1][::7] *= 60
    return ScaleModel(
        np.array(slices, np.int32),
        np.concatenate(spatial).astype(np.int16),
        rng.integers(-(2**18), 2**18, (2 * len(slices) - 1, classes, UNITS)).astype(np.int32),
        np.concatenate(mixing).astype(np.int16),
        rng.integers(-(2**17), 2**20, (classes, 2 * sum(slices))).astype(np.int32),
    )


def sensible_scales(slices: Sequence[int] = SLICES, classes: int = 3, seed: int = 0, slope: float = 1.5) -> ScaleModel:
    """Scales that grow with the mean magnitude of what is around; 2**-1.5 where all is quiet in the middle class."""
    rng = np.random.default_rng(seed)
    spatial = [
        rng.uniform(0.5, 1.5, TAPS * inputs * UNITS) * 2**SPATIAL_BITS / (TAPS * inputs) for inputs, _ in known(slices)
    ]
    mixing = [rng.uniform(0.5, 1.5, UNITS * outputs) * 2**MIXING_BITS * slope / UNITS for _, outputs in known(slices)]
    inner = rng.uniform(0, 0.1, (2 * len(slices) - 1, classes, UNITS)) * 2**INNER_BITS
    outer = (3.5 + np.arange(classes) - classes // 2)[:, None].repeat(2 * sum(slices), axis=1) * 2**OUTER_BITS
    return ScaleModel(
        np.array(slices, np.int32),
        np.concatenate(spatial).astype(np.int16),
        inner.astype(np.int32),
        np.concatenate(mixing).astype(np.int16),
        outer.astype(np.int32),
    )


def blind_scales(slices: Sequence[int], biases: NDArray[np.int32]) -> ScaleModel:
    """Scales that see nothing; `biases` (Z, 2 C) are those of the results."""
    return ScaleModel(
        np.array(slices, np.int32),
        np.zeros(sum(TAPS * inputs * UNITS for inputs, _ in known(slices)), np.int16),
        np.zeros((2 * len(slices) - 1, len(biases), UNITS), np.int32),
        np.zeros(sum(UNITS * outputs for _, outputs in known(slices)), np.int16),
        biases,
    )


def formula_scales() -> ScaleModel:
    """Scales of two slices of one channel by whole-number arithmetic alone, up to 2**2.5 where all is quiet."""
    blind = blind_scales((1, 1), np.zeros((2, 4), np.int32))

    def numbers(array: NDArray[Any], factor: int, modulus: int, lowest: int) -> NDArray[Any]:
        return (np.arange(array.size) * factor % modulus + lowest).astype(array.dtype).reshape(array.shape)

    return ScaleModel(
        blind.slices,
        numbers(blind.spatial, 7919, 401, -150),
        numbers(blind.inner, 104_729, 30_011, -15_000),
        numbers(blind.mixing, 7907, 301, -100),
        numbers(blind.outer, 50_021, 500_009, 0),
    )


def formula_tables(bits: int = 12) -> FrequencyTables:
    """48 tables by whole-number arithmetic alone, ever wider, so that no version of numpy can change them."""
    distance = np.abs(np.arange(COLUMNS) - COLUMNS // 2)[None]
    counts = 60_000 // (1 + (4 * distance) ** 2 // (1 + np.arange(TABLES)[:, None] ** 2))
    counts[:, 0] = 40
    return FrequencyTables.from_counts(counts.astype(np.int64), 1 - COLUMNS // 2, bits=bits)


@cache
def fitted(classes: int = 3, bits: int = 12, seed: int = 0) -> EntropyModel:
    """Entropy model of the latents above."""
    return EntropyModel.fit(sensible_scales(classes=classes, seed=seed), busy_latents(24, seed=seed), bits=bits)


@cache
def senseless(seed: int = 0, slices: tuple[int, ...] = SLICES) -> EntropyModel:
    """Entropy model whose every table is in use, and wrong."""
    return EntropyModel(random_scales(slices, seed=seed), formula_tables())


def latents(
    dtype: type[np.generic] = np.int16, low: int = -32768, high: int = 32767, channels: int = CHANNELS
) -> st.SearchStrategy[Latent]:
    """Any latent (C, h, w), sides of 0 to 9: values that tables know and values that they do not."""
    shape = st.tuples(st.just(channels), st.integers(0, 9), st.integers(0, 9))
    values = st.one_of(st.integers(-12, 12), st.integers(low, high))
    return hnp.arrays(dtype, shape, elements=values)
