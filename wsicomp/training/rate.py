"""Bits that latents would cost, as a differentiable stand-in for the entropy coder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CausalRate"]


class CausalRate(nn.Module):
    """Bits that latents cost under an adaptive coder, as a differentiable stand-in for it in training.

    Each symbol follows a logistic distribution whose scale grows with the magnitudes of symbols decoded before it:
    those above and to the left in its channel, and those of earlier channels at its place. The shipped coder uses
    integer tables chosen by such neighbours; this stand-in only teaches the encoder what such a coder can exploit.

    Parameters
    ----------
    channels
        Channels of the latent, M.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.spatial = nn.Parameter(torch.full((channels, 1, 3, 5), -2.0))
        self.across = nn.Parameter(torch.full((channels, channels), -6.0))
        self.offset = nn.Parameter(torch.zeros(channels))
        self.slope = nn.Parameter(torch.full((channels,), 0.7))
        self.floor = nn.Parameter(torch.full((channels,), -1.0))
        causal = torch.ones(3, 5)
        causal[2, 2:] = 0
        self.register_buffer("causal", causal, persistent=False)
        self.register_buffer("earlier", torch.ones(channels, channels).tril(-1), persistent=False)

    causal: Tensor
    earlier: Tensor

    def forward(self, y: Tensor) -> Tensor:
        """Bits (N, M, h, w) of latents y (N, M, h, w): rounded, or with uniform noise in training."""
        magnitude = y.abs()
        weights = functional.softplus(self.spatial) * self.causal
        around = functional.conv2d(functional.pad(magnitude, (2, 2, 2, 0)), weights, groups=self.channels)
        below = functional.softplus(self.across) * self.earlier
        context = (
            around
            + functional.conv2d(magnitude, below[:, :, None, None])
            + functional.softplus(self.floor)[:, None, None]
        )
        log_scale = self.offset[:, None, None] + self.slope[:, None, None] * context.log()
        scale = log_scale.clamp(-5, 8).exp()
        upper, lower = torch.sigmoid((y + 0.5) / scale), torch.sigmoid((y - 0.5) / scale)
        # The mirrored difference keeps precision far from zero, where both sigmoids round to one.
        flipped = torch.sigmoid((0.5 - y) / scale) - torch.sigmoid((-0.5 - y) / scale)
        probability = torch.where(y > 0, flipped, upper - lower)
        return -probability.clamp_min(1e-9).log2()
