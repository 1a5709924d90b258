"""Latents and entropy models for tests: small, seeded, and with every feature in use."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from wsicomp.codec.entropy_model import EntropyModel

CHANNELS = 3


def busy_latents(count: int, *, side: int = 16, seed: int = 0, spread: float = 4.0) -> list[NDArray[np.int16]]:
    """Latents (3, side, side) int16, quiet on the left and busy on the right, around medians of -5, 0 and 9."""
    rng = np.random.default_rng(seed)
    scale = np.where(np.arange(side) < side // 2, 0.3, spread)
    drawn = rng.laplace(0, 1, (count, CHANNELS, side, side)) * scale
    return list((np.rint(drawn) + np.array([-5, 0, 9])[:, None, None]).astype(np.int16))


@cache
def fitted(classes: int = 6, bits: int = 12, seed: int = 0) -> EntropyModel:
    """Entropy model of the latents above."""
    return EntropyModel.fit(busy_latents(24, seed=seed), classes=classes, bits=bits)


def latents(
    dtype: type[np.generic] = np.int16, low: int = -32768, high: int = 32767
) -> st.SearchStrategy[NDArray[np.int16]]:
    """Any latent (3, h, w), sides of 0 to 9: values that tables know and values that they do not."""
    shape = st.tuples(st.just(CHANNELS), st.integers(0, 9), st.integers(0, 9))
    values = st.one_of(st.integers(-12, 12), st.integers(low, high))
    return hnp.arrays(dtype, shape, elements=values)
