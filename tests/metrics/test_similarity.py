from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from tests.pipeline.sources import picture
from wsicomp.metrics.similarity import mirrored_out, ms_ssim, ssim


def noisy(x: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    return np.clip(x + np.random.default_rng(0).normal(0, sigma, x.shape), 0, 255).round().astype(np.uint8)


def test_ssim_of_flat_pictures_by_hand() -> None:
    x, x_hat = np.full((16, 16, 3), 51, np.uint8), np.full((16, 16, 3), 102, np.uint8)
    # No variance: SSIM is the luminance term alone, (2 ab + C1) / (a^2 + b^2 + C1) with C1 = 0.01^2.
    expected = (2 * 0.2 * 0.4 + 1e-4) / (0.2**2 + 0.4**2 + 1e-4)
    assert ssim(x, x_hat) == pytest.approx(expected, abs=1e-5)


def test_ssim_agrees_with_scikit_image() -> None:
    x = picture(64, 48)
    x_hat = noisy(x, 12)
    expected = structural_similarity(  # type: ignore[no-untyped-call]
        x, x_hat, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(x, x_hat) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (160, 160), (161, 20), (256, 3), (200, 176)])
@pytest.mark.parametrize("measure", [ssim, ms_ssim])
def test_any_picture_has_both(measure: Callable[..., float], size: tuple[int, int]) -> None:
    x = picture(*size)
    worse = [measure(x, (x // step * step).astype(np.uint8)) for step in (1, 16, 64)]
    assert worse[0] == 1 > worse[1] > worse[2] > -0.2


def test_ms_ssim_of_a_small_picture_is_that_of_the_mirrored_one() -> None:
    x = picture(100, 60)
    x_hat = noisy(x, 20)
    assert ms_ssim(x, x_hat) == ms_ssim(mirrored_out(x, 161), mirrored_out(x_hat, 161))


def test_black_has_one_too() -> None:
    black = np.zeros((32, 32, 3), np.uint8)
    assert 0 < ms_ssim(black, black + 1) <= 1


@pytest.mark.parametrize("measure", [ssim, ms_ssim])
def test_more_noise_is_worse_and_none_is_one(measure: Callable[..., float]) -> None:
    x = picture(161, 176)
    assert measure(x, x) == 1 > measure(x, noisy(x, 4)) > measure(x, noisy(x, 40)) > 0


def test_mirroring_repeats_the_edge() -> None:
    inside = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    out = mirrored_out(inside, 4)
    assert out.shape == (4, 4, 3)
    np.testing.assert_array_equal(out[:2, :2], inside)
    np.testing.assert_array_equal(out[2:], out[1::-1])
    np.testing.assert_array_equal(out[:, 2:], out[:, 1::-1])


@pytest.mark.parametrize(
    ("x", "x_hat", "message"),
    [
        (np.zeros((16, 16, 3), np.uint8), np.zeros((16, 17, 3), np.uint8), r"one \(h, w, 3\)"),
        (np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8), r"one \(h, w, 3\)"),
        (np.zeros((16, 16, 3), np.float32), np.zeros((16, 16, 3), np.uint8), "uint8"),
    ],
)
def test_what_are_not_two_pictures_is_refused(x: NDArray[np.uint8], x_hat: NDArray[np.uint8], message: str) -> None:
    for measure in (ssim, ms_ssim):
        with pytest.raises(ValueError, match=message):
            measure(x, x_hat)


def test_the_room_loads_without_a_network_library() -> None:
    code = (
        "import sys, wsicomp.metrics.similarity, wsicomp.metrics.classification, wsicomp.metrics.bootstrap\n"
        "sys.exit(bool({'torch', 'sklearn', 'scipy', 'zarr'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
