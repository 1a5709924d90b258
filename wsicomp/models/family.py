"""Families of models, and how a model joins one.

    @register("wsic", "codec")        the key that weights files name, and the family
    class Wsic(nn.Module): ...        the builder: settings as keyword arguments -> a network

A codec turns pictures into symbols and back (`Codec`), a classifier turns them into logits. A peer is a codec of the
literature that ours is compared with: its rate is its own estimate, and no store holds its latents. Who needs a codec
asks for the family, never for a key, so a new model is one file, and its import in the registry. Weights are not read
here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, get_args

from torch import Tensor, nn

__all__ = ["Codec", "Family", "Registration", "register", "registered"]

Family = Literal["codec", "classifier", "generator", "peer"]

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


@dataclass(frozen=True)
class Registration:
    """A model's family, and what builds its network from the settings in a weights file."""

    family: Family
    build: Callable[..., nn.Module]


_REGISTRATIONS: dict[str, Registration] = {}


def register(key: str, family: Family) -> Callable[[Builder], Builder]:
    """Register the decorated builder as the model of a key.

    Raises
    ------
    ValueError
        If the key is taken, or there is no such family.
    """
    if key in _REGISTRATIONS or family not in get_args(Family):
        raise ValueError(f"'{key}' is registered already, or '{family}' is no family")

    def add(build: Builder) -> Builder:
        _REGISTRATIONS[key] = Registration(family, build)
        return build

    return add


def registered(key: str) -> Registration | None:
    """Registration of a key; None if no model has it."""
    return _REGISTRATIONS.get(key)


class Codec(Protocol):
    """What a network of the family "codec" has and does.

        x -> encode -> symbols -> decode -> x_hat
                          |
                       latents -> y_hat, what the pictures are made from

    Symbols are whole numbers, or floats where it is left to the transform to quantise them.
    """

    @property
    def depths(self) -> tuple[int, ...]:
        """Depths, ascending; at depth d a latent has 1 / 2**d of the picture's sides."""

    @property
    def qualities(self) -> int:
        """Number of whole qualities, from 0; a quality may lie between two of them. 0 for a network without any."""

    @property
    def latent_dtypes(self) -> tuple[str, ...]:
        """Types that latents can be stored as, the default first."""

    @property
    def has_entropy_model(self) -> bool:
        """Whether the weights hold, for each depth, the tables that its symbols are coded with."""

    def latent_channels(self, depth: int) -> int:
        """Channels C of the latent at a depth.

        Raises
        ------
        ConfigError
            If the model has no such depth.
        """

    def latent_range(self, depth: int) -> tuple[Tensor, Tensor]:
        """Scale and offset, each (C,) float32, that bring the latent at a depth into the range of int8."""

    def encode(self, x: Tensor, depth: int, quality: Tensor, inside: Tensor) -> Tensor:
        """Symbols (N, C, h, w) float32 of pictures x (N, 3, H, W) float32 in [0, 1] at qualities (N,).

        `inside` (N, 1, h, w) is 0 where a latent is not stored and a decoder finds zeros, 1 elsewhere.
        """

    def latents(self, symbols: Tensor, depth: int, quality: Tensor) -> Tensor:
        """Give the decoded latents y_hat (N, C, h, w) float32 of symbols (N, C, h, w) float32 at qualities (N,)."""

    def decode(self, symbols: Tensor, depth: int, quality: Tensor) -> Tensor:
        """Pictures x_hat (N, 3, H, W) float32, about [0, 1], of symbols (N, C, h, w) float32."""
