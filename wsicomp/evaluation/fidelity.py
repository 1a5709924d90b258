"""How far reconstructed tiles lie from their originals: PSNR, SSIM, MS-SSIM and the study's loss of each tile.

    x, x_hat (N, H, W, 3) uint8 --> metrics.distortion, metrics.similarity, tile by tile --> Fidelity, (N,) each

Errors are averaged over a tile's pixels and its three channels alike. This module does NOT weigh glass against tissue:
the caller picks the tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicomp.classification.pixels import check_tiles
from wsicomp.metrics.distortion import mean_psnr_db, psnr_db
from wsicomp.metrics.similarity import ms_ssim, ssim

__all__ = ["Fidelity", "measure"]


@dataclass(frozen=True)
class Fidelity:
    """Closeness of N reconstructed tiles to their originals.

    Parameters
    ----------
    psnr_db
        (N,) float64 in dB, peak 255; infinite where nothing changed.
    ssim
        (N,) float64 in [-1, 1], Gaussian window of 11 px and sigma 1.5, mean of the channels.
    ms_ssim
        (N,) float64 in [0, 1], five scales; tiles under 161 px mirrored out to that.
    loss
        (N,) float64, the study's 0.5 MSE + 0.5 MAE + 0.5 (1 - SSIM) on pixels in [0, 1].
    """

    psnr_db: NDArray[np.float64]
    ssim: NDArray[np.float64]
    ms_ssim: NDArray[np.float64]
    loss: NDArray[np.float64]

    def means(self) -> dict[str, float]:
        """Mean of each measure over the tiles; an unchanged tile counts as 100 dB."""
        return {
            "psnr_db": mean_psnr_db(self.psnr_db),
            "ssim": float(self.ssim.mean()),
            "ms_ssim": float(self.ms_ssim.mean()),
            "loss": float(self.loss.mean()),
        }


def measure(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> Fidelity:
    """Measure each reconstructed tile against its original.

    Parameters
    ----------
    x, x_hat
        Originals and reconstructions, (N, H, W, 3) uint8.

    Raises
    ------
    ValueError
        If the arrays are not tiles of one shape and dtype.
    """
    check_tiles(x, "x")
    check_tiles(x_hat, "x_hat")
    if x.shape != x_hat.shape:
        raise ValueError(f"x is {x.shape} and x_hat {x_hat.shape}: they must agree")
    mse, mae, psnrs, ssims, ms_ssims = np.empty((5, len(x)))
    for index, (tile, tile_hat) in enumerate(zip(x, x_hat, strict=True)):
        difference = np.abs(tile.astype(np.int32) - tile_hat)  # (H, W, 3)
        mse[index] = np.square(difference).mean(dtype=np.float64) / 255**2
        mae[index] = difference.mean(dtype=np.float64) / 255
        psnrs[index], ssims[index] = psnr_db(tile, tile_hat), ssim(tile, tile_hat)
        ms_ssims[index] = ms_ssim(tile, tile_hat)
    return Fidelity(psnrs, ssims, ms_ssims, loss=0.5 * mse + 0.5 * mae + 0.5 * (1 - ssims))
