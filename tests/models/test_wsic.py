"""The network of `wsic`: its shapes, what it costs, and its gains."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from tests.wsic_weights import stir
from wsicomp.errors import ConfigError
from wsicomp.models.context import SLICES
from wsicomp.models.layers import ResidualBlock
from wsicomp.models.wsic import DEPTHS, LATENT_CHANNELS, QUALITIES, Wsic, gain, macs_per_pixel

ALL = range(1, DEPTHS + 1)
pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def model() -> Wsic:
    torch.manual_seed(0)
    return Wsic().eval()


@pytest.mark.parametrize("depth", ALL)
@pytest.mark.parametrize("size", [(16, 16), (32, 48)])
def test_shapes(model: Wsic, depth: int, size: tuple[int, int]) -> None:
    x, quality = torch.rand(2, 3, *size), torch.tensor([0.0, 7.0])
    with torch.inference_mode():
        y = model.analyse(x, depth, quality)
        symbols = model.encode(x, depth, quality)
        x_hat = model.decode(symbols, depth, quality)
    assert y.shape == symbols.shape == (2, model.latent_channels(depth), size[0] >> depth, size[1] >> depth)
    assert model.latent_channels(depth) == LATENT_CHANNELS[depth - 1] == sum(SLICES[depth])
    assert x_hat.shape == x.shape


@pytest.mark.parametrize("depth", ALL)
def test_the_budget_of_multiplications(model: Wsic, depth: int) -> None:
    # Each of its networks is computed at one colour's fields alone.
    means = macs_per_pixel(model.means[str(depth)], 2**depth) / 2 / 1000
    encoder = nn.Sequential(*list(model.trunk)[:depth], model.branches[str(depth)], model.heads[str(depth)])
    assert 0.5 < macs_per_pixel(encoder, 1) / 1000 + means <= 10
    assert 0.5 < macs_per_pixel(model.decoders[str(depth)], 2**depth) / 1000 + means <= 5


def test_multiplications_are_counted_per_pixel() -> None:
    # 4 * 3 inputs, 5 outputs and 3 x 3 at a quarter of the pixels; then 5 inputs, 12 outputs; then 3 to 3 on all pixels
    chain = nn.Sequential(
        nn.PixelUnshuffle(2), nn.Conv2d(12, 5, 3), nn.Conv2d(5, 12, 1), nn.PixelShuffle(2), nn.Conv2d(3, 3, 1)
    )
    assert macs_per_pixel(chain, 1) == (12 * 5 * 9 + 5 * 12) / 4 + 9
    assert macs_per_pixel(nn.Conv2d(8, 8, 5, groups=8), 2) == 8 * 25 / 4


class TestGain:
    @pytest.fixture
    def logs(self) -> torch.Tensor:
        return torch.randn(QUALITIES, 5, generator=torch.Generator().manual_seed(3)) * 3

    def test_at_a_level_it_is_that_levels(self, logs: torch.Tensor) -> None:
        found = gain(logs, torch.arange(QUALITIES).float())
        assert found.shape == (QUALITIES, 5, 1, 1)
        assert torch.equal(found[:, :, 0, 0], logs.exp())

    @pytest.mark.parametrize("low", range(QUALITIES - 1))
    def test_between_levels_it_is_geometric(self, logs: torch.Tensor, low: int) -> None:
        middle = gain(logs, torch.tensor([low + 0.5]))[0, :, 0, 0]
        torch.testing.assert_close(middle, (logs[low].exp() * logs[low + 1].exp()).sqrt())
        near = gain(logs, torch.tensor([low + 0.999999]))
        torch.testing.assert_close(near, gain(logs, torch.tensor([low + 1.0])), rtol=1e-3, atol=0)

    def test_it_is_positive_whatever_was_learned(self, logs: torch.Tensor) -> None:
        assert (gain(-20 * logs.abs(), torch.linspace(0, 7, 50)) > 0).all()

    def test_each_picture_has_its_own(self, model: Wsic) -> None:
        x = torch.rand(1, 3, 16, 16).repeat(2, 1, 1, 1)
        with torch.inference_mode():
            y = model.analyse(x, 3, torch.tensor([1.0, 6.0]))
            alone = model.analyse(x[1:], 3, torch.tensor([6.0]))
        torch.testing.assert_close(y[1:], alone)
        assert (y[1].abs() > y[0].abs()).float().mean() > 0.95


@pytest.mark.parametrize("depth", ALL)
def test_every_block_is_as_strong_as_the_quality_says(depth: int) -> None:
    torch.manual_seed(0)
    model, x, quality = Wsic((depth,)).eval(), torch.rand(1, 3, 32, 32), torch.tensor([5.0])
    encoder, decoder = model.log_encoder_strengths[str(depth)], model.log_decoder_strengths[str(depth)]
    passed = [*blocks_of(model.trunk), *blocks_of(model.branches)]
    assert encoder.shape == (QUALITIES, sum(block.channels for block in passed))
    assert decoder.shape == (QUALITIES, sum(block.channels for block in blocks_of(model.decoders)))
    y_hat = torch.randn(1, model.latent_channels(depth), 32 >> depth, 32 >> depth)
    sides: list[tuple[Tensor, Callable[[], Tensor]]] = [
        (encoder, lambda: model.analyse(x, depth, quality)),
        (decoder, lambda: model.synthesise(y_hat, depth, quality)),
    ]
    for log_strengths, make in sides:
        before = make()
        log_strengths.data[[0, 1, 2, 3, 4, 6, 7]] = 9.0  # of other qualities
        assert torch.equal(make(), before)
        for channel in range(0, log_strengths.shape[1], 23):  # a block has 24 at least
            log_strengths.data[5, channel] = 1.0
            assert not torch.equal(make(), before)
            log_strengths.data[5, channel] = 0.0


def blocks_of(module: nn.Module) -> list[ResidualBlock]:
    return [block for block in module.modules() if isinstance(block, ResidualBlock)]


@pytest.mark.parametrize("depth", [0, 2, 5, -1])
def test_an_unknown_depth_is_refused(depth: int) -> None:
    model = Wsic((1, 3))
    for ask in (
        lambda: model.latent_channels(depth),
        lambda: model.encode(torch.rand(1, 3, 16, 16), depth, torch.zeros(1)),
        lambda: model.decode(torch.zeros(1, 24, 4, 4), depth, torch.zeros(1)),
    ):
        with pytest.raises(ConfigError, match=f"depth {depth} is unknown; this model has depths 1, 3"):
            ask()


@pytest.mark.parametrize("depths", [(), (0,), (5,), (2, 1), (1, 1)])
def test_depths_that_cannot_be_built(depths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        Wsic(depths)


def test_only_the_asked_depths_are_built() -> None:
    model = Wsic((2,))
    assert (len(model.trunk), list(model.heads), list(model.decoders)) == (2, ["2"], ["2"])
    assert set(cast(dict[str, nn.Parameter], model.log_gains).keys()) == {"2"}


def test_pictures_depend_on_no_other_picture(model: Wsic) -> None:
    x = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        together = model.analyse(x, 4, torch.full((3,), 3.0))
        alone = torch.cat([model.analyse(one[None], 4, torch.tensor([3.0])) for one in x])
    torch.testing.assert_close(together, alone)


def stirred() -> Wsic:
    """A model whose means are not zero and whose symbols are not all."""
    torch.manual_seed(1)
    model = Wsic((2, 3)).eval()
    for depth in model.depths:
        stir(model.means[str(depth)], 0.1)
        model.heads[str(depth)].weight.data.mul_(20)  # type: ignore[operator]
    return model


@pytest.mark.parametrize("depth", [2, 3])
def test_what_is_decoded_is_what_training_measured(depth: int) -> None:
    model, quality = stirred(), torch.tensor([2.5, 6.0])
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        residuals, y_hat = model.quantise(model.analyse(x, depth, quality), depth, quality)
        measured = model.synthesise(y_hat, depth, quality)
        symbols = model.encode(x, depth, quality)
        decoded = model.decode(symbols, depth, quality)
    assert symbols.abs().max() > 3
    assert (symbols != residuals.round()).float().mean() < 1e-2  # those that lie halfway, and what follows from them
    torch.testing.assert_close(decoded, measured, rtol=0, atol=1e-3)


@pytest.mark.parametrize("depth", [2, 3])
def test_autocast_leaves_means_and_pixels_in_float32(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, quality = stirred(), torch.tensor([4.0])
    symbols = torch.randint(-9, 10, (1, LATENT_CHANNELS[depth - 1], 4, 4)).float()
    restored: list[torch.Tensor] = []
    synthesise = model.synthesise

    def watch(y_hat: torch.Tensor, depth: int, quality: torch.Tensor) -> torch.Tensor:
        restored.append(y_hat)
        return synthesise(y_hat, depth, quality)

    monkeypatch.setattr(model, "synthesise", watch)
    with torch.inference_mode():
        full = model.decode(symbols, depth, quality)
        with torch.autocast("cpu", torch.bfloat16):
            half = model.decode(symbols, depth, quality)
    assert torch.equal(*restored)
    assert restored[0].dtype == half.dtype == torch.float32
    assert not torch.equal(full, half), "autocast was not used"


def test_the_mask_of_the_edge_reaches_the_symbols() -> None:
    model, quality = stirred(), torch.tensor([4.0])
    x, inside = torch.rand(1, 3, 32, 32), torch.ones(1, 1, 4, 4)
    inside[:, :, 3:] = 0
    with torch.inference_mode():
        masked, whole = model.encode(x, 3, quality, inside), model.encode(x, 3, quality)
    assert not masked[:, :, 3:].any()
    assert whole[:, :, 3:].any()
    assert (masked[:, :, :2] != whole[:, :, :2]).float().mean() < (masked[:, :, 2] != whole[:, :, 2]).float().mean()


def test_names_and_shapes_of_the_weights_stay_as_they_are(model: Wsic) -> None:
    names = "\n".join(f"{name} {tuple(tensor.shape)}" for name, tensor in sorted(model.state_dict().items()))
    digest = "4ca3448089e126afd4e478da724d75fde4634e6ca80cfc5588ff607e8a1c7718"
    assert hashlib.sha256(names.encode()).hexdigest() == digest, "trained weights can no longer be loaded"
