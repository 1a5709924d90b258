"""Stains are mixed in optical density: glass stays glass, and eosin becomes DAB."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.color import hed2rgb

from wsicomp.datasets.crops import immunostain, restain

Pixels = NDArray[np.uint8]


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def plain(value: int, size: int = 16) -> Pixels:
    return np.full((size, size, 3), value, np.uint8)


def stained(stain: int, strength: float) -> Pixels:
    """A plain picture of one stain: 0 haematoxylin, 1 eosin, 2 DAB."""
    amounts = np.zeros((16, 16, 3))
    amounts[..., stain] = strength
    picture: Pixels = np.rint(255 * hed2rgb(amounts)).astype(np.uint8)
    return picture


@pytest.mark.parametrize(("before", "after", "strength"), [(0, 0, 1.0), (1, 2, 2.0)])
def test_immunostaining_keeps_haematoxylin_and_makes_eosin_brown(before: int, after: int, strength: float) -> None:
    pictures = (stained(before, 0.3), restain(stained(before, 0.3), immunostain(2.0)), stained(after, 0.3))
    eosin, found, expected = (-np.log((picture[0, 0].astype(float) + 1) / 256) for picture in pictures)
    cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
    assert cosine > 0.995
    assert np.linalg.norm(found) == pytest.approx(strength * np.linalg.norm(eosin), rel=0.1)


ALL_GREYS = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)


@pytest.mark.parametrize("image", [ALL_GREYS, noise(20, 30)], ids=["every grey", "noise"])
def test_the_identity_restains_nothing(image: Pixels) -> None:
    np.testing.assert_array_equal(restain(image, np.eye(3)), image)


@given(st.lists(st.floats(-3, 3), min_size=9, max_size=9))
def test_glass_absorbs_nothing_whatever_the_mixing(values: list[float]) -> None:
    assert (restain(plain(255, 2), np.array(values).reshape(3, 3)) == 255).all()


@given(st.lists(st.floats(-3, 3), min_size=9, max_size=9), st.integers(0, 100))
def test_each_pixel_is_mixed_as_beer_and_lambert_say(values: list[float], seed: int) -> None:
    image, mixing = noise(3, 5, seed), np.array(values).reshape(3, 3)
    density = np.einsum("hwi,ij->hwj", -np.log((image + 1.0) / 256), mixing)
    expected = 256 * np.exp(-np.maximum(density, 0)) - 1
    restained = restain(image, mixing)
    assert restained.dtype == np.uint8
    assert np.abs(restained - np.clip(expected, 0, 255)).max() <= 0.51  # rounded, and float32
