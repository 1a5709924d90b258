"""Brings latents into the type that they are stored as, and back.

    int8      q = clamp(round((z - offset) / scale), -127, 127)          z_hat = q * scale + offset
    int16     symbols, whole numbers already
    float16, float32    as they are, for the study's own numbers

Each channel has one scale and one offset for int8, which never change once trained. The value -128 is not used, so that
the range is symmetric.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from wsicomp.errors import ConfigError

__all__ = ["LATENT_DTYPES", "LatentDtype", "LatentQuantiser"]

LatentDtype = Literal["int8", "int16", "float16", "float32"]
LATENT_DTYPES: tuple[LatentDtype, ...] = get_args(LatentDtype)
MAX_LEVEL = 127


class LatentQuantiser:
    """Brings float latents into their stored type and back, on whatever device they are.

    Parameters
    ----------
    dtype
        "int8", "int16", "float16" or "float32".
    scale, offset
        (C,) float32, used by int8 only; scales are positive.

    Raises
    ------
    ConfigError
        If the type is unknown.
    """

    def __init__(self, dtype: str, scale: Tensor, offset: Tensor) -> None:
        if dtype not in LATENT_DTYPES:
            raise ConfigError(f"latent type '{dtype}' is unknown; use one of {', '.join(LATENT_DTYPES)}")
        self.dtype: LatentDtype = dtype
        self._scale = scale.view(1, -1, 1, 1)  # (C,) -> (1, C, 1, 1)
        self._offset = offset.view(1, -1, 1, 1)

    def quantise(self, z: Tensor) -> Tensor:
        """Bring latents (N, C, h, w) float into the stored type; for int16 they are whole numbers within it."""
        if self.dtype == "float32":
            return z.float()
        if self.dtype == "float16":
            limit = torch.finfo(torch.float16).max
            return z.float().clamp(-limit, limit).half()
        if self.dtype == "int16":
            return z.to(torch.int16)
        return ((z.float() - self._offset) / self._scale).round_().clamp_(-MAX_LEVEL, MAX_LEVEL).to(torch.int8)

    def dequantise(self, q: Tensor) -> Tensor:
        """Bring stored latents (N, C, h, w) back to float32."""
        return q.float() if self.dtype != "int8" else q.float() * self._scale + self._offset
