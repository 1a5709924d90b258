"""How near a decoded tile is to its original, as a floor asks: PSNR and MS-SSIM of the part inside the slide.

    x, x_hat (T, T, 3) uint8 -> part inside (h, w) -> squared differences, exact integers   -> PSNR
                                                   -> mirrored out to 161 px where smaller  -> MS-SSIM

A promise for every tile needs a number for every tile. Five scales of MS-SSIM need 161 px, so a smaller part is
mirrored out to that, original and decoded alike. `evaluation.fidelity` leaves such parts out; for all others it finds
the same numbers. Each tile is measured alone, so that no number depends on a batch.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_msssim import ms_ssim as multiscale_ssim

__all__ = ["mirrored_out", "ms_ssim", "psnr_db"]

MIN_SIDE_PX = 161
"""Smallest side whose fifth scale still holds SSIM's window of 11 px: (11 - 1) * 2**4 + 1."""


def psnr_db(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> float:
    """PSNR in dB, peak 255, of (h, w, 3) uint8 and what it was decoded to; infinite where they are equal."""
    squares = int(np.square(x.astype(np.int32) - x_hat).sum(dtype=np.int64))
    return 10 * math.log10(255**2 * x.size / squares) if squares else math.inf


def ms_ssim(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> float:
    """MS-SSIM, in [0, 1], of (h, w, 3) uint8 and what it was decoded to: five scales, the mean of the channels."""
    if np.array_equal(x, x_hat):
        return 1.0  # and not a float's neighbour of it
    side = max(*x.shape[:2], MIN_SIDE_PX) if min(x.shape[:2]) < MIN_SIDE_PX else 0
    pictures = [mirrored_out(part, side) if side else part for part in (x, x_hat)]
    with torch.inference_mode():
        a, b = (torch.tensor(picture).permute(2, 0, 1)[None].float() / 255 for picture in pictures)  # (1, 3, h, w)
        return min(float(multiscale_ssim(a, b, data_range=1.0)), 1.0)


def mirrored_out(inside: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Picture (side, side, 3) of a part (h, w, 3) at its top left, mirrored beyond it."""
    height, width, _ = inside.shape
    return np.pad(inside, ((0, side - height), (0, side - width), (0, 0)), mode="symmetric")
