"""A codec for tests whose every number is known: means of blocks of 4 px, in steps that its quality chooses."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from wsicomp.errors import ConfigError
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.store.quality import from_steps, to_steps
from wsicomp.store.tiles import completed, stored_size

BLOCK = 4


class StepCodec:
    """Stands in for a `TileCodec` of depth 2; at quality 7 the steps are 1 grey level, at 6 two, at 5 four.

    Parameters
    ----------
    quality
        Asked quality, 0 to 7.

    Attributes
    ----------
    encoded
        Qualities of each call of `encode`.
    """

    key = "step"
    weights_sha256 = "cd" * 32
    depth = 2
    channels = 3
    latent_dtype = "int16"
    entropy = None
    entropy_digest = None
    batch_size = 4

    def __init__(self, quality: float = 4) -> None:
        self.quality = quality
        self.encoded: list[list[float]] = []

    def check_tile_size(self, tile_size: int) -> None:
        assert tile_size % BLOCK == 0

    def nearest_quality(self, quality: float) -> float:
        if not 0 <= quality <= 7:
            raise ConfigError(f"quality {quality:g} is unknown; this model has qualities 0 to 7")
        return from_steps(to_steps(quality))

    def encode(
        self, tiles: NDArray[np.uint8], *, quality: NDArray[np.float32] | None = None, sizes: Any = None
    ) -> NDArray[np.int16]:
        steps = self._steps(quality, len(tiles))
        self.encoded.append([] if quality is None else quality.tolist())
        count, side = len(tiles), tiles.shape[1] // BLOCK
        blocks = tiles.reshape(count, side, BLOCK, side, BLOCK, 3).mean((2, 4))  # -> (N, t, t, 3)
        latents: NDArray[np.int16] = np.rint(blocks / steps).astype(np.int16).transpose(0, 3, 1, 2)
        for index, size in enumerate(() if sizes is None else sizes.tolist()):
            height, width = stored_size(size[0], size[1], self.depth)
            latents[index] = completed(latents[index, :, :height, :width].copy(), side, mirrored=True)
        return latents

    def decode(self, latents: NDArray[np.int16], *, quality: NDArray[np.float32] | None = None) -> NDArray[np.uint8]:
        blocks = (latents.transpose(0, 2, 3, 1) * self._steps(quality, len(latents))).clip(0, 255)
        tiles: NDArray[np.uint8] = np.rint(blocks).astype(np.uint8).repeat(BLOCK, 1).repeat(BLOCK, 2)
        return tiles

    def _steps(self, quality: NDArray[np.float32] | None, count: int) -> NDArray[np.float64]:
        asked = np.full(count, self.quality) if quality is None else quality
        steps: NDArray[np.float64] = 2.0 ** (7 - asked.astype(np.float64))[:, None, None, None]
        return steps


def step_codec(quality: float = 4) -> TileCodec:
    """Make one that goes for a `TileCodec`."""
    return cast(TileCodec, StepCodec(quality))
