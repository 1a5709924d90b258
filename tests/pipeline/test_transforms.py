"""Settings of a codec: what each model has, what it refuses, and weights that lack what a setting needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.wsic_weights import DEPTHS
from wsicomp.errors import ConfigError, ModelError
from wsicomp.models.autoencoder import StudyAutoencoder
from wsicomp.models.registry import WSIC, load_model, save_model
from wsicomp.models.wsic import Wsic
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.transforms import DEFAULT_QUALITY, codec_depths


def test_the_default_quality(wsic_weights: Path) -> None:
    assert TileCodec.load(wsic_weights, 3).quality == DEFAULT_QUALITY == 4


@pytest.mark.parametrize(("asked", "found"), [(0, 0.0), (7, 7.0), (4.03, 4.0), (4.04, 4.0625), (6.99, 7.0), (3.5, 3.5)])
def test_qualities_are_whole_sixteenths(wsic_weights: Path, asked: float, found: float) -> None:
    assert TileCodec.load(wsic_weights, 3, quality=asked).quality == found


def test_depths_of_either_model(wsic_weights: Path) -> None:
    assert codec_depths(load_model(wsic_weights)) == (3, 4)
    assert codec_depths(load_model("perticarari2023")) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("depth", "options", "error", "words"),
    [
        (3, {"quality": -1}, ConfigError, "quality -1 is unknown; this model has qualities 0 to 7"),
        (3, {"quality": 8}, ConfigError, "quality 8 is unknown"),
        (2, {}, ConfigError, "depth 2 is unknown; this model has depths 3, 4"),
        (3, {"latent_dtype": "int8"}, ConfigError, "int16; int8"),
        (3, {"latent_dtype": "float32"}, ConfigError, "float32"),
        (3, {"quality": 7.001}, ConfigError, "quality 7.001 is unknown"),
        (3, {"quality": float("nan")}, ConfigError, "quality nan is unknown"),
    ],
)
def test_settings_that_it_does_not_have(
    wsic_weights: Path, depth: int, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        TileCodec.load(wsic_weights, depth, **options)
    assert "\n" not in str(caught.value)
    assert TileCodec.load(wsic_weights, 3, latent_dtype="int16").latent_dtype == "int16"


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_decoded_latents_of_wsic_are_those_that_training_saw(wsic_weights: Path, depth: int) -> None:
    model = load_model(wsic_weights)
    network, codec = cast(Wsic, model.module), TileCodec(model, depth)
    quality = np.array([0, 3.5, 7], np.float32)
    tiles = np.random.default_rng(depth).integers(0, 256, (3, 64, 64, 3), np.uint8)
    x = torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        y = network.analyse(x, depth, torch.from_numpy(quality))
        residuals, expected = network.quantise(y, depth, torch.from_numpy(quality))
        symbols = residuals.round().to(torch.int16).numpy()
        found = codec.latents(symbols, quality=quality)
    assert found.shape == (3, codec.channels, 64 >> depth, 64 >> depth)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-4)
    assert np.abs(found - symbols).max() > 0.01, "the predicted means are in it"


@pytest.mark.parametrize("latent_dtype", ["int8", "float16", "float32"])
def test_the_decoded_latents_of_the_studys_codec_are_what_it_dequantises(latent_dtype: str) -> None:
    model = load_model("perticarari2023")
    network, codec = cast(StudyAutoencoder, model.module), TileCodec(model, 2, latent_dtype=latent_dtype)
    symbols = codec.encode(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8))
    found = codec.latents(symbols)
    assert found.shape == (3, 12, 8, 8)
    assert found.dtype == np.float32
    scale, offset = (t[:, None, None].numpy() for t in network.latent_range(2))
    np.testing.assert_array_equal(found, symbols * scale + offset if latent_dtype == "int8" else symbols)
    with pytest.raises(ModelError, match="not of depth 2"):
        codec.latents(symbols[:, :3])


def test_the_studys_model_has_no_quality() -> None:
    with pytest.raises(ConfigError, match="perticarari2023: has no qualities"):
        TileCodec.load("perticarari2023", 3, quality=4)


def rewritten(source: Path, path: Path, change: Callable[[dict[str, NDArray[Any]]], None]) -> Path:
    """Weights with other arrays."""
    model = load_model(source)
    change(model.arrays)
    save_model(path, model.module, key=WSIC, settings={"depths": list(DEPTHS)}, notes={}, arrays=model.arrays)
    return path


@pytest.mark.parametrize("name", ["inner", "frequencies", "slices"])
def test_a_damaged_entropy_model_is_refused(wsic_weights: Path, tmp_path: Path, name: str) -> None:
    path = rewritten(wsic_weights, tmp_path / "damaged.safetensors", lambda arrays: arrays.__delitem__(f"3/{name}"))
    with pytest.raises(ModelError, match="damaged: its entropy model for depth 3 is damaged"):
        TileCodec.load(path, 3)
    assert TileCodec.load(path, 4).depth == 4


def test_weights_without_an_entropy_model_are_refused(wsic_weights: Path, tmp_path: Path) -> None:
    def drop(arrays: dict[str, NDArray[Any]]) -> None:
        for name in [name for name in arrays if name.startswith("4/")]:
            del arrays[name]

    path = rewritten(wsic_weights, tmp_path / "less.safetensors", drop)
    with pytest.raises(ModelError, match="less: has no entropy model for depth 4; choose another"):
        TileCodec.load(path, 4)


def test_tables_of_another_depth_are_refused(wsic_weights: Path, tmp_path: Path) -> None:
    def swap(arrays: dict[str, NDArray[Any]]) -> None:
        arrays |= {f"3/{name[2:]}": array.copy() for name, array in arrays.items() if name.startswith("4/")}

    path = rewritten(wsic_weights, tmp_path / "swapped.safetensors", swap)
    with pytest.raises(ModelError, match="depth 3 is of another size"):
        TileCodec.load(path, 3)
