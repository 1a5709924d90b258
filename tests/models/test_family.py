"""Models register themselves: a new one is known by its family alone, to whoever asks for a family."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from wsicomp.errors import ModelError
from wsicomp.models import family
from wsicomp.models.family import register, registered
from wsicomp.models.registry import load_model, save_model
from wsicomp.pipeline.tile_codec import TileCodec


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family, "_REGISTRATIONS", dict(family._REGISTRATIONS))


class Halves(nn.Module):
    """A codec that keeps every second pixel."""

    depths = (1,)
    qualities = 0
    latent_dtypes = ("int8",)
    has_entropy_model = False

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(1))

    def latent_channels(self, depth: int) -> int:
        return 3 * depth

    def latent_range(self, depth: int) -> tuple[Tensor, Tensor]:
        return torch.ones(3), torch.zeros(3)

    def encode(self, x: Tensor, depth: int, quality: Tensor, inside: Tensor) -> Tensor:
        return 100 * x[:, :, ::2, ::2]

    def latents(self, symbols: Tensor, depth: int, quality: Tensor) -> Tensor:
        return symbols / 100

    def decode(self, symbols: Tensor, depth: int, quality: Tensor) -> Tensor:
        return self.latents(symbols, depth, quality).repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_a_registered_codec_is_used_as_every_other(tmp_path: Path) -> None:
    register("someone2031", "codec")(Halves)
    path = tmp_path / "halves.safetensors"
    save_model(path, Halves(), key="someone2031", settings={}, notes={})
    assert load_model(path, family="codec").family == "codec"
    codec = TileCodec.load(path, 1)
    tiles = torch.full((3, 16, 16, 3), 51, dtype=torch.uint8).numpy()
    symbols = codec.encode(tiles)
    assert (symbols == 20).all()
    assert codec.latents(symbols) == pytest.approx(0.2)
    assert (codec.decode(symbols) == tiles).all()


def test_a_registered_model_of_another_family_is_no_codec(tmp_path: Path) -> None:
    register("someone2031", "generator")(Halves)
    path = tmp_path / "halves.safetensors"
    save_model(path, Halves(), key="someone2031", settings={}, notes={})
    with pytest.raises(ModelError, match="'someone2031', a generator, where a codec is needed"):
        TileCodec.load(path, 1)


def test_a_key_is_registered_once_and_in_a_family_that_there_is() -> None:
    assert registered("someone2031") is None
    with pytest.raises(ValueError, match="'wsic' is registered already"):
        register("wsic", "codec")
    with pytest.raises(ValueError, match="'wishes' is no family"):
        register("someone2031", "wishes")  # type: ignore[arg-type]
