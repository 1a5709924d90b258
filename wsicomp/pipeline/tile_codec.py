"""A network at one depth, its quantiser and its device, as two functions of tiles.

    tiles (N, T, T, 3) uint8 -> x (N, 3, T, T) in [0, 1] -> encoder -> z -> quantiser -> latents (N, C, T/2^d, T/2^d)
    latents -> quantiser -> z_hat -> decoder -> x_hat -> round(255 x_hat) -> tiles

Each tile is coded alone, with the network's own padding at its border, so a tile's pixels depend on no other tile.
Nor does it depend on its batch (a test holds that): on CUDA the libraries choose their algorithms by batch size, so
every batch there is filled up to one size; on the CPU torch has another one for a single small tile, so no batch is of
one.

The decoder runs in bfloat16 where the device has it, all but its last block: 1.5 to 2 times faster on a CPU, and within
0.01 dB of float32. The encoder does not: in bfloat16 it was no faster on a CPU and lost up to 0.14 dB for good.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsicomp.codec.quantiser import LatentDtype, LatentQuantiser
from wsicomp.errors import ConfigError, ModelError, WeightsMismatch
from wsicomp.models.autoencoder import StudyAutoencoder
from wsicomp.models.registry import STUDY_CODEC, LoadedModel, load_model, shipped

__all__ = ["TileCodec"]

CPU_BATCH = 16
CPU_MIN_BATCH = 2
CUDA_BATCH = 256


class TileCodec:
    """Encodes and decodes tiles at one depth; may be called from several threads.

    Parameters
    ----------
    model
        A loaded codec.
    depth
        Depth of the latent.
    latent_dtype
        Stored type of the latents: "int8", or "float16" or "float32" for the study's own numbers.
    device
        Where the network runs.

    Raises
    ------
    ConfigError
        If the model has no such depth, or the type is unknown.
    """

    def __init__(self, model: LoadedModel, depth: int, *, latent_dtype: str, device: torch.device) -> None:
        module = cast(StudyAutoencoder, model.module).to(device)
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.key = model.key
        self.weights_sha256 = model.sha256
        self.depth = depth
        self.channels = module.latent_channels(depth)
        self.batch_size = CUDA_BATCH if device.type == "cuda" else CPU_BATCH
        self._module = module
        self._device = device
        self._half = device.type == "cuda" or _cpu_has_bfloat16()
        self._quantiser = LatentQuantiser(latent_dtype, *module.latent_range(depth))

    @classmethod
    def load(
        cls, source: str | Path, depth: int, *, latent_dtype: str = "int8", device: torch.device | None = None
    ) -> Self:
        """Load a codec by the name of its shipped weights or by the path of its weights file.

        Raises
        ------
        ModelError
            If there are no such weights, or they belong to a model that is no codec.
        ConfigError
            If the model has no such depth.
        """
        model = load_model(source, key=STUDY_CODEC)
        return cls(model, depth, latent_dtype=latent_dtype, device=device or torch.device("cpu"))

    @classmethod
    def for_store(
        cls,
        *,
        key: str,
        weights_sha256: str,
        depth: int,
        latent_dtype: str,
        weights: str | Path | None = None,
        device: torch.device | None = None,
    ) -> Self:
        """Load exactly the weights that a store was encoded with.

        Parameters
        ----------
        weights
            Name or path of weights of one's own; None looks among those that come with the package.

        Raises
        ------
        WeightsMismatch
            If the weights given, or none of those shipped, are the ones.
        """
        sources = [weights] if weights is not None else list(shipped())
        for source in sources:
            model = load_model(source)
            if model.sha256 == weights_sha256:
                return cls(model, depth, latent_dtype=latent_dtype, device=device or torch.device("cpu"))
        given = f"'{weights}' are not" if weights is not None else "none of the shipped weights are"
        raise WeightsMismatch(
            f"the store was encoded with weights {weights_sha256[:12]}... of model '{key}', and {given} those; "
            "give the right file with --model"
        )

    @property
    def latent_dtype(self) -> LatentDtype:
        """Stored type of the latents."""
        return self._quantiser.dtype

    def latent_elements(self, tile_size: int) -> int:
        """Elements of the latent of one tile."""
        return self.channels * (tile_size >> self.depth) ** 2

    def check_tile_size(self, tile_size: int) -> None:
        """Refuse tiles that the network cannot halve `depth` times.

        Raises
        ------
        ConfigError
            If the side is not a multiple of 2**depth.
        """
        if tile_size < 1 or tile_size % 2**self.depth:
            raise ConfigError(
                f"tile size {tile_size} is not a multiple of {2**self.depth}, as depth {self.depth} needs"
            )

    @torch.inference_mode()
    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[Any]:
        """Encode tiles (N, T, T, 3) uint8 to latents (N, C, T/2^d, T/2^d) of the stored type."""
        parts = []
        for start in range(0, len(tiles), self.batch_size):
            batch, count = self._filled(tiles[start : start + self.batch_size])
            x = batch.permute(0, 3, 1, 2).float().div_(255)  # (N, T, T, 3) -> (N, 3, T, T)
            z = self._module.encode(x.contiguous(memory_format=torch.channels_last), self.depth)
            parts.append(self._quantiser.quantise(z)[:count].cpu().numpy())
        return np.concatenate(parts)

    @torch.inference_mode()
    def decode(self, latents: NDArray[Any]) -> NDArray[np.uint8]:
        """Decode latents (N, C, t, t) of the stored type to tiles (N, t * 2^d, t * 2^d, 3) uint8.

        Raises
        ------
        ModelError
            If the latents are not of this depth.
        """
        if latents.ndim != 4 or latents.shape[1] != self.channels:
            raise ModelError(
                f"latents {latents.shape} are not of depth {self.depth}, which has {self.channels} channels"
            )
        parts = []
        for start in range(0, len(latents), self.batch_size):
            batch, count = self._filled(latents[start : start + self.batch_size])
            z_hat = self._quantiser.dequantise(batch).contiguous(memory_format=torch.channels_last)
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
                x_hat = self._module.decode(z_hat, self.depth)
            pixels = x_hat.float().mul(255).round_().clamp_(0, 255).to(torch.uint8)
            parts.append(pixels.permute(0, 2, 3, 1)[:count].cpu().numpy())  # (N, 3, T, T) -> (N, T, T, 3)
        return np.ascontiguousarray(np.concatenate(parts))

    def _filled(self, batch: NDArray[Any]) -> tuple[Tensor, int]:
        # A copy: arrays that came out of a store are read-only, which torch warns about.
        tensor = torch.tensor(batch).to(self._device)
        count = len(batch)
        size = self.batch_size if self._device.type == "cuda" else max(count, CPU_MIN_BATCH)
        if count == size:
            return tensor, count
        missing = tensor.new_zeros((size - count, *tensor.shape[1:]))
        return torch.cat([tensor, missing]), count


def _cpu_has_bfloat16() -> bool:
    # torch has no public question for this; without the instructions bfloat16 is emulated and slow.
    return bool(torch.cpu._is_avx512_bf16_supported())
