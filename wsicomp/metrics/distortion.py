"""Squared errors between a picture and what it was decoded to, and their PSNR.

    x, x_hat uint8 --> differences, exact integers --> mean square --> PSNR in dB, peak 255
                                                   --> BT.601 matrix --> mean square of Y, Cb and Cr

One rule for pictures that came back unchanged: the PSNR of such a picture is infinite, and a mean of PSNRs counts it as
100 dB, so that means stay finite and one blank tile does not decide them. A PSNR that is reported for several tiles is
the mean of the tiles' PSNRs, not the PSNR of their mean error. This module does NOT choose tiles or weigh them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["MAX_PSNR_DB", "mean_psnr_db", "psnr_db", "psnr_db_of_mse", "ycbcr_squared_error"]

MAX_PSNR_DB = 100.0
"""What an unchanged picture counts in a mean, in dB: about one grey value in one pixel of a tile of 256 px."""

YCBCR = np.array(
    [
        [0.299, 0.587, 0.114],
        [-0.299 / 1.772, -0.587 / 1.772, 0.5],
        [0.5, -0.587 / 1.402, -0.114 / 1.402],
    ]
)
"""Y, Cb and Cr from R, G and B by BT.601 in full range, as JPEG has them (JFIF); offsets cancel in differences."""


def psnr_db(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> float:
    """PSNR of a picture over all of its pixels and channels.

    Parameters
    ----------
    x, x_hat
        The original and what it was decoded to: uint8, of one shape.

    Returns
    -------
    dB at a peak of 255; infinite where the two are equal.

    Raises
    ------
    ValueError
        If the two differ in shape, are not uint8, or are empty.
    """
    _check(x, x_hat)
    squares = int(np.square(x.astype(np.int32) - x_hat).sum(dtype=np.int64))
    return 10 * math.log10(255**2 * x.size / squares) if squares else math.inf


def psnr_db_of_mse(mse: float, peak: float = 255.0) -> float:
    """PSNR in dB of a mean squared error of values from 0 to `peak`; infinite where the error is 0."""
    return 10 * math.log10(peak**2 / mse) if mse else math.inf


def mean_psnr_db(psnrs_db: ArrayLike) -> float:
    """Mean of pictures' PSNRs in dB, in which none counts more than 100 dB.

    Parameters
    ----------
    psnrs_db
        (N,) dB, infinite allowed, N at least 1.
    """
    return float(np.minimum(np.asarray(psnrs_db, np.float64), MAX_PSNR_DB).mean())


def ycbcr_squared_error(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean squared errors of luma and of both chroma channels, which a PSNR of RGB mixes.

    Parameters
    ----------
    x, x_hat
        The original and what it was decoded to: (..., 3) uint8 RGB, of one shape.

    Returns
    -------
    (3,) float64, those of Y, Cb and Cr (BT.601, full range, 0 to 255), in squared grey values.

    Raises
    ------
    ValueError
        If the two differ in shape, are not RGB of uint8, or are empty.
    """
    _check(x, x_hat)
    if x.shape[-1] != 3:
        raise ValueError(f"Y, Cb and Cr need RGB of shape (..., 3), not {x.shape}")
    # Mean products of the channels' differences: the mean square of any mixture of channels follows from them.
    difference = (x.astype(np.float64) - x_hat).reshape(-1, 3)  # (..., 3) -> (pixels, 3)
    products = difference.T @ difference / len(difference)  # (3, 3)
    squares: NDArray[np.float64] = np.einsum("ci,ij,cj->c", YCBCR, products, YCBCR)
    return squares


def _check(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> None:
    if x.shape != x_hat.shape or not x.size:
        raise ValueError(f"x is {x.shape} and x_hat {x_hat.shape}: they must agree, and not be empty")
    if x.dtype != np.uint8 or x_hat.dtype != np.uint8:
        raise ValueError(f"x is {x.dtype} and x_hat {x_hat.dtype}: both must be uint8")
