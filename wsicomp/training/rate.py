"""A differentiable stand-in for the entropy coder: the coder's own network in floats gives the bits of symbols.

    a latent's class, of 16, chosen by its first pass and transmitted
    magnitudes log2(1 + |symbol|) of earlier passes -> 3x3 convolution + bias(class) -> ReLU -> 1x1 + bias(class)
                                                    -> log2 of the scale of a logistic distribution of mean zero

`integers` turns what was learned into the whole numbers that the shipped coder computes with, and `floats` back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from wsicomp.codec.kernels import HIDDEN_SHIFT, TAPS, UNITS
from wsicomp.codec.scales import INNER_BITS, MIXING_BITS, OUTER_BITS, SPATIAL_BITS, ScaleModel
from wsicomp.models.context import checkerboard, passes, straight_round

__all__ = ["ScaleNetwork", "floats", "integers", "logistic_bits"]

HIDDEN = UNITS
CLASSES = 16
LOWEST, HIGHEST = -5.0, 7.0
"""Range of the logarithm of a scale, to base 2."""

ROUNDING = 2.0 ** (HIDDEN_SHIFT - 1 - INNER_BITS)
"""Added to a hidden unit by the coder: it drops the last bits, so that half a unit more makes it round."""


class ScaleNetwork(nn.Module):
    """Predicts the scale of every symbol of a latent from the symbols of earlier passes.

    Parameters
    ----------
    slices
        Channels of the slices; their sum is the latent's M.
    """

    def __init__(self, slices: Sequence[int]) -> None:
        super().__init__()
        self.slices = tuple(slices)
        plan = passes(slices)
        start = torch.linspace(LOWEST + 1, HIGHEST - 2, CLASSES)[:, None]
        self.spatial = nn.ModuleList(
            nn.Conv2d(end if colour else first, HIDDEN, 3, padding=1, bias=False) for first, end, colour in plan[1:]
        )
        self.mixing = nn.ModuleList(nn.Conv2d(HIDDEN, end - first, 1, bias=False) for first, end, _ in plan[1:])
        for mixing in self.mixing:
            nn.init.zeros_(mixing.weight)  # type: ignore[arg-type]
        self.inner = nn.ParameterList(torch.zeros(CLASSES, HIDDEN) for _ in plan[1:])
        self.outer = nn.ParameterList(start.repeat(1, end - first) for first, end, _ in plan)

    def forward(self, residuals: Tensor, noise: Tensor | None = None) -> Tensor:
        """Bits (N, M, h, w) of residuals (N, M, h, w); noise stands for rounding in the bits, but not in contexts."""
        symbols = straight_round(residuals)
        values = symbols if noise is None else residuals + noise
        black = checkerboard(symbols.shape[2], symbols.shape[3], 0, symbols.device)
        classes = self.classify(values[:, : self.slices[0]], black)
        return logistic_bits(values, self.scales(symbols, classes))

    def scales(self, symbols: Tensor, classes: Tensor) -> Tensor:
        """Logarithms to base 2 of the scales of symbols (N, M, h, w) of classes (N,)."""
        magnitudes = torch.log2(1 + symbols.abs())
        black = checkerboard(symbols.shape[2], symbols.shape[3], 0, symbols.device)
        scales = []
        for k, (start, end, _) in enumerate(passes(self.slices)[::2]):
            even = self._scales(2 * k, classes, magnitudes[:, :start])
            seen = torch.cat([magnitudes[:, :start], magnitudes[:, start:end] * black], 1)
            scales.append(torch.where(black, even, self._scales(2 * k + 1, classes, seen)))
        return torch.cat(scales, 1)

    def _scales(self, k: int, classes: Tensor, magnitudes: Tensor) -> Tensor:
        outer: Tensor = self.outer[k][classes][:, :, None, None]
        if not k:
            return outer
        bias: Tensor = self.inner[k - 1][classes][:, :, None, None]
        inner = self.spatial[k - 1](magnitudes) + bias
        scales: Tensor = self.mixing[k - 1](functional.relu(inner)) + outer
        return scales

    @torch.no_grad()
    def classify(self, first: Tensor, black: Tensor) -> Tensor:
        """Class (N,) that codes the first pass in the fewest bits; `first` is the first slice (N, m, h, w)."""
        values = first.flatten(2)[:, :, black.flatten()]
        costs = [
            logistic_bits(values, self.outer[0][k].expand(len(values), -1)[:, :, None]).sum(dim=(1, 2))
            for k in range(CLASSES)
        ]
        return torch.stack(costs).argmin(0)


def logistic_bits(values: Tensor, log2_scale: Tensor) -> Tensor:
    """Bits of values, plus or minus a half, under a logistic distribution of mean zero."""
    inverse = torch.exp2(-log2_scale.clamp(LOWEST, HIGHEST))
    # The far side of zero keeps precision, where the near one's sigmoids both round to one.
    distance = values.abs()
    probability = torch.sigmoid((0.5 - distance) * inverse) - torch.sigmoid((-0.5 - distance) * inverse)
    return -probability.clamp_min(1e-9).log2()


def integers(network: ScaleNetwork) -> ScaleModel:
    """Round what was learned to the whole numbers that the entropy coder computes with."""
    slices = network.slices
    weights = [
        [cast(nn.Conv2d, layer).weight.detach() for layer in layers] for layers in (network.spatial, network.mixing)
    ]
    spatial = [
        weight.flatten(2).permute(2, 1, 0).flatten() for weight in weights[0]
    ]  # (K, known, 3, 3) -> (9, known, K)
    mixing = [weight[:, :, 0, 0].T.flatten() for weight in weights[1]]  # (n, K, 1, 1) -> (K, n)
    inner = torch.stack([bias.detach() for bias in network.inner]) + ROUNDING
    outer = torch.cat([bias.detach() for bias in network.outer], dim=1) - LOWEST
    limit = 2.0**30

    def whole(values: Tensor, bits: int, dtype: type[np.signedinteger[Any]]) -> NDArray[Any]:
        low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype == np.int16 else (-limit, limit)
        rounded: NDArray[Any] = (values.double().cpu() * 2**bits).round().clamp(low, high).numpy().astype(dtype)
        return rounded

    return ScaleModel(
        slices=np.array(slices, np.int32),
        spatial=whole(torch.cat(spatial), SPATIAL_BITS, np.int16),
        inner=whole(inner, INNER_BITS, np.int32),
        mixing=whole(torch.cat(mixing), MIXING_BITS, np.int16),
        outer=whole(outer, OUTER_BITS, np.int32),
    )


@torch.no_grad()
def floats(model: ScaleModel) -> ScaleNetwork:
    """Network whose `integers` are a model's: what training goes on from.

    Raises
    ------
    ValueError
        If the model has another number of classes.
    """
    if model.classes != CLASSES:
        raise ValueError(f"scales of {model.classes} classes, where training has {CLASSES}")
    network = ScaleNetwork(model.slices.tolist())
    for k, (start, end, colour, spatial, mixing, outer) in enumerate(model.plan.tolist()):
        network.outer[k].copy_(torch.from_numpy(model.outer[:, outer : outer + end - start] / 2**OUTER_BITS + LOWEST))
        if not k:
            continue
        known = end if colour else start
        taps = model.spatial[spatial * HIDDEN : (spatial + TAPS * known) * HIDDEN].reshape(3, 3, known, HIDDEN)
        weight = model.mixing[mixing : mixing + HIDDEN * (end - start)].reshape(HIDDEN, end - start)
        network.inner[k - 1].copy_(torch.from_numpy(model.inner[k - 1] / 2**INNER_BITS - ROUNDING))
        network.spatial[k - 1].weight.copy_(torch.from_numpy(taps.transpose(3, 2, 0, 1) / 2**SPATIAL_BITS))  # type: ignore[operator]
        network.mixing[k - 1].weight.copy_(torch.from_numpy(weight.T[:, :, None, None] / 2**MIXING_BITS))  # type: ignore[operator]
    return network
