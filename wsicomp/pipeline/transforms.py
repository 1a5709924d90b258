"""A codec's network at one depth and setting, as functions between pictures and stored latents.

    x -> network.encode -> quantiser -> symbols, as they are stored -> quantiser -> network.decode -> x_hat
                                                                           |
                                                                    network.latents -> y_hat

The quantiser only changes the type of symbols that are whole numbers already. Networks run in bfloat16 where the device
has it, all but what comes right before rounding: twice as fast. Against float32, a decoder is within 0.01 dB, and an
encoder within 0.2 % of the rate at no less PSNR. Batches and bytes are not chosen here; the entropy model that weights
bring along is only handed on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from wsicomp.codec.quantiser import LatentQuantiser
from wsicomp.errors import ConfigError, ModelError
from wsicomp.models.family import Codec
from wsicomp.models.registry import LoadedModel, load_model
from wsicomp.store.quality import from_steps, to_steps
from wsicomp.store.schema import LatentDtype

if TYPE_CHECKING:
    from wsicomp.codec.entropy_model import EntropyModel

__all__ = ["DEFAULT_QUALITY", "Transform", "codec_depths", "load_codec"]

DEFAULT_QUALITY = 4
"""The quality where none is asked for."""


class Transform:
    """A codec's network at one depth and setting.

    Parameters
    ----------
    model
        Weights of a codec. Its network is moved to the device.
    depth
        Depth of the latent.
    quality
        Quality of tiles that ask for none of their own; None is the model's default.
    latent_dtype
        Stored type of the latents; None is the model's default.

    Attributes
    ----------
    quality
        The same; None for a network without qualities.
    channels
        Channels of a latent, C.
    entropy
        What the symbols are coded with; None leaves them to the store.

    Raises
    ------
    ConfigError
        If the model has no such depth, quality or type.
    ModelError
        If the model is no codec, or its weights hold no sound entropy model although the model needs one.
    """

    def __init__(
        self, model: LoadedModel, depth: int, *, quality: float | None, latent_dtype: str | None, device: torch.device
    ) -> None:
        self._network = network = network_of(model)
        if not network.qualities and quality is not None:
            raise ConfigError(f"{model.name}: has no qualities; leave the quality away, or choose another model")
        dtype = latent_dtype or network.latent_dtypes[0]
        if dtype not in network.latent_dtypes:
            known = ", ".join(network.latent_dtypes)
            raise ConfigError(f"{model.name}: its latents are stored as {known}; {dtype} is not possible")
        model.module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.channels = network.latent_channels(depth)
        self.quality: float | None = None
        if network.qualities:
            self.quality = self.nearest_quality(DEFAULT_QUALITY if quality is None else quality)
        self.entropy: EntropyModel | None = entropy_model(model, depth) if network.has_entropy_model else None
        self._depth = depth
        self._half = has_bfloat16(device)
        self._quantiser = LatentQuantiser(dtype, *network.latent_range(depth))
        self.latent_dtype: LatentDtype = self._quantiser.dtype

    def nearest_quality(self, quality: float) -> float:
        """Return the quality nearest to one that is asked for, among those that a store can write.

        Raises
        ------
        ConfigError
            If the network has no such quality.
        """
        highest = self._network.qualities - 1
        if not 0 <= quality <= highest:
            raise ConfigError(f"quality {quality:g} is unknown; this model has qualities 0 to {highest}")
        return from_steps(to_steps(quality))

    def encode(self, x: Tensor, quality: Tensor, inside: Tensor) -> Tensor:
        """Encode pictures (N, 3, T, T) float32 in [0, 1] to latents (N, C, T/2^d, T/2^d) of the stored type.

        `quality` (N,) is each picture's own; a network without qualities does not look at it. Where `inside`
        (N, 1, T/2^d, T/2^d) is 0 and not 1, the latents are not stored, and a decoder finds zeros.
        """
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._half):
            return self._quantiser.quantise(self._network.encode(x, self._depth, quality, inside))

    def latents(self, symbols: Tensor, quality: Tensor) -> Tensor:
        """Give the decoded latents y_hat (N, C, t, t) float32 of stored latents (N, C, t, t), at qualities (N,).

        Where symbols are residuals, y_hat is the predicted mean plus the residual, scaled by the gains of the quality;
        elsewhere it is what the quantiser gives back.
        """
        return self._network.latents(self._dequantised(symbols), self._depth, quality)

    def decode(self, symbols: Tensor, quality: Tensor) -> Tensor:
        """Decode latents (N, C, t, t) of the stored type to pictures (N, 3, t * 2^d, t * 2^d) float32, about [0, 1]."""
        with torch.autocast(symbols.device.type, torch.bfloat16, enabled=self._half):
            return self._network.decode(self._dequantised(symbols), self._depth, quality)

    def _dequantised(self, symbols: Tensor) -> Tensor:
        return self._quantiser.dequantise(symbols).contiguous(memory_format=torch.channels_last)


def load_codec(source: str | Path) -> LoadedModel:
    """Load a codec's weights by shipped name or by path.

    Raises
    ------
    ModelError
        If there are no such weights, or they belong to a model that is no codec.
    """
    return load_model(source, family="codec")


def codec_depths(model: LoadedModel) -> tuple[int, ...]:
    """Depths that a codec's weights have, ascending.

    Raises
    ------
    ModelError
        If the model is no codec.
    """
    return network_of(model).depths


def network_of(model: LoadedModel) -> Codec:
    """Network of a codec.

    Raises
    ------
    ModelError
        If the model is no codec.
    """
    if model.family != "codec":
        raise ModelError(f"{model.name}: weights of '{model.key}', a {model.family}, where a codec is needed")
    return cast(Codec, model.module)


def entropy_model(model: LoadedModel, depth: int) -> EntropyModel:
    """Entropy model of one depth, out of a codec's arrays.

    Raises
    ------
    ModelError
        If the weights have none, a damaged one, or one of another size.
    """
    # Its compiled code takes a while to load, and the study's latents need none.
    from wsicomp.codec.entropy_model import EntropyModel

    arrays = model.arrays_of(depth)
    if not arrays:
        raise ModelError(f"{model.name}: has no entropy model for depth {depth}; choose another")
    try:
        found = EntropyModel.from_arrays(arrays)
    except ValueError as error:
        raise ModelError(f"{model.name}: its entropy model for depth {depth} is damaged; get the file again") from error
    if found.channels != network_of(model).latent_channels(depth):
        raise ModelError(f"{model.name}: its entropy model of depth {depth} is of another size; get the file again")
    return found


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is the device's own, and not emulated, which is slow."""
    # torch has no public question for this on a CPU.
    return device.type == "cuda" or bool(torch.cpu._is_avx512_bf16_supported())
