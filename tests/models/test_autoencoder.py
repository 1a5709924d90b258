"""The founding study's autoencoder: its shapes, its layers and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wsicomp.errors import ConfigError
from wsicomp.models.autoencoder import StudyAutoencoder

DEPTHS = (1, 2, 3, 4)
ELEMENTS_PER_TILE = {1: 98_304, 2: 49_152, 3: 24_576, 4: 12_288}


@pytest.fixture(scope="module")
def model() -> StudyAutoencoder:
    torch.manual_seed(0)
    return StudyAutoencoder().eval()


def layers(blocks: nn.Module) -> list[nn.Module]:
    """Layers in the order in which they run, containers opened."""
    return [layer for layer in blocks.modules() if not list(layer.children())]


def is_same_padded(layer: nn.Module, inputs: int, outputs: int) -> bool:
    return (
        isinstance(layer, nn.Conv2d)
        and (layer.in_channels, layer.out_channels) == (inputs, outputs)
        and (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (1, 1), (1, 1))
        and layer.bias is not None
    )


@pytest.mark.parametrize("depth", DEPTHS)
@torch.inference_mode()
def test_a_tile_becomes_the_studys_number_of_elements_and_comes_back_as_a_picture(
    model: StudyAutoencoder, depth: int
) -> None:
    z = model.encode(torch.rand(1, 3, 256, 256), depth)
    assert z.shape == (1, 3 * 2**depth, 256 >> depth, 256 >> depth)
    assert z.numel() == ELEMENTS_PER_TILE[depth]
    assert z.shape[1] == model.latent_channels(depth)
    assert model.decode(z, depth).shape == (1, 3, 256, 256)


@pytest.mark.parametrize("depth", DEPTHS)
@torch.inference_mode()
def test_pictures_need_not_be_square(model: StudyAutoencoder, depth: int) -> None:
    z = model.encode(torch.rand(2, 3, 32, 80), depth)
    assert z.shape == (2, 3 << depth, 32 >> depth, 80 >> depth)
    assert model.decode(z, depth).shape == (2, 3, 32, 80)


@pytest.mark.parametrize("block", DEPTHS)
def test_an_encoder_block_is_the_studys(model: StudyAutoencoder, block: int) -> None:
    convolution, relu, norm, pool = layers(model.encoder[block - 1])
    channels = 3 * 2 ** (block - 1)
    assert is_same_padded(convolution, channels, 2 * channels)
    assert isinstance(relu, nn.ReLU)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.num_features == 2 * channels
    assert isinstance(pool, nn.MaxPool2d)
    assert (pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode) == (2, 2, 0, False)


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_decoder_has_exactly_as_many_blocks_as_its_depth_and_ends_in_a_sigmoid(
    model: StudyAutoencoder, depth: int
) -> None:
    flat = layers(model.decoders[depth - 1])
    assert len(flat) == 3 * depth
    for k, (upsample, convolution, activation) in enumerate(zip(flat[0::3], flat[1::3], flat[2::3], strict=True)):
        assert isinstance(upsample, nn.Upsample)
        assert (upsample.scale_factor, upsample.mode) == (2, "nearest")
        channels = 3 * 2 ** (depth - k)
        assert is_same_padded(convolution, channels, channels // 2)
        assert isinstance(activation, nn.Sigmoid if k == depth - 1 else nn.ReLU)


def test_there_is_one_block_and_one_decoder_per_depth(model: StudyAutoencoder) -> None:
    assert len(model.encoder) == len(model.decoders) == 4
    assert model.depths == (1, 2, 3, 4)


@torch.inference_mode()
def test_a_deeper_latent_is_the_next_block_of_the_shallower_one(model: StudyAutoencoder) -> None:
    z = torch.rand(1, 3, 64, 64)
    x = z
    for depth in DEPTHS:
        z = model.encoder[depth - 1](z)
        assert torch.equal(z, model.encode(x, depth))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
@torch.inference_mode()
def test_decoded_pictures_lie_in_0_to_1_whatever_the_latent(model: StudyAutoencoder, depth: int, size: float) -> None:
    z = size * torch.randn(2, 3 << depth, 4, 4, generator=torch.Generator().manual_seed(depth))
    x_hat = model.decode(z, depth)
    assert 0 <= float(x_hat.min()) <= float(x_hat.max()) <= 1


@pytest.mark.parametrize("depth", [-1, 0, 5])
def test_an_unknown_depth_is_refused_by_name(model: StudyAutoencoder, depth: int) -> None:
    for call in (
        lambda: model.encode(torch.rand(1, 3, 64, 64), depth),
        lambda: model.decode(torch.rand(1, 3, 64, 64), depth),
        lambda: model.latent_channels(depth),
        lambda: model.latent_range(depth),
    ):
        with pytest.raises(ConfigError, match=f"depth {depth} is unknown; this model has depths 1 to 4"):
            call()


@pytest.mark.parametrize("depths", [0, -1])
def test_a_model_without_a_depth_cannot_be_built(depths: int) -> None:
    with pytest.raises(ValueError, match="at least one depth"):
        StudyAutoencoder(depths)


@pytest.mark.parametrize("depth", DEPTHS)
def test_each_depth_has_a_latent_range_of_its_own(depth: int) -> None:
    model = StudyAutoencoder()
    channels = 3 << depth
    model.latent_scale[depth - 1, :channels] = torch.arange(1.0, channels + 1)
    model.latent_offset[depth - 1, :channels] = 7
    scale, offset = model.latent_range(depth)
    assert scale.tolist() == list(range(1, channels + 1))
    assert offset.tolist() == [7] * channels
    for other in set(DEPTHS) - {depth}:
        scale, offset = model.latent_range(other)
        assert torch.equal(scale, torch.ones(3 << other))
        assert torch.equal(offset, torch.zeros(3 << other))


def test_the_latent_range_is_stored_with_the_weights() -> None:
    assert {"latent_scale", "latent_offset"} <= StudyAutoencoder().state_dict().keys()
