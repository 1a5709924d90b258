"""SSIM and MS-SSIM of a picture and what it was decoded to, one picture at a time.

    x, x_hat (h, w, 3) uint8 --> mirrored out to 11 px where smaller  --> [0, 1] --> windows  --> SSIM
                             --> mirrored out to 161 px where smaller --> [0, 1] --> 5 scales --> MS-SSIM

Both are the mean of the three channels, after Wang et al. (2004) and Wang, Simoncelli & Bovik (2003), with a Gaussian
window of 11 px and sigma 1.5. A window needs 11 px and five scales 161 px, so a smaller picture is mirrored out to
that, the original and the decoded one alike: a promise for every tile needs a number for every tile. No number depends
on a batch, and a picture that came back unchanged has exactly 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["mirrored_out", "ms_ssim", "ssim"]

MIN_SIDE_SSIM_PX = 11
"""Side of SSIM's Gaussian window."""

MIN_SIDE_MS_SSIM_PX = 161
"""Smallest side whose fifth scale still holds SSIM's window: (11 - 1) * 2**4 + 1."""


def ssim(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> float:
    """SSIM, in [-1, 1].

    Parameters
    ----------
    x, x_hat
        The original and what it was decoded to: (h, w, 3) uint8 of any size, mirrored out to 11 px where smaller.

    Raises
    ------
    ValueError
        If they are not two pictures of one shape.
    """
    from pytorch_msssim import ssim as measure

    return _measured(measure, x, x_hat, MIN_SIDE_SSIM_PX)


def ms_ssim(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> float:
    """MS-SSIM, in [0, 1], of five scales.

    Parameters
    ----------
    x, x_hat
        The original and what it was decoded to: (h, w, 3) uint8 of any size, mirrored out to 161 px where smaller.

    Raises
    ------
    ValueError
        If they are not two pictures of one shape.
    """
    from pytorch_msssim import ms_ssim as measure

    return _measured(measure, x, x_hat, MIN_SIDE_MS_SSIM_PX)


def mirrored_out(inside: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Picture (side, side, 3) that has a part (h, w, 3) at its top left and is mirrored beyond it."""
    height, width, _ = inside.shape
    return np.pad(inside, ((0, side - height), (0, side - width), (0, 0)), mode="symmetric")


def _measured(measure: Callable[..., object], x: NDArray[np.uint8], x_hat: NDArray[np.uint8], least_px: int) -> float:
    import torch

    if x.shape != x_hat.shape or x.ndim != 3 or x.shape[2] != 3:
        raise ValueError(f"x is {x.shape} and x_hat {x_hat.shape}: both must be one (h, w, 3)")
    if x.dtype != np.uint8 or x_hat.dtype != np.uint8:
        raise ValueError(f"x is {x.dtype} and x_hat {x_hat.dtype}: both must be uint8")
    if np.array_equal(x, x_hat):
        return 1.0  # and not a float's neighbour of it
    if min(x.shape[:2]) < least_px:
        side = max(*x.shape[:2], least_px)
        x, x_hat = mirrored_out(x, side), mirrored_out(x_hat, side)
    with torch.inference_mode():
        a, b = (torch.tensor(picture).permute(2, 0, 1)[None].float() / 255 for picture in (x, x_hat))  # (1, 3, h, w)
        return min(float(measure(a, b, data_range=1.0)), 1.0)  # type: ignore[arg-type]
