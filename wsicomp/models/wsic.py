"""The network of `wsic`, the byte-true codec: the study's latent at every depth, trained on rate plus distortion.

    x -> space to depth -> trunk at 1/2 -> 1/4 -> 1/8 -> 1/16          (N, 12, H/2, W/2), then 24, 64, 128, 224 channels
                              |      |      |       |
                            head 1  head 2  block,  head 4             y = gain(quality) * head(features)
                              |      |     head 3    |
                              |      |      |       |
                            symbols = round(y - mean), integers        -> entropy coder
                              |      |      |       |
                           decoder 1 .. decoder 4                      x_hat = decoder((mean + symbols) / gain(quality))

The context model predicts a mean from the symbols that are coded before it (`context`).

Nothing is convolved at full resolution: pixels are folded into channels at the start and unfolded at the end (Shi et
al., 2016), and residual blocks work with a depthwise 5x5 and two pointwise convolutions (Liu et al., 2022). The quality
within a depth is one gain per channel, learned for eight levels and interpolated in the logarithm between them (Cui et
al., 2021), and one strength per channel of every residual block, so that a network may draw more where more is to be
drawn: one set of weights serves every rate.

With the means, a decoder costs at most 5 kMAC per pixel and the encoder at most 10 (`macs_per_pixel`, held by a test).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsicomp.errors import ConfigError
from wsicomp.models.context import HIDDEN, SLICES, ContextModel
from wsicomp.models.family import register
from wsicomp.models.layers import ResidualBlock

__all__ = ["DEPTHS", "LATENT_CHANNELS", "QUALITIES", "WSIC", "Wsic", "macs_per_pixel"]

WSIC = "wsic"
DEPTHS = 4
QUALITIES = 8
FIRST_GAIN_SPAN = 2.4
"""Logarithm of the finest quality's gain over the coarsest's, before training."""

TRUNK_CHANNELS = (24, 64, 128, 224)
ENCODER_MIDDLE = (48, 96, 192, 240)
DECODER_MIDDLE = (48, 96, 192, 192)
"""Channels of the features at 1/2, 1/4, 1/8 and 1/16, and of the middle of a residual block there."""

LATENT_CHANNELS = tuple(sum(SLICES[depth]) for depth in range(1, DEPTHS + 1))
TRUNK_BLOCKS = (1, 1, 3, 3)
BRANCH_BLOCKS = (0, 0, 1, 0)
"""Residual blocks of each resolution of the trunk, and between it and the latent there."""

DECODER_BLOCKS = ((2,), (2,), (2, 2), (2, 2, 1))
"""For each depth the residual blocks at its own resolution and at the finer ones down to 1/4, coarsest first."""


def blocks(count: int, stage: int, middle: Sequence[int]) -> list[nn.Module]:
    """Residual blocks of one resolution, their middle as wide as `middle` says; stage 0 is 1/2."""
    return [ResidualBlock(TRUNK_CHANNELS[stage], middle[stage]) for _ in range(count)]


class Stage(nn.ModuleList):
    """One resolution of the trunk: pixels folded into channels, a convolution that mixes them, and blocks."""

    def forward(self, x: Tensor, strengths: Iterator[Tensor]) -> Tensor:
        """Features (N, C, h, w) to (N, C', h / 2, w / 2); each block takes the next of the strengths."""
        fold, shrink, *refine = self.children()
        if isinstance(shrink, nn.Conv2d) and shrink.kernel_size == (1, 1):
            # Folding two by two pixels and mixing them is one convolution with steps of two, and saves a copy.
            channels = x.shape[1]
            x = functional.conv2d(x, shrink.weight.view(-1, channels, 2, 2), shrink.bias, stride=2)
        else:
            x = shrink(fold(x))
        for block in refine:
            x = block(x, next(strengths))
        return x


class Decoder(nn.ModuleList):
    """From a latent at 1/2^depth to pixels: blocks, then pixel shuffle, at each resolution; the last one makes RGB."""

    def __init__(self, depth: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(LATENT_CHANNELS[depth - 1], TRUNK_CHANNELS[depth - 1], 1)]
        # The pixels are unfolded from 1/4 in one step: blocks at 1/2 cost four times those at 1/4.
        last = 1 if depth > 1 else 0
        for stage, count in zip(range(depth - 1, last - 1, -1), DECODER_BLOCKS[depth - 1], strict=True):
            layers += blocks(count, stage, DECODER_MIDDLE)
            if stage > last:
                layers += [nn.Conv2d(TRUNK_CHANNELS[stage], 4 * TRUNK_CHANNELS[stage - 1], 1), nn.PixelShuffle(2)]
        factor = 2 ** (last + 1)
        layers += [nn.Conv2d(TRUNK_CHANNELS[last], 3 * factor**2, 1), nn.PixelShuffle(factor)]
        super().__init__(layers)

    def forward(self, y: Tensor, strengths: Iterator[Tensor]) -> Tensor:
        """Pictures (N, 3, h * 2**depth, w * 2**depth), about zero, of latents (N, M, h, w)."""
        *inner, last, unfold = self.children()
        for layer in inner:
            y = layer(y, next(strengths)) if isinstance(layer, ResidualBlock) else layer(y)
        # The eight bits of bfloat16's mantissa are too few for the eight bits of a pixel.
        with torch.autocast(y.device.type, enabled=False):
            x_hat: Tensor = unfold(last(y.float()))
        return x_hat


@register(WSIC, "codec")
class Wsic(nn.Module):
    """A `Codec`: encoder with a latent at each depth, a decoder per depth, and gains per depth, quality and channel.

    Parameters
    ----------
    depths
        Depths to build, ascending, out of 1 to 4; the trunk reaches the deepest.
    """

    qualities = QUALITIES
    latent_dtypes = ("int16",)
    has_entropy_model = True

    def __init__(self, depths: Sequence[int] = (1, 2, 3, 4)) -> None:
        super().__init__()
        if not depths or list(depths) != sorted(set(depths)) or not 1 <= min(depths) <= max(depths) <= DEPTHS:
            raise ValueError(f"depths are some of 1 to {DEPTHS}, ascending, not {depths}")
        self.depths = tuple(depths)
        self.trunk = nn.ModuleList()
        before = 3
        for stage, channels in enumerate(TRUNK_CHANNELS[: max(depths)]):
            # A convolution of one pixel has no border to repeat, and copying it would take time.
            shrink = (
                nn.Conv2d(4 * before, channels, 1)
                if stage
                else nn.Conv2d(4 * before, channels, 3, padding=1, padding_mode="replicate")
            )
            refine = blocks(TRUNK_BLOCKS[stage], stage, ENCODER_MIDDLE)
            self.trunk.append(Stage([nn.PixelUnshuffle(2), shrink, *refine]))
            before = channels
        latents = {str(depth): LATENT_CHANNELS[depth - 1] for depth in depths}
        self.branches = nn.ModuleDict(
            {d: nn.Sequential(*blocks(BRANCH_BLOCKS[int(d) - 1], int(d) - 1, ENCODER_MIDDLE)) for d in latents}
        )
        self.heads = nn.ModuleDict({d: nn.Conv2d(TRUNK_CHANNELS[int(d) - 1], m, 1) for d, m in latents.items()})
        self.decoders = nn.ModuleDict({d: Decoder(int(d)) for d in latents})
        self.means = nn.ModuleDict({d: ContextModel(SLICES[int(d)], HIDDEN[int(d)]) for d in latents})
        # Logarithms, so that gains stay positive and qualities interpolate geometrically.
        start = torch.linspace(0.0, FIRST_GAIN_SPAN, QUALITIES)[:, None]
        self.log_gains = nn.ParameterDict({d: nn.Parameter(start.repeat(1, m)) for d, m in latents.items()})
        self.log_inverse_gains = nn.ParameterDict({d: nn.Parameter(-start.repeat(1, m)) for d, m in latents.items()})
        # A depth has strengths for all blocks that its encoder and its decoder pass through, one after the other.
        self.log_encoder_strengths = nn.ParameterDict(
            {d: equal_strengths(self.trunk[: int(d)], self.branches[d]) for d in latents}
        )
        self.log_decoder_strengths = nn.ParameterDict({d: equal_strengths(self.decoders[d]) for d in latents})

    def latent_channels(self, depth: int) -> int:
        """Channels of the latent at a depth.

        Raises
        ------
        ConfigError
            If the model has no such depth.
        """
        self._check(depth)
        return LATENT_CHANNELS[depth - 1]

    def analyse(self, x: Tensor, depth: int, quality: Tensor) -> Tensor:
        """Latents before quantisation.

        Parameters
        ----------
        x
            (N, 3, H, W) float in [0, 1], H and W multiples of 2**depth.
        quality
            (N,) float in [0, 7].

        Returns
        -------
        Tensor
            y, (N, M, H / 2**depth, W / 2**depth), scaled by the quality's gains.
        """
        self._check(depth)
        stages, branch = self.trunk[:depth], self.branches[str(depth)]
        strengths = strengths_of(self.log_encoder_strengths[str(depth)], quality, widths(stages, branch))
        features = x - 0.5
        for stage in stages:
            features = stage(features, strengths)
        for block in branch.children():
            features = block(features, next(strengths))
        # What is rounded next needs more than the eight bits of bfloat16's mantissa.
        with torch.autocast(features.device.type, enabled=False):
            y: Tensor = self.heads[str(depth)](features.float()) * self.gain(depth, quality)
        return y

    def synthesise(self, y_hat: Tensor, depth: int, quality: Tensor) -> Tensor:
        """Pictures x_hat (N, 3, h * 2**depth, w * 2**depth), about [0, 1], of quantised latents (N, M, h, w)."""
        self._check(depth)
        y = y_hat * gain(self.log_inverse_gains[str(depth)], quality)
        decoder = self.decoders[str(depth)]
        x_hat: Tensor = decoder(y, strengths_of(self.log_decoder_strengths[str(depth)], quality, widths(decoder))) + 0.5
        return x_hat

    def quantise(self, y: Tensor, depth: int, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Residuals y - mean, not yet rounded, and quantised latents y_hat; with gradients, for training."""
        with torch.autocast(y.device.type, enabled=False):
            residuals, y_hat = self.means[str(depth)](y.float(), self.gain(depth, quality))
        return residuals, y_hat

    def encode(self, x: Tensor, depth: int, quality: Tensor, inside: Tensor | None = None) -> Tensor:
        """Symbols (N, M, h, w), whole numbers within int16, of pictures x (N, 3, H, W) in [0, 1].

        `inside` (N, 1, h, w) is 0 where a latent lies beyond the slide's edge and is not stored, 1 elsewhere; a decoder
        finds zeros there, so the encoder must predict from zeros too.
        """
        y = self.analyse(x, depth, quality)
        kept = torch.ones_like(y[:, :1]) if inside is None else inside
        with torch.autocast(x.device.type, enabled=False):
            symbols: Tensor = self.means[str(depth)].residuals(y, self.gain(depth, quality), kept)  # type: ignore[operator]
        return symbols

    def latents(self, symbols: Tensor, depth: int, quality: Tensor) -> Tensor:
        """Give the decoded latents y_hat = mean + symbols of symbols, both (N, M, h, w), at qualities (N,).

        They are float32, and scaled by the gains of their quality, as `quantise` gives them.
        """
        self._check(depth)
        with torch.autocast(symbols.device.type, enabled=False):
            y_hat: Tensor = self.means[str(depth)].restore(symbols.float(), self.gain(depth, quality))  # type: ignore[operator]
        return y_hat

    def decode(self, symbols: Tensor, depth: int, quality: Tensor) -> Tensor:
        """Decode symbols (N, M, h, w) to pictures x_hat (N, 3, h * 2**depth, w * 2**depth), about [0, 1]."""
        return self.synthesise(self.latents(symbols, depth, quality), depth, quality)

    def latent_range(self, depth: int) -> tuple[Tensor, Tensor]:
        """Scale 1 and offset 0, each (M,): symbols are whole numbers already."""
        channels = self.latent_channels(depth)
        return torch.ones(channels), torch.zeros(channels)

    def gain(self, depth: int, quality: Tensor) -> Tensor:
        """Gains (N, M, 1, 1) of a depth at qualities (N,)."""
        return gain(self.log_gains[str(depth)], quality)

    def _check(self, depth: int) -> None:
        if depth not in self.depths:
            known = ", ".join(str(known) for known in self.depths)
            raise ConfigError(f"depth {depth} is unknown; this model has depths {known}")


def gain(log_gains: Tensor, quality: Tensor) -> Tensor:
    """Gains (N, M, 1, 1) at qualities (N,) in [0, 7], from logarithms (8, M); linear between levels."""
    low = quality.floor().clamp(0, QUALITIES - 2).long()
    weight = (quality - low)[:, None]
    return torch.lerp(log_gains[low], log_gains[low + 1], weight).exp()[:, :, None, None]  # (N, M) -> (N, M, 1, 1)


def widths(*modules: nn.Module) -> list[int]:
    """Channels of the residual blocks of modules, in their order."""
    return [block.channels for module in modules for block in module.modules() if isinstance(block, ResidualBlock)]


def equal_strengths(*modules: nn.Module) -> nn.Parameter:
    """Logarithms (8, all channels) of the strengths of the residual blocks of modules: one each, before training."""
    return nn.Parameter(torch.zeros(QUALITIES, sum(widths(*modules))))


def strengths_of(log_strengths: Tensor, quality: Tensor, channels: Sequence[int]) -> Iterator[Tensor]:
    """Strengths (N, C, 1, 1) of each block at qualities (N,), from logarithms (8, all of their channels)."""
    return iter(torch.split(gain(log_strengths, quality), list(channels), dim=1))


def macs_per_pixel(module: nn.Module, downsample: int) -> float:
    """Multiply-accumulates per pixel of a chain of convolutions whose input is at 1/downsample of the picture."""
    total = 0.0
    for layer in module.modules():
        if isinstance(layer, nn.PixelUnshuffle):
            downsample *= layer.downscale_factor
        elif isinstance(layer, nn.PixelShuffle):
            downsample //= layer.upscale_factor
        elif isinstance(layer, nn.Conv2d):
            total += layer.weight.numel() / downsample**2
    return total
