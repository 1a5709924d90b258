from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.data import immunohistochemistry
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from wsicomp.evaluation.fidelity import MAX_PSNR_DB, measure


def tissue(count: int, side: int) -> NDArray[np.uint8]:
    image = immunohistochemistry()  # type: ignore[no-untyped-call]
    return np.stack([image[13 * i : 13 * i + side, 7 * i : 7 * i + side] for i in range(count)])


def noisy(tiles: NDArray[np.uint8], sigma: float, seed: int = 0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(0, sigma, tiles.shape)
    return np.clip(tiles + noise, 0, 255).round().astype(np.uint8)


def test_psnr_of_a_constant_error_by_hand() -> None:
    x = np.full((1, 16, 16, 3), 100, np.uint8)
    # One channel of three is off by 51 = 255 / 5: MSE 1 / 75, MAE 1 / 15.
    x_hat = x.copy()
    x_hat[..., 1] += 51
    fidelity = measure(x, x_hat)
    assert fidelity.psnr_db[0] == pytest.approx(10 * np.log10(75))
    assert fidelity.loss[0] == pytest.approx(0.5 / 75 + 0.5 / 15 + 0.5 * (1 - fidelity.ssim[0]))


def test_ssim_of_flat_tiles_by_hand() -> None:
    x, x_hat = np.full((1, 16, 16, 3), 51, np.uint8), np.full((1, 16, 16, 3), 102, np.uint8)
    # No variance: SSIM is the luminance term alone, (2 ab + C1) / (a^2 + b^2 + C1) with C1 = 0.01^2.
    expected = (2 * 0.2 * 0.4 + 1e-4) / (0.2**2 + 0.4**2 + 1e-4)
    assert measure(x, x_hat).ssim[0] == pytest.approx(expected, abs=1e-5)


def test_agrees_with_scikit_image() -> None:
    x = tissue(3, 48)
    x_hat = noisy(x, 12)
    fidelity = measure(x, x_hat)
    for i in range(3):
        psnr_db = peak_signal_noise_ratio(x[i], x_hat[i])  # type: ignore[no-untyped-call]
        assert fidelity.psnr_db[i] == pytest.approx(psnr_db, abs=1e-9)
        ssim = structural_similarity(  # type: ignore[no-untyped-call]
            x[i], x_hat[i], channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert fidelity.ssim[i] == pytest.approx(ssim, abs=2e-5)


def test_unchanged_tiles_are_capped_and_lose_nothing() -> None:
    x = tissue(2, 32)
    fidelity = measure(x, x)
    assert fidelity.psnr_db.tolist() == [MAX_PSNR_DB] * 2
    np.testing.assert_allclose(fidelity.ssim, 1, atol=1e-6)
    np.testing.assert_allclose(fidelity.loss, 0, atol=1e-6)


def test_extremes_overflow_nothing() -> None:
    black = np.zeros((1, 16, 16, 3), np.uint8)
    for x, x_hat in ((black, ~black), (~black, black)):
        fidelity = measure(x, x_hat)
        assert fidelity.psnr_db[0] == pytest.approx(0)
        assert fidelity.loss[0] == pytest.approx(1.5, abs=1e-3)


@pytest.mark.parametrize(("side", "defined"), [(160, False), (161, True)])
def test_ms_ssim_needs_more_than_160_px(side: int, defined: bool) -> None:
    x = tissue(1, side)
    ms_ssim = measure(x, noisy(x, 8)).ms_ssim
    assert (ms_ssim is not None) == defined
    if ms_ssim is not None:
        assert 0.5 < ms_ssim[0] < 1


def test_more_noise_is_worse_in_every_measure() -> None:
    x = tissue(1, 161)
    little, much = (measure(x, noisy(x, sigma)) for sigma in (4, 40))
    assert little.psnr_db[0] > much.psnr_db[0]
    assert little.ssim[0] > much.ssim[0]
    assert little.loss[0] < much.loss[0]
    assert little.ms_ssim is not None
    assert much.ms_ssim is not None
    assert little.ms_ssim[0] > much.ms_ssim[0]


def test_batches_do_not_change_a_tile() -> None:
    x = tissue(5, 24)
    x_hat = noisy(x, 10)
    together, alone = measure(x, x_hat, batch_size=3), measure(x, x_hat, batch_size=1)
    np.testing.assert_array_equal(together.psnr_db, alone.psnr_db)
    np.testing.assert_allclose(together.ssim, alone.ssim, atol=1e-6)
    assert together.psnr_db.dtype == together.ssim.dtype == together.loss.dtype == np.float64


@pytest.mark.parametrize(
    ("x", "x_hat", "message"),
    [
        (np.zeros((1, 16, 16, 3), np.uint8), np.zeros((1, 16, 17, 3), np.uint8), "must agree"),
        (np.zeros((1, 16, 16, 3), np.float32), np.zeros((1, 16, 16, 3), np.uint8), "uint8"),
        (np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16, 3), np.uint8), r"\(N, H, W, 3\)"),
        (np.zeros((1, 10, 16, 3), np.uint8), np.zeros((1, 10, 16, 3), np.uint8), "11 px"),
    ],
)
def test_what_are_not_tiles_is_refused(x: NDArray[np.uint8], x_hat: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(x, x_hat)
