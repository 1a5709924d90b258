"""A codec at one depth and setting, on one device, as two functions of tiles.

    tiles (N, T, T, 3) uint8 -> x (N, 3, T, T) in [0, 1] -> Transform.encode -> latents (N, C, T/2^d, T/2^d)
    latents -> Transform.decode -> x_hat -> round(255 x_hat) -> tiles
    latents -> Transform.latents -> y_hat, the decoded latents

Each tile is coded alone, with the network's own padding at its border, so a tile's pixels depend on no other tile.
Nor do they depend on its batch or on the number of threads (a test holds that). The libraries choose their algorithms,
and with them the last bits of a sum, by both: on CUDA every batch of the network is therefore filled up to 16 tiles,
which is all that a read of one tile costs; on the CPU every two tiles are a batch, computed by one thread, and the
threads share the batches out. That is as fast as large batches.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsicomp.errors import ConfigError, ModelError, StoreError, WeightsMismatch
from wsicomp.models.device import in_threads
from wsicomp.models.registry import LoadedModel, load_model
from wsicomp.models.shipped import find_shipped
from wsicomp.pipeline.transforms import Transform, load_codec
from wsicomp.store.schema import LatentDtype, StoreHeader
from wsicomp.store.tiles import completed, stored_size

if TYPE_CHECKING:
    from wsicomp.codec.entropy_model import EntropyModel

__all__ = ["TileCodec"]

CPU_BATCH, CUDA_BATCH = 16, 256
"""Tiles to give at once."""

CPU_NETWORK_BATCH, CUDA_NETWORK_BATCH = 2, 16
"""Tiles that the network computes at once, never more and never fewer on CUDA."""


class TileCodec:
    """Encodes and decodes tiles at one depth and setting; may be called from several threads.

    An entropy model that belongs to it is registered, so that stores of its latents can be written and read.

    Parameters
    ----------
    model
        A loaded codec.
    depth
        Depth of the latent.
    quality
        Quality of tiles that ask for none of their own, for a model that has qualities; None is the model's default.
    latent_dtype
        Stored type of the latents: for the study's model "int8", or "float16" or "float32" for the study's own numbers;
        None is the model's default.
    device
        Where the network runs; None is the CPU.

    Attributes
    ----------
    batch_size
        How many tiles to give at once, so that the device is kept busy; any number gives the same result.

    Raises
    ------
    ConfigError
        If the model has no such depth, quality or type.
    ModelError
        If the model is no codec, or its weights lack the entropy model.
    """

    def __init__(
        self,
        model: LoadedModel,
        depth: int,
        *,
        quality: float | None = None,
        latent_dtype: str | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._device = device or torch.device("cpu")
        self._transform = Transform(model, depth, quality=quality, latent_dtype=latent_dtype, device=self._device)
        self.key = model.key
        self.weights_sha256 = model.sha256
        self.depth = depth
        self.quality: float | None = self._transform.quality
        self.channels: int = self._transform.channels
        self.latent_dtype: LatentDtype = self._transform.latent_dtype
        self.entropy: EntropyModel | None = self._transform.entropy
        self.batch_size = CUDA_BATCH if self._device.type == "cuda" else CPU_BATCH
        if self.entropy is not None:
            from wsicomp.codec.zarr_rans import register_model

            register_model(self.entropy)

    @classmethod
    def load(
        cls,
        source: str | Path,
        depth: int,
        *,
        quality: float | None = None,
        latent_dtype: str | None = None,
        device: torch.device | None = None,
    ) -> Self:
        """Load a codec by the name of its shipped weights or by the path of its weights file.

        Raises
        ------
        ModelError
            If there are no such weights, they belong to a model that is no codec, or they lack the entropy model.
        ConfigError
            If the model has no such depth, quality or type.
        """
        return cls(load_codec(source), depth, quality=quality, latent_dtype=latent_dtype, device=device)

    @classmethod
    def for_store(
        cls, header: StoreHeader, *, weights: str | Path | None = None, device: torch.device | None = None
    ) -> Self:
        """Load exactly the weights that a store was encoded with, at the store's depth and setting.

        Parameters
        ----------
        weights
            Name or path of weights of one's own; None looks among those that come with the package.

        Raises
        ------
        WeightsMismatch
            If the weights given, or none of those shipped, are the ones.
        StoreError
            If they are, but the header asks of them what they do not have.
        """
        source = find_shipped(header.weights_sha256) if weights is None else weights
        model = None if source is None else load_model(source)
        if model is not None and model.sha256 == header.weights_sha256:
            return cls._as_in(header, model, device)
        given = f"'{weights}' are not" if weights is not None else "none of the shipped weights are"
        raise WeightsMismatch(
            f"the store was encoded with weights {header.weights_sha256[:12]}... of model '{header.model}', and "
            f"{given} those; give the right file with --model"
        )

    @classmethod
    def _as_in(cls, header: StoreHeader, model: LoadedModel, device: torch.device | None) -> Self:
        try:
            codec = cls(model, header.depth, quality=header.quality, latent_dtype=header.latent_dtype, device=device)
        except ConfigError as error:
            raise StoreError(f"the store's header does not fit its weights: {error}") from error
        for name, found in (
            ("model", codec.key),
            ("quality", codec.quality),
            ("channels", codec.channels),
            ("entropy", codec.entropy_digest),
        ):
            if getattr(header, name) != found:
                raise StoreError(
                    f"the store's header does not fit its weights: {name} is {getattr(header, name)}, not {found}; "
                    "restore the store, or encode the slide again"
                )
        return codec

    @property
    def entropy_digest(self) -> str | None:
        """Digest of the entropy model, as stores name it; None where there is none."""
        return None if self.entropy is None else self.entropy.digest

    def nearest_quality(self, quality: float) -> float:
        """Return the quality nearest to one that is asked for, among those that a store can write.

        Raises
        ------
        ConfigError
            If the model has no such quality.
        """
        return self._transform.nearest_quality(quality)

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

    def encode(
        self,
        tiles: NDArray[np.uint8],
        *,
        quality: NDArray[np.float32] | None = None,
        sizes: NDArray[np.int64] | None = None,
    ) -> NDArray[Any]:
        """Encode tiles (N, T, T, 3) uint8 to latents (N, C, T/2^d, T/2^d) of the stored type.

        Parameters
        ----------
        quality
            (N,) quality of each tile; None is the codec's own for all.
        sizes
            (N, 2) height and width in pixels of the part of each tile that lies on the slide; None is all. Beyond it a
            latent is not stored, and comes out here as it will come out of the store.

        Raises
        ------
        ConfigError
            If the model has no such quality.
        """
        if sizes is None:
            sizes = np.full((len(tiles), 2), tiles.shape[1], np.int64)
        inside = np.array([stored_size(height, width, self.depth) for height, width in sizes.tolist()], np.int64)
        latents = self._in_batches(self._encode, tiles, self._qualities(quality, len(tiles)), inside)
        for index in np.flatnonzero((inside < latents.shape[-1]).any(1)):
            height, width = inside[index]
            kept = latents[index, :, :height, :width]
            latents[index] = completed(kept, latents.shape[-1], mirrored=self.entropy is None)
        return latents

    def decode(self, latents: NDArray[Any], *, quality: NDArray[np.float32] | None = None) -> NDArray[np.uint8]:
        """Decode latents (N, C, t, t) of the stored type to tiles (N, t * 2^d, t * 2^d, 3) uint8.

        Parameters
        ----------
        quality
            (N,) quality that each was encoded with; None is the codec's own for all.

        Raises
        ------
        ModelError
            If the latents are not of this depth.
        ConfigError
            If the model has no such quality.
        """
        self._check_latents(latents)
        return self._in_batches(self._decode, latents, self._qualities(quality, len(latents)))

    def latents(self, symbols: NDArray[Any], *, quality: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Give the decoded latents y_hat (N, C, t, t) float32 of stored latents (N, C, t, t).

        Parameters
        ----------
        quality
            (N,) quality that each was encoded with; None is the codec's own for all.

        Raises
        ------
        ModelError
            If the latents are not of this depth.
        ConfigError
            If the model has no such quality.
        """
        self._check_latents(symbols)
        return self._in_batches(self._transform.latents, symbols, self._qualities(quality, len(symbols)))

    def _check_latents(self, latents: NDArray[Any]) -> None:
        if latents.ndim != 4 or latents.shape[1] != self.channels:
            raise ModelError(
                f"latents {latents.shape} are not of depth {self.depth}, which has {self.channels} channels"
            )

    def _qualities(self, quality: NDArray[np.float32] | None, count: int) -> NDArray[np.float32]:
        if quality is None:
            return np.full(count, self.quality or 0, np.float32)
        if quality.shape != (count,):
            raise ValueError(f"qualities {quality.shape} for {count} tiles")
        if self.quality is not None:
            for value in np.unique(quality):
                self.nearest_quality(float(value))
        return quality.astype(np.float32, copy=False)

    def _encode(self, tiles: Tensor, quality: Tensor, inside: Tensor) -> Tensor:
        x = tiles.permute(0, 3, 1, 2).float().div_(255)  # (N, T, T, 3) -> (N, 3, T, T)
        side = torch.arange(tiles.shape[1] >> self.depth, device=tiles.device)
        rows, cols = (side < inside[:, axis, None] for axis in (0, 1))  # (N, t)
        kept = (rows[:, None, :, None] & cols[:, None, None, :]).float()  # (N, 1, t, t)
        return self._transform.encode(x.contiguous(memory_format=torch.channels_last), quality, kept)

    def _decode(self, latents: Tensor, quality: Tensor) -> Tensor:
        pixels = self._transform.decode(latents, quality).mul(255).round_().clamp_(0, 255).to(torch.uint8)
        return pixels.permute(0, 2, 3, 1)  # (N, 3, T, T) -> (N, T, T, 3)

    def _in_batches(self, network: Callable[..., Tensor], *arrays: NDArray[Any]) -> NDArray[Any]:
        size = CUDA_NETWORK_BATCH if self._device.type == "cuda" else CPU_NETWORK_BATCH
        batches = [tuple(array[start : start + size] for array in arrays) for start in range(0, len(arrays[0]), size)]

        @torch.inference_mode()
        def run(batch: tuple[NDArray[Any], ...]) -> NDArray[Any]:
            # A copy: arrays that came out of a store are read-only, which torch warns about.
            tensors = [torch.tensor(part).to(self._device) for part in batch]
            count = len(batch[0])
            if count < size:
                tensors = [torch.cat([part, part.new_zeros((size - count, *part.shape[1:]))]) for part in tensors]
            return network(*tensors)[:count].cpu().numpy()

        parts = list(map(run, batches)) if self._device.type == "cuda" else in_threads(run, batches)
        return np.ascontiguousarray(np.concatenate(parts))
