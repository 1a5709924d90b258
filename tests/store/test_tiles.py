"""What stands beyond the edge of the image: encoder and reader agree on it, and each kind of tile is told apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsicomp.errors import StoreCorrupt
from wsicomp.store import jpegxl
from wsicomp.store.tiles import IS_PICTURE, Picture, TileCounts, completed, stored_size

SIDES = st.integers(1, 64)


@given(height_px=SIDES, width_px=SIDES, depth=st.integers(0, 6))
def test_every_pixel_inside_lies_under_a_stored_latent_and_none_is_stored_in_vain(
    height_px: int, width_px: int, depth: int
) -> None:
    for pixels, stored in zip((height_px, width_px), stored_size(height_px, width_px, depth), strict=True):
        assert (stored - 1) * 2**depth < pixels <= stored * 2**depth


@given(height=st.integers(1, 8), width=st.integers(1, 8), mirrored=st.booleans(), seed=st.integers(0, 99))
def test_completing_keeps_what_is_inside_and_completing_again_changes_nothing(
    height: int, width: int, mirrored: bool, seed: int
) -> None:
    inside = np.random.default_rng(seed).integers(1, 99, (3, height, width))
    whole = completed(inside, 8, mirrored=mirrored)
    assert whole.shape == (3, 8, 8)
    np.testing.assert_array_equal(whole[:, :height, :width], inside)
    np.testing.assert_array_equal(completed(whole[:, :height, :width], 8, mirrored=mirrored), whole)
    beyond = np.ones((8, 8), np.bool_)
    beyond[:height, :width] = False
    assert (whole[:, beyond] > 0).all() == (mirrored or not beyond.any())
    if not mirrored:
        assert not whole[:, beyond].any()


def test_a_whole_latent_is_not_copied() -> None:
    latent = np.ones((2, 4, 4))
    assert completed(latent, 4, mirrored=True) is latent


def test_tiles_are_counted_by_kind() -> None:
    steps = [np.array([[0, 64, 65], [IS_PICTURE, 240, 64]], np.uint8), np.array([[IS_PICTURE]], np.uint8)]
    assert TileCounts.of(9, 6, 4.0, steps) == TileCounts(glass=3, latents=4, pictures=2, raised=2)
    assert TileCounts.of(9, 6, None, []) == TileCounts(glass=3, latents=6, pictures=0, raised=0)


def test_a_picture_gives_its_pixels_or_names_its_tile() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    stream = jpegxl.encode(pixels, 0)
    np.testing.assert_array_equal(Picture(stream, 16, "a tile").pixels(), pixels)
    for damaged in (Picture(stream, 32, "a tile"), Picture(stream[:40], 16, "a tile"), Picture(b"", 16, "a tile")):
        with pytest.raises(StoreCorrupt, match=r"^a tile is damaged"):
            damaged.pixels()
