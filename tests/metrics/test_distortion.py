from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from wsicomp.metrics.distortion import MAX_PSNR_DB, mean_psnr_db, psnr_db, psnr_db_of_mse, ycbcr_squared_error


def pair(seed: int = 0, shape: tuple[int, ...] = (32, 48, 3)) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, shape, dtype=np.uint8)
    return x, np.clip(x + rng.normal(0, 12, shape), 0, 255).round().astype(np.uint8)


def test_a_constant_error_by_hand() -> None:
    x = np.full((16, 16, 3), 100, np.uint8)
    x_hat = x.copy()
    x_hat[..., 1] += 51  # one channel of three is off by 255 / 5: a mean square of 1 / 75
    assert psnr_db(x, x_hat) == pytest.approx(10 * math.log10(75))
    assert psnr_db_of_mse(1 / 75, peak=1.0) == psnr_db_of_mse(255**2 / 75) == pytest.approx(10 * math.log10(75))


def test_agrees_with_scikit_image() -> None:
    x, x_hat = pair()
    assert psnr_db(x, x_hat) == pytest.approx(peak_signal_noise_ratio(x, x_hat))  # type: ignore[no-untyped-call]


def test_the_range_of_uint8_overflows_nothing() -> None:
    black = np.zeros((300, 300, 3), np.uint8)
    assert psnr_db(black, ~black) == psnr_db(~black, black) == 0


def test_an_unchanged_picture_is_infinite_and_counts_as_100_db_in_a_mean() -> None:
    x, x_hat = pair()
    assert psnr_db(x, x) == psnr_db_of_mse(0.0) == math.inf
    assert mean_psnr_db([math.inf]) == MAX_PSNR_DB == 100
    assert mean_psnr_db([psnr_db(x, x), psnr_db(x, x_hat)]) == pytest.approx((100 + psnr_db(x, x_hat)) / 2)
    assert mean_psnr_db([30.0, 120.0]) == 65


@given(st.integers(0, 2**32 - 1))
def test_luma_and_chroma_apart_are_those_of_the_converted_pictures(seed: int) -> None:
    x, x_hat = pair(seed)
    # Pillow converts by the same definition and rounds to whole numbers.
    a, b = (np.asarray(Image.fromarray(picture).convert("YCbCr"), np.float64) for picture in (x, x_hat))
    found = ycbcr_squared_error(x, x_hat)
    assert found.shape == (3,)
    np.testing.assert_allclose(found, np.square(a - b).mean(axis=(0, 1)), rtol=0.03)


def test_an_error_in_grey_is_all_luma_and_one_in_blue_mostly_chroma() -> None:
    x = np.full((8, 8, 3), 100, np.uint8)
    np.testing.assert_allclose(ycbcr_squared_error(x, x + np.uint8(10)), [100, 0, 0], atol=1e-9)
    blue = x + np.array([0, 0, 10], np.uint8)
    np.testing.assert_allclose(ycbcr_squared_error(x, blue), [1.14**2, 25, (1.14 / 1.402) ** 2], rtol=1e-9)
    np.testing.assert_allclose(ycbcr_squared_error(x, x), 0)


@pytest.mark.parametrize("measure", [psnr_db, ycbcr_squared_error])
@pytest.mark.parametrize(
    ("x", "x_hat", "message"),
    [
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8), "must agree"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 3), np.uint8), "must agree"),
        (np.zeros((0, 4, 3), np.uint8), np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((4, 4, 3)), np.zeros((4, 4, 3), np.uint8), "uint8"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    measure: type[object], x: NDArray[np.uint8], x_hat: NDArray[np.uint8], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        measure(x, x_hat)  # type: ignore[call-arg]


def test_grey_has_no_chroma() -> None:
    with pytest.raises(ValueError, match="RGB"):
        ycbcr_squared_error(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8))
