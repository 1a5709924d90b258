"""The learned peers, in plain torch: the two hyperprior models that the field compares with.

    x -> g_a -> y (N, M, H/16, W/16) -> round -------------------------> y_hat -> g_s -> x_hat
                |                         ^ scales (and means) of Gaussians
                +-> h_a -> z (N, N', H/64, W/64) -> round -> z_hat -> h_s
                                             ^ a learned density per channel

    balle2018-hyperprior  scales alone        Balle, Minnen, Singh, Hwang & Johnston, "Variational image compression
                                              with a scale hyperprior", ICLR 2018, at N = 128, M = 192
    minnen2018-mean       means and scales    Minnen, Balle & Toderici, "Joint autoregressive and hierarchical priors
                                              for learned image compression", NeurIPS 2018: its "mean & scale
                                              hyperprior", that is, WITHOUT the autoregressive context model

Their rate is their own estimate, -log2 of the probabilities, and no stream is written: a favour to them, since a real
coder adds its tables' rounding, its flush and a container. Where this differs from the papers: predicted parameters are
cropped to y where its sides are no multiple of four, instead of padding the picture; z is rounded to whole numbers
without the offset of its median, which a trained density takes up by itself; pixels are centred, as for `wsic`, so that
short trainings do not begin with learning what grey is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsicomp.models.family import register

__all__ = ["PEERS", "Gdn", "Hyperprior", "Latents"]

N, M = 128, 192
SCALE_MIN = 0.11
LIKELIHOOD_MIN = 1e-9
PEDESTAL = 2.0**-36


class LowerBound(torch.autograd.Function):
    """Maximum of a tensor and a bound, whose gradient passes below the bound too if it leads upwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        """Clip from below."""
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Pass the gradient on where it may."""
        (x,), (gradient,) = ctx.saved_tensors, gradients
        return gradient * ((x >= ctx.bound) | (gradient < 0)), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """Apply `LowerBound`."""
    bounded: Tensor = LowerBound.apply(x, bound)  # type: ignore[no-untyped-call]
    return bounded


class Gdn(nn.Module):
    """Generalised divisive normalisation, x / sqrt(beta + gamma x^2), or its inverse (Balle et al., 2016).

    Parameters
    ----------
    channels
        C of (N, C, h, w).
    inverse
        Multiply instead of dividing.
    """

    def __init__(self, channels: int, *, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        # Roots, so that gradients of small entries do not vanish and signs stay.
        self.beta = nn.Parameter(torch.full((channels,), math.sqrt(1 + PEDESTAL)))
        self.gamma = nn.Parameter((0.1 * torch.eye(channels) + PEDESTAL).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """Normalise features (N, C, h, w)."""
        beta = lower_bound(self.beta, math.sqrt(1e-6 + PEDESTAL)).square() - PEDESTAL
        gamma = lower_bound(self.gamma, math.sqrt(PEDESTAL)).square() - PEDESTAL
        norm = functional.conv2d(x.square(), gamma[:, :, None, None], beta)
        return x * (norm.sqrt() if self.inverse else norm.rsqrt())


class FactorisedDensity(nn.Module):
    """A density of its own for each channel, by its cumulative (Balle et al., 2018, appendix 6.1)."""

    WIDTHS = (1, 3, 3, 3, 3, 1)
    SPREAD = 10.0

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers = len(self.WIDTHS) - 1
        scale = self.SPREAD ** (1 / layers)
        shapes = list(zip(self.WIDTHS[1:], self.WIDTHS[:-1], strict=True))
        self.matrices = nn.ParameterList(
            torch.full((channels, out, before), math.log(math.expm1(1 / scale / out))) for out, before in shapes
        )
        self.biases = nn.ParameterList(torch.rand(channels, out, 1) - 0.5 for out, _ in shapes)
        self.factors = nn.ParameterList(torch.zeros(channels, out, 1) for out, _ in shapes[:-1])

    def forward(self, z: Tensor) -> Tensor:
        """Probability of each value of z (N, C, h, w), plus or minus a half."""
        values = z.transpose(0, 1).flatten(1)[:, None]  # (N, C, h, w) -> (C, 1, N * h * w)
        lower, upper = self._cumulative(values - 0.5), self._cumulative(values + 0.5)
        sign = -torch.sign(lower + upper).detach()  # the tail where sigmoids keep their precision
        probability = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()
        return probability.reshape(z.shape[1], z.shape[0], *z.shape[2:]).transpose(0, 1)

    def _cumulative(self, logits: Tensor) -> Tensor:
        for k, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            logits = functional.softplus(matrix) @ logits + bias
            if k < len(self.factors):
                logits = logits + torch.tanh(self.factors[k]) * torch.tanh(logits)
        return logits


@dataclass(frozen=True)
class Latents:
    """What a decoder is given.

    Parameters
    ----------
    z_hat
        (N, N', h/4, w/4), rounded up.
    residuals
        (N, M, h, w), y minus its predicted mean, quantised.
    bits
        (N,), the model's own estimate for both.
    """

    z_hat: Tensor
    residuals: Tensor
    bits: Tensor


class Hyperprior(nn.Module):
    """Either peer.

    Parameters
    ----------
    means
        Predict means as well as scales.
    n, m
        Channels of the transforms, and of y.
    """

    def __init__(self, *, means: bool, n: int = N, m: int = M) -> None:
        super().__init__()
        self.means = means
        self.g_a = nn.Sequential(
            *(down(3, n), Gdn(n), down(n, n), Gdn(n), down(n, n), Gdn(n), down(n, m)),
        )
        self.g_s = nn.Sequential(
            *(up(m, n), Gdn(n, inverse=True), up(n, n), Gdn(n, inverse=True)),
            *(up(n, n), Gdn(n, inverse=True), up(n, 3)),
        )
        act = nn.LeakyReLU if means else nn.ReLU
        self.h_a = nn.Sequential(nn.Conv2d(m, n, 3, padding=1), act(), down(n, n), act(), down(n, n))
        if means:
            wide = m * 3 // 2
            self.h_s = nn.Sequential(up(n, m), act(), up(m, wide), act(), nn.Conv2d(wide, 2 * m, 3, padding=1))
        else:
            self.h_s = nn.Sequential(up(n, n), act(), up(n, n), act(), nn.Conv2d(n, m, 3, padding=1), act())
        self.density = FactorisedDensity(n)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x_hat (N, 3, H, W) and bits (N,) of x (N, 3, H, W) in [0, 1], H and W multiples of 16."""
        latents = self.analyse(x)
        return self.synthesise(latents), latents.bits

    def analyse(self, x: Tensor) -> Latents:
        """Encode; uniform noise stands for rounding while training."""
        y = transform(self.g_a, x - 0.5, half=self.training)
        z_hat = self._quantise(self.h_a(y if self.means else y.abs()))
        mean, scale = self._gaussians(z_hat, y)
        residuals = self._quantise(y - mean)
        bits_y = -lower_bound(gaussian(residuals, scale), LIKELIHOOD_MIN).log2().sum(dim=(1, 2, 3))
        bits_z = -lower_bound(self.density(z_hat), LIKELIHOOD_MIN).log2().sum(dim=(1, 2, 3))
        return Latents(z_hat, residuals, bits_y + bits_z)

    def synthesise(self, latents: Latents) -> Tensor:
        """Decode to x_hat (N, 3, H, W), about [0, 1]."""
        mean, _ = self._gaussians(latents.z_hat, latents.residuals)
        return transform(self.g_s, latents.residuals + mean, half=self.training) + 0.5

    def _gaussians(self, z_hat: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        parameters = self.h_s(z_hat)[:, :, : like.shape[2], : like.shape[3]]
        if not self.means:
            return torch.zeros_like(like), parameters
        scale, mean = parameters.chunk(2, dim=1)
        return mean, scale

    def _quantise(self, values: Tensor) -> Tensor:
        return values + torch.rand_like(values) - 0.5 if self.training else values.round()


def transform(layers: nn.Sequential, x: Tensor, *, half: bool) -> Tensor:
    """Apply layers; all but the last in bfloat16 if `half`, as `wsic` is trained."""
    *inner, last = layers.children()
    with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
        for layer in inner:
            x = layer(x)
    result: Tensor = last(x.float())
    return result


def gaussian(values: Tensor, scale: Tensor) -> Tensor:
    """Probability of values, plus or minus a half, under Gaussians of mean zero."""
    distance, bounded = values.abs(), lower_bound(scale, SCALE_MIN)
    # Both ends on the side where the complementary error function keeps its precision.
    ends = [torch.erfc(-(half - distance) / (bounded * math.sqrt(2))) for half in (0.5, -0.5)]
    return 0.5 * (ends[0] - ends[1])


def down(before: int, after: int) -> nn.Conv2d:
    """Convolution to half the resolution."""
    return nn.Conv2d(before, after, 5, stride=2, padding=2)


def up(before: int, after: int) -> nn.ConvTranspose2d:
    """Transposed convolution to twice the resolution."""
    return nn.ConvTranspose2d(before, after, 5, stride=2, padding=2, output_padding=1)


PEERS = {
    "balle2018-hyperprior": partial(Hyperprior, means=False),
    "minnen2018-mean": partial(Hyperprior, means=True),
}
"""Keys of the peers, and what builds them, untrained."""

for key, build in PEERS.items():
    register(key, "peer")(build)
