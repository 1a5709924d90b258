"""The founding study's autoencoder, `perticarari2023`: every layer is a latent of its own.

    x (N, 3, H, W) -> block 1 -> z1 (N, 6, H/2, W/2) -> block 2 -> z2 (N, 12, H/4, W/4) -> ... -> z4
                                  |                                 |                             |
                              decoder 1                         decoder 2                     decoder 4
                                  |                                 |                             |
                                x_hat                             x_hat                         x_hat  (N, 3, H, W)

A user picks the compression by the depth. Latent elements per 256 x 256 tile: 98,304, 49,152, 24,576, 12,288, that is
1/2, 1/4, 1/8 and 1/16 of the 196,608 of the picture. Elements are not bytes; what the latents cost is the store's to
say.

Source: the founding study's latent-space compression of prostate biopsies (Perticarari, 2023). Where this differs: the
latents may be rounded to int8 with scales fixed on training data (`latent_scale`, `latent_offset`), which the study did
not do, and "same" padding repeats the border instead of adding zeros, which drew a visible line around every tile.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from wsicomp.errors import ConfigError
from wsicomp.models.family import register

__all__ = ["STUDY_CODEC", "StudyAutoencoder"]

STUDY_CODEC: Final = "perticarari2023"
PADDING: Final = "replicate"


class EncoderBlock(nn.Sequential):
    """3x3 convolution to twice the channels, ReLU, batch normalisation, 2x2 max pooling."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, 2 * channels, 3, padding=1, padding_mode=PADDING),
            nn.ReLU(),
            nn.BatchNorm2d(2 * channels),
            nn.MaxPool2d(2),
        )


class DecoderBlock(nn.Sequential):
    """Nearest upsampling by 2, 3x3 convolution to half the channels, then ReLU, or a sigmoid in the last block."""

    def __init__(self, channels: int, *, last: bool) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(channels, channels // 2, 3, padding=1, padding_mode=PADDING),
            nn.Sigmoid() if last else nn.ReLU(),
        )


@register(STUDY_CODEC, "codec")
class StudyAutoencoder(nn.Module):
    """One encoder whose every block is a latent, and one decoder per depth; a `Codec` without qualities.

    Parameters
    ----------
    depths
        Number of encoder blocks, and of decoders; at least 1.

    Raises
    ------
    ValueError
        If there would be no block at all.
    """

    qualities = 0
    latent_dtypes = ("int8", "float16", "float32")
    has_entropy_model = False
    latent_scale: Tensor
    latent_offset: Tensor

    def __init__(self, depths: int = 4) -> None:
        super().__init__()
        if depths < 1:
            raise ValueError(f"an autoencoder has at least one depth, not {depths}")
        self.depths = tuple(range(1, depths + 1))
        channels = [3 * 2**depth for depth in range(depths + 1)]
        self.encoder = nn.ModuleList(EncoderBlock(c) for c in channels[:-1])
        self.decoders = nn.ModuleList(
            nn.Sequential(*(DecoderBlock(3 * 2**k, last=k == 1) for k in range(depth, 0, -1)))
            for depth in range(1, depths + 1)
        )
        # Row d - 1 holds the channels of depth d, the rest of the row is unused.
        self.register_buffer("latent_scale", torch.ones(depths, channels[-1]))
        self.register_buffer("latent_offset", torch.zeros(depths, channels[-1]))

    def latent_channels(self, depth: int) -> int:
        """Channels of the latent at a depth.

        Raises
        ------
        ConfigError
            If the model has no such depth.
        """
        self._check(depth)
        return 3 << depth

    def encode(self, x: Tensor, depth: int, quality: Tensor | None = None, inside: Tensor | None = None) -> Tensor:
        """Encode a picture, (N, 3, H, W) float32 in [0, 1], H and W multiples of 2**depth, to z (N, C, H/2^d, W/2^d).

        That is done in float32, because z is rounded next.
        """
        self._check(depth)
        with torch.autocast(x.device.type, enabled=False):
            for block in self.encoder[:depth]:
                x = block(x)
        return x

    def latents(self, symbols: Tensor, depth: int, quality: Tensor | None = None) -> Tensor:
        """Give the latents (N, C, h, w) that the decoder takes: what was dequantised, as it is."""
        return symbols

    def decode(self, z: Tensor, depth: int, quality: Tensor | None = None) -> Tensor:
        """Decode a latent, (N, C, h, w), to x_hat (N, 3, h * 2**depth, w * 2**depth) float32 in [0, 1]."""
        self._check(depth)
        *inner, last = self.decoders[depth - 1].children()
        for block in inner:
            z = block(z)
        # The eight bits of bfloat16's mantissa are too few for the eight bits of a pixel.
        with torch.autocast(z.device.type, enabled=False):
            x_hat: Tensor = last(z.float())
        return x_hat

    def latent_range(self, depth: int) -> tuple[Tensor, Tensor]:
        """Scale and offset, each (C,) float32, that bring the latent at a depth into the range of int8."""
        channels = self.latent_channels(depth)
        return self.latent_scale[depth - 1, :channels], self.latent_offset[depth - 1, :channels]

    def _check(self, depth: int) -> None:
        if depth not in self.depths:
            raise ConfigError(f"depth {depth} is unknown; this model has depths 1 to {self.depths[-1]}")
