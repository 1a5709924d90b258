"""The networks at one depth and one setting, as functions between pictures and stored latents.

    perticarari2023   x -> encoder -> z -> quantiser -> int8, or the study's floats -> quantiser -> decoder -> x_hat
    wsic              x -> encoder at a quality -> symbols, int16 -> decoder at that quality -> x_hat

Networks run in bfloat16 where the device has it, all but the study's encoder and what comes right before rounding:
twice as fast. Against float32, a decoder is within 0.01 dB, and an encoder within 0.2 % of the rate at no less PSNR.
Batches and bytes are not chosen here; the entropy model that `wsic` brings along is only handed on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor

from wsicomp.codec.quantiser import LatentQuantiser
from wsicomp.errors import ConfigError, ModelError
from wsicomp.models.autoencoder import StudyAutoencoder
from wsicomp.models.registry import STUDY_CODEC, WSIC, LoadedModel, load_model
from wsicomp.models.wsic import QUALITIES, Wsic
from wsicomp.store.schema import LatentDtype

if TYPE_CHECKING:
    from wsicomp.codec.entropy_model import EntropyModel

__all__ = [
    "DEFAULT_QUALITY",
    "QUALITY_STEPS",
    "StudyTransform",
    "Transform",
    "WsicTransform",
    "check_quality",
    "codec_depths",
    "load_codec",
    "transform",
]

DEFAULT_QUALITY = 4
"""Of `wsic`, where none is asked for."""

QUALITY_STEPS = 16
"""Of `wsic`, between one whole quality and the next."""


class Transform(Protocol):
    """A network at one depth and setting.

    Parameters
    ----------
    quality
        Quality of tiles that ask for none of their own; None for a network without qualities.
    channels
        Channels of a latent, C.
    latent_dtype
        Stored type of the latents.
    entropy
        What their symbols are coded with; None leaves them to the store.
    """

    quality: float | None
    channels: int
    latent_dtype: LatentDtype
    entropy: EntropyModel | None

    def encode(self, x: Tensor, quality: Tensor, inside: Tensor) -> Tensor:
        """Encode pictures (N, 3, T, T) float32 in [0, 1] to latents (N, C, T/2^d, T/2^d) of the stored type.

        `quality` (N,) is each picture's own; a network without qualities does not look at it. Where `inside`
        (N, 1, T/2^d, T/2^d) is 0 and not 1, the latents are not stored, and a decoder finds zeros.
        """
        ...

    def decode(self, latents: Tensor, quality: Tensor) -> Tensor:
        """Decode latents (N, C, t, t) of the stored type to pictures (N, 3, t * 2^d, t * 2^d) float32, about [0, 1]."""
        ...


class StudyTransform:
    """The founding study's autoencoder and its quantiser; a `Transform`.

    Raises
    ------
    ConfigError
        If the model has no such depth, a quality is asked for, or the type is unknown.
    """

    def __init__(
        self, model: LoadedModel, depth: int, quality: float | None, latent_dtype: str | None, device: torch.device
    ) -> None:
        if quality is not None:
            raise ConfigError(f"{model.name}: has no qualities; '{WSIC}' has, or leave the quality away")
        module = cast(StudyAutoencoder, model.module)
        self.quality: float | None = None
        self.channels = module.latent_channels(depth)
        self.entropy: EntropyModel | None = None
        self._module = module
        self._depth = depth
        self._half = has_bfloat16(device)
        self._quantiser = LatentQuantiser(latent_dtype or "int8", *module.latent_range(depth))
        self.latent_dtype: LatentDtype = self._quantiser.dtype

    def encode(self, x: Tensor, quality: Tensor, inside: Tensor) -> Tensor:
        """Encode, and quantise."""
        return self._quantiser.quantise(self._module.encode(x, self._depth))

    def decode(self, latents: Tensor, quality: Tensor) -> Tensor:
        """Decode what the quantiser gives back."""
        z_hat = self._quantiser.dequantise(latents).contiguous(memory_format=torch.channels_last)
        with torch.autocast(z_hat.device.type, torch.bfloat16, enabled=self._half):
            return self._module.decode(z_hat, self._depth).float()


class WsicTransform:
    """`wsic` at one depth and quality; a `Transform`.

    Raises
    ------
    ConfigError
        If the model has no such depth or quality, or another type than int16 is asked for.
    ModelError
        If the weights hold no sound entropy model for them.
    """

    def __init__(
        self, model: LoadedModel, depth: int, quality: float | None, latent_dtype: str | None, device: torch.device
    ) -> None:
        if latent_dtype not in (None, "int16"):
            raise ConfigError(f"{model.name}: its latents are whole numbers, int16; {latent_dtype} is not possible")
        module = cast(Wsic, model.module)
        self.channels = module.latent_channels(depth)
        self.latent_dtype: LatentDtype = "int16"
        self.quality: float | None = check_quality(DEFAULT_QUALITY if quality is None else quality)
        entropy = entropy_model(model, depth)
        if entropy.channels != self.channels:
            raise ModelError(f"{model.name}: its entropy model of depth {depth} is of another size; get the file again")
        self.entropy: EntropyModel | None = entropy
        self._module = module
        self._depth = depth
        self._half = has_bfloat16(device)

    def encode(self, x: Tensor, quality: Tensor, inside: Tensor) -> Tensor:
        """Encode to symbols: the encoder alone decides them, and it does so once."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._half):
            return self._module.encode(x, self._depth, quality, inside).to(torch.int16)

    def decode(self, latents: Tensor, quality: Tensor) -> Tensor:
        """Decode symbols."""
        symbols = latents.float().contiguous(memory_format=torch.channels_last)
        with torch.autocast(symbols.device.type, torch.bfloat16, enabled=self._half):
            return self._module.decode(symbols, self._depth, quality)


def check_quality(quality: float) -> float:
    """Return a quality that `wsic` has: 0 to 7, in steps of 1/16.

    Raises
    ------
    ConfigError
        If it is none.
    """
    if not 0 <= quality <= QUALITIES - 1:
        raise ConfigError(f"quality {quality:g} is unknown; this model has qualities 0 to {QUALITIES - 1}")
    return round(quality * QUALITY_STEPS) / QUALITY_STEPS


TRANSFORMS: dict[str, type[StudyTransform] | type[WsicTransform]] = {STUDY_CODEC: StudyTransform, WSIC: WsicTransform}


def transform(
    model: LoadedModel, depth: int, *, quality: float | None, latent_dtype: str | None, device: torch.device
) -> Transform:
    """Set a model to a depth, a quality and a stored type, on a device; None is the model's own choice.

    Raises
    ------
    ModelError
        If the model is no codec, or its weights lack what this setting needs.
    ConfigError
        If the model has no such setting.
    """
    check_codec(model)
    model.module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TRANSFORMS[model.key](model, depth, quality, latent_dtype, device)


def load_codec(source: str | Path) -> LoadedModel:
    """Load a codec's weights by shipped name or by path.

    Raises
    ------
    ModelError
        If there are no such weights, or they belong to a model that is no codec.
    """
    model = load_model(source)
    check_codec(model)
    return model


def codec_depths(model: LoadedModel) -> tuple[int, ...]:
    """Depths that a codec's weights have, ascending."""
    depths = cast(StudyAutoencoder | Wsic, model.module).depths
    return tuple(range(1, depths + 1)) if isinstance(depths, int) else depths


def check_codec(model: LoadedModel) -> None:
    """Refuse what is not a codec.

    Raises
    ------
    ModelError
        If so.
    """
    if model.key not in TRANSFORMS:
        raise ModelError(f"{model.name}: weights of '{model.key}', where a codec is needed: {' or '.join(TRANSFORMS)}")


def entropy_model(model: LoadedModel, depth: int) -> EntropyModel:
    """Entropy model of one depth, out of a model's arrays.

    Raises
    ------
    ModelError
        If the weights have none, or a damaged one.
    """
    # Its compiled code takes a while to load, and the study's latents need none.
    from wsicomp.codec.entropy_model import EntropyModel

    arrays = model.arrays_of(depth)
    if not arrays:
        raise ModelError(f"{model.name}: has no entropy model for depth {depth}; choose another")
    try:
        return EntropyModel.from_arrays(arrays)
    except ValueError as error:
        raise ModelError(f"{model.name}: its entropy model for depth {depth} is damaged; get the file again") from error


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is the device's own, and not emulated, which is slow."""
    # torch has no public question for this on a CPU.
    return device.type == "cuda" or bool(torch.cpu._is_avx512_bf16_supported())
