from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.pipeline.sources import picture
from wsicomp.evaluation.fidelity import measure
from wsicomp.metrics.distortion import MAX_PSNR_DB, psnr_db
from wsicomp.metrics.similarity import ms_ssim, ssim


def tissue(count: int, side: int) -> NDArray[np.uint8]:
    image = picture(side + 16 * count, side)
    return np.stack([image[:, 16 * i : 16 * i + side] for i in range(count)])


def noisy(tiles: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(0, sigma, tiles.shape)
    return np.clip(tiles + noise, 0, 255).round().astype(np.uint8)


def test_the_loss_of_a_constant_error_by_hand() -> None:
    x = np.full((1, 16, 16, 3), 100, np.uint8)
    # One channel of three is off by 51 = 255 / 5: MSE 1 / 75, MAE 1 / 15.
    x_hat = x.copy()
    x_hat[..., 1] += 51
    fidelity = measure(x, x_hat)
    assert fidelity.loss[0] == pytest.approx(0.5 / 75 + 0.5 / 15 + 0.5 * (1 - fidelity.ssim[0]))


def test_each_tile_is_measured_alone() -> None:
    x = tissue(3, 48)
    x_hat = noisy(x, 10)
    fidelity = measure(x, x_hat)
    for i in range(3):
        assert fidelity.psnr_db[i] == psnr_db(x[i], x_hat[i])
        assert fidelity.ssim[i] == ssim(x[i], x_hat[i])
        assert fidelity.ms_ssim[i] == ms_ssim(x[i], x_hat[i])
    assert fidelity.psnr_db.dtype == fidelity.ms_ssim.dtype == fidelity.loss.dtype == np.float64
    assert fidelity.means()["psnr_db"] == pytest.approx(fidelity.psnr_db.mean())


def test_unchanged_tiles_lose_nothing_and_count_as_100_db_in_a_mean() -> None:
    x = tissue(2, 32)
    fidelity = measure(x, x)
    assert fidelity.psnr_db.tolist() == [math.inf] * 2
    assert fidelity.means() == {"psnr_db": MAX_PSNR_DB, "ssim": 1, "ms_ssim": 1, "loss": 0}


def test_extremes_overflow_nothing() -> None:
    black = np.zeros((1, 16, 16, 3), np.uint8)
    for x, x_hat in ((black, ~black), (~black, black)):
        fidelity = measure(x, x_hat)
        assert fidelity.psnr_db[0] == pytest.approx(0)
        assert fidelity.loss[0] == pytest.approx(1.5, abs=1e-3)


def test_more_noise_is_worse_in_every_measure() -> None:
    x = tissue(1, 161)
    little, much = (measure(x, noisy(x, sigma)).means() for sigma in (4, 40))
    assert little.pop("loss") < much.pop("loss")
    assert all(little[name] > much[name] for name in much)


@pytest.mark.parametrize(
    ("x", "x_hat", "message"),
    [
        (np.zeros((1, 16, 16, 3), np.uint8), np.zeros((1, 16, 17, 3), np.uint8), "must agree"),
        (np.zeros((1, 16, 16, 3), np.float32), np.zeros((1, 16, 16, 3), np.uint8), "uint8"),
        (np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16, 3), np.uint8), r"\(N, H, W, 3\)"),
    ],
)
def test_what_are_not_tiles_is_refused(x: NDArray[np.uint8], x_hat: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(x, x_hat)
