"""How far a reconstruction lies from the original, tile by tile: PSNR, SSIM, MS-SSIM and the study's loss.

    x, x_hat (N, H, W, 3) uint8 --> squared and absolute differences, exact integers --> PSNR, MSE, MAE
                                --> float32 in [0, 1], batches --> pytorch-msssim     --> SSIM, MS-SSIM

Errors are averaged over a tile's pixels and its three channels alike; a reported PSNR is the mean of the tiles'
PSNRs, not the PSNR of the mean error. It does NOT weigh glass against tissue: the caller picks the tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_msssim import ms_ssim, ssim

from wsicomp.evaluation.pixels import check_tiles, to_float_nchw

__all__ = ["MAX_PSNR_DB", "Fidelity", "measure"]

MAX_PSNR_DB = 100.0
"""PSNR of a tile that came back unchanged, and the largest one reported, so that means stay finite."""

MIN_SIDE_SSIM_PX = 11
"""Side of SSIM's Gaussian window: a smaller tile has none."""

MIN_SIDE_MS_SSIM_PX = 161
"""Smallest side whose fifth scale still holds SSIM's window: (11 - 1) * 2**4 + 1."""


@dataclass(frozen=True)
class Fidelity:
    """Closeness of N reconstructed tiles to their originals.

    Parameters
    ----------
    psnr_db
        (N,) float64 in [0, 100] dB, peak 255; 100 where nothing changed.
    ssim
        (N,) float64 in [-1, 1], Gaussian window of 11 px and sigma 1.5, mean of the channels.
    ms_ssim
        (N,) float64 in [0, 1], five scales; None for tiles of 160 px or less on a side.
    loss
        (N,) float64, the study's 0.5 MSE + 0.5 MAE + 0.5 (1 - SSIM) on pixels in [0, 1].
    """

    psnr_db: NDArray[np.float64]
    ssim: NDArray[np.float64]
    ms_ssim: NDArray[np.float64] | None
    loss: NDArray[np.float64]


def measure(x: NDArray[np.uint8], x_hat: NDArray[np.uint8], batch_size: int = 2) -> Fidelity:
    """Measure each reconstructed tile against its original.

    Parameters
    ----------
    x, x_hat
        Originals and reconstructions, (N, H, W, 3) uint8, H and W at least 11 px.
    batch_size
        Tiles held as floats at once; the result does not depend on it. Few are fastest on a CPU: SSIM's many
        temporaries then stay in its caches.

    Raises
    ------
    ValueError
        If the arrays are not tiles of one shape and dtype, or are too small for SSIM's window.
    """
    check_tiles(x, "x")
    check_tiles(x_hat, "x_hat")
    if x.shape != x_hat.shape:
        raise ValueError(f"x is {x.shape} and x_hat {x_hat.shape}: they must agree")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    count, height, width, _ = x.shape
    if min(height, width) < MIN_SIDE_SSIM_PX:
        raise ValueError(f"SSIM needs sides of {MIN_SIDE_SSIM_PX} px or more, not {height} x {width}")
    has_ms_ssim = min(height, width) >= MIN_SIDE_MS_SSIM_PX

    mse, mae = np.empty(count), np.empty(count)
    ssims, ms_ssims = np.empty(count), np.empty(count)
    for start in range(0, count, batch_size):
        part = slice(start, start + batch_size)
        difference = np.abs(x[part].astype(np.int32) - x_hat[part])  # (B, H, W, 3)
        mse[part] = np.square(difference).mean(axis=(1, 2, 3), dtype=np.float64) / 255**2
        mae[part] = difference.mean(axis=(1, 2, 3), dtype=np.float64) / 255
        with torch.inference_mode():
            a, b = (torch.from_numpy(to_float_nchw(tiles[part])) for tiles in (x, x_hat))
            ssims[part] = ssim(a, b, data_range=1.0, size_average=False).numpy()
            if has_ms_ssim:
                ms_ssims[part] = ms_ssim(a, b, data_range=1.0, size_average=False).numpy()

    with np.errstate(divide="ignore"):  # an unchanged tile: infinite, then capped
        psnr_db = np.minimum(-10 * np.log10(mse), MAX_PSNR_DB)
    return Fidelity(
        psnr_db=psnr_db,
        ssim=ssims,
        ms_ssim=ms_ssims if has_ms_ssim else None,
        loss=0.5 * mse + 0.5 * mae + 0.5 * (1 - ssims),
    )
