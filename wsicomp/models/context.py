"""The context model of `wsic`: it predicts the mean of each symbol from the symbols that are coded before it.

    channels in four slices; within a slice, the black fields of a checkerboard, then the white ones

    pass 0: slice 0, black     knows nothing
    pass 1: slice 0, white     knows slice 0 black
    pass 2: slice 1, black     knows slice 0
    ...
    pass 7: slice 3, white     knows slices 0 to 2, and slice 3 black

All of a pass is coded at once, whatever its size, so a decoder takes eight steps and not one per symbol (checkerboard:
He et al., 2021; slices: Minnen & Singh, 2020). A symbol is the rounded difference of a latent from its predicted mean,
a whole number that no float's last bit can change; the mean itself is a float and moves pixels only. The table that
codes a symbol is not predicted here: the entropy coder does that, in whole numbers and along the same passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["HIDDEN", "SLICES", "ContextModel", "checkerboard", "passes"]

SLICES = {1: (3, 3, 6), 2: (4, 4, 8, 8), 3: (8, 8, 16, 32), 4: (16, 16, 32, 160)}
"""Channels of the slices of each depth's latent, in coding order."""

HIDDEN = {1: 24, 2: 24, 3: 48, 4: 48}
"""Hidden units of each network that predicts means, for each depth."""

LIMIT = 32_767
"""Largest magnitude of a symbol, which is stored as int16."""

FIELDS = (((0, 0), (1, 1)), ((0, 1), (1, 0)))
"""First rows and columns of the black and of the white fields, which go on in steps of two."""


def passes(slices: Sequence[int]) -> list[tuple[int, int, int]]:
    """Coding passes as (first channel, end, colour); colour 0 is black, where row + column is even."""
    ends = [sum(slices[: k + 1]) for k in range(len(slices))]
    return [(end - size, end, colour) for size, end in zip(slices, ends, strict=True) for colour in (0, 1)]


def checkerboard(height: int, width: int, colour: int, device: torch.device) -> Tensor:
    """Mask (h, w), true on the fields of a colour."""
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    return (rows[:, None] + columns) % 2 == colour


class ContextModel(nn.Module):
    """Predicts the means of each pass of a latent from the passes before it, by a small network for each pass.

    Parameters
    ----------
    slices
        Channels of the slices; their sum is the latent's M.
    hidden
        Hidden units of each network.
    """

    def __init__(self, slices: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.slices = tuple(slices)
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(end if colour else start, hidden, 3, padding=1),
                nn.GELU(),
                nn.Conv2d(hidden, end - start, 1),
            )
            for start, end, colour in passes(slices)[1:]
        )
        for network in self.networks:
            nn.init.zeros_(network[-1].weight)  # type: ignore[index]
            nn.init.zeros_(network[-1].bias)  # type: ignore[index]

    def forward(self, y: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        """Residuals and reconstruction, with gradients: rounding passes them straight through.

        Parameters
        ----------
        y
            (N, M, h, w) scaled latents.
        gain
            (N, M, 1, 1), what they were scaled by; means are predicted of latents without it, for all qualities alike.

        Returns
        -------
        tuple
            y - mean, and y_hat = mean + round(y - mean), both (N, M, h, w).
        """
        black = checkerboard(y.shape[2], y.shape[3], 0, y.device)
        known, residuals, y_hats = y[:, :0], [], []
        for k, (start, end, _) in enumerate(passes(self.slices)[::2]):
            part, scale = y[:, start:end], gain[:, start:end]
            mean = self.networks[2 * k - 1](known) * scale if k else torch.zeros_like(part)
            first = (mean + straight_round(part - mean)) * black
            mean = torch.where(black, mean, self.networks[2 * k](torch.cat([known, first / scale], 1)) * scale)
            residual = part - mean
            y_hat = mean + straight_round(residual)
            known = torch.cat([known, y_hat / scale], 1)
            residuals.append(residual)
            y_hats.append(y_hat)
        return torch.cat(residuals, 1), torch.cat(y_hats, 1)

    @torch.no_grad()
    def residuals(self, y: Tensor, gain: Tensor, inside: Tensor) -> Tensor:
        """Symbols (N, M, h, w) of scaled latents y: whole numbers within int16.

        They are zero where `inside` (N, 1, h, w) is 0, and are predicted from as such.
        """
        return self._walk(y, gain, inside)[0]

    @torch.no_grad()
    def restore(self, symbols: Tensor, gain: Tensor) -> Tensor:
        """Scaled latents y_hat (N, M, h, w) of symbols."""
        return self._walk(symbols, gain, None)[1]

    def _walk(self, values: Tensor, gain: Tensor, inside: Tensor | None) -> tuple[Tensor, Tensor]:
        # Encodes latents where `inside` is given, decodes symbols where it is not. A pass computes its own fields only;
        # `known` is without the gain, in a border of zeros.
        height, width = values.shape[2:]
        even = (0, width % 2, 0, height % 2)
        parts = [fields(functional.pad(values, even), colour) for colour in (0, 1)]
        masks = None if inside is None else [fields(functional.pad(inside, even), colour) for colour in (0, 1)]
        gains = torch.cat([gain, gain])
        symbols = torch.empty_like(values)
        known = functional.pad(torch.zeros_like(values), (1, 1 + even[1], 1, 1 + even[3]))
        inner = known[:, :, 1 : 1 + height, 1 : 1 + width]
        for k, (start, end, colour) in enumerate(passes(self.slices)):
            part, scale = parts[colour][:, start:end], gains[:, start:end]
            mean = self._mean(k, colour, known[:, : end if colour else start]) if k else torch.zeros_like(part)
            coded = part
            if masks is not None:
                coded = torch.addcmul(part, mean, scale, value=-1).round().clamp(-LIMIT, LIMIT) * masks[colour]
            put_fields(coded, symbols[:, start:end], colour)
            put_fields(torch.addcdiv(mean, coded, scale), inner[:, start:end], colour)
        return symbols, inner * gain

    def _mean(self, number: int, colour: int, known: Tensor) -> Tensor:
        # Predicts the means (2 N, m, h / 2, w / 2) of a pass's fields from what it knows, (N, c, h + 2, w + 2).
        network: Any = self.networks[number - 1]
        first, _, second = network
        height, width = known.shape[2] - 1, known.shape[3] - 1
        around = torch.cat([known[:, :, y : y + height, x : x + width] for y, x in FIELDS[colour]])
        hidden = functional.gelu(functional.conv2d(around, first.weight, first.bias, stride=2))
        # (2 N, m, h / 2, w / 2), a 1x1 convolution: what torch does with one is slower
        return functional.linear(hidden.permute(0, 2, 3, 1), second.weight.flatten(1), second.bias).permute(0, 3, 1, 2)


def fields(x: Tensor, colour: int) -> Tensor:
    """Fields of a colour, (2 N, C, h / 2, w / 2), of x (N, C, h, w) with even sides."""
    return torch.cat([x[:, :, row::2, column::2] for row, column in FIELDS[colour]])


def put_fields(part: Tensor, x: Tensor, colour: int) -> None:
    """Write fields (2 N, C, h / 2, w / 2) of a colour into x (N, C, h, w); odd sides leave some over."""
    for (row, column), half in zip(FIELDS[colour], part.chunk(2), strict=True):
        there = x[:, :, row::2, column::2]
        there.copy_(half[:, :, : there.shape[2], : there.shape[3]])


def straight_round(x: Tensor) -> Tensor:
    """Round to whole numbers; the gradient passes as if nothing had happened."""
    return x + (x.round() - x).detach()
