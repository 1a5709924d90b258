"""The residual block of `wsic`, and its depthwise convolution, whose gradient libraries compute slowly on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DepthwiseConv", "ResidualBlock"]

KERNEL = 5
PART = 3
"""Side of the kernels that the gradient is put together from."""


class DepthwiseConv(nn.Conv2d):
    """Depthwise 5x5 convolution with replicated borders; (N, C, h, w) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, KERNEL, padding=KERNEL // 2, padding_mode="replicate", groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """Filter each channel by itself."""
        if x.device.type != "cpu" or self.bias is None:
            return super().forward(x)
        # Autocast does not see inside a function of one's own, and would pad in float32.
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if not torch.is_grad_enabled():
            return functional.conv2d(_replicated(x.to(dtype)), self.weight, self.bias, groups=len(self.weight))
        padded = functional.pad(x, (KERNEL // 2,) * 4, mode="replicate")
        filtered: Tensor = _Depthwise.apply(padded.to(dtype), self.weight.to(dtype), self.bias.to(dtype))  # type: ignore[no-untyped-call]
        return filtered


def _replicated(x: Tensor) -> Tensor:
    # Borders repeated, in x's own type and layout: by copies, as torch pads in float32 alone.
    border = KERNEL // 2
    batch, channels, height, width = x.shape
    padded = torch.empty(
        (batch, channels, height + 2 * border, width + 2 * border),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last,
    )
    padded[:, :, border:-border, border:-border] = x
    padded[:, :, border:-border, :border] = x[:, :, :, :1]
    padded[:, :, border:-border, -border:] = x[:, :, :, -1:]
    padded[:, :, :border] = padded[:, :, border : border + 1]
    padded[:, :, -border:] = padded[:, :, -border - 1 : -border]
    return padded


class _Depthwise(torch.autograd.Function):
    # A valid 5x5 depthwise convolution. oneDNN's gradient of its weights takes some twenty times as long as that of a
    # 3x3, and four of those, on shifted inputs, hold all 25 sums.

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return functional.conv2d(x, weight, bias, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        to_x = functional.conv2d(gradient, weight.flip(2, 3), padding=KERNEL - 1, groups=len(weight))
        to_weight = torch.empty_like(weight)
        height, width = (size + PART - 1 for size in gradient.shape[2:])
        for top in (0, KERNEL - PART):
            for left in (0, KERNEL - PART):
                window = x[:, :, top : top + height, left : left + width]
                part = _weight_gradient(gradient, window.contiguous(memory_format=torch.channels_last), weight)
                to_weight[:, :, top : top + PART, left : left + PART] = part
        return to_x, to_weight, gradient.sum(dim=(0, 2, 3))


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    # Computes the gradient of the weights of a valid depthwise 3x3 convolution.
    like = weight[:, :, :PART, :PART]
    channels = len(weight)
    _, to_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, like, [channels], [1, 1], [0, 0], [1, 1], False, [0, 0], channels, [False, True, False]
    )
    result: Tensor = to_weight
    return result


class ResidualBlock(nn.Module):
    """Depthwise 5x5, pointwise to the middle width, GELU, pointwise back; added, as strong as told, to its input."""

    def __init__(self, channels: int, middle: int) -> None:
        super().__init__()
        self.channels = channels
        self.body = nn.Sequential(
            DepthwiseConv(channels), nn.Conv2d(channels, middle, 1), nn.GELU(), nn.Conv2d(middle, channels, 1)
        )

    def forward(self, x: Tensor, strength: Tensor) -> Tensor:
        """Refine features (N, C, h, w), each channel by its strength, (N, C, 1, 1)."""
        batch, channels, height, width = x.shape
        # A row at a time, all channels of a pixel side by side: torch is slow to multiply by so few numbers as 24.
        in_row = strength.to(x.dtype).view(batch, 1, channels).repeat(1, 1, width)
        refined = torch.addcmul(_rows(x), _rows(self.body(x)), in_row)
        return refined.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _rows(x: Tensor) -> Tensor:
    # (N, C, h, w) as (N, h, w C), a view where channels come last in memory.
    return x.permute(0, 2, 3, 1).flatten(2)
