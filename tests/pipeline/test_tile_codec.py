"""A tile is coded alone: neither its batch, nor threads, nor half precision where the CPU has it, change what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.pipeline.sources import PictureSource, picture
from wsicomp.errors import ConfigError, ModelError, WeightsMismatch
from wsicomp.models.autoencoder import StudyAutoencoder
from wsicomp.models.classifier import StudyClassifier
from wsicomp.models.registry import CLASSIFIER, STUDY_CODEC, load_model, save_model
from wsicomp.pipeline import tile_codec, transforms
from wsicomp.pipeline.encode import encode_source
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.store.reader import StoreReader
from wsicomp.store.schema import StoreHeader

CodecAt = Callable[[int], TileCodec]
DEPTHS = (1, 2, 3, 4)


def tiles_of(size: int = 64, count: int = 20) -> NDArray[np.uint8]:
    image = picture(512, 512)
    return np.stack(
        [image[y : y + size, x : x + size] for y, x in np.random.default_rng(5).integers(0, 448, (count, 2))]
    )


def psnr_db(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> float:
    return float(-10 * np.log10(np.square((x.astype(float) - x_hat) / 255).mean()))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("size", [16, 64, 256])
def test_shapes_and_types(codec_at: CodecAt, depth: int, size: int) -> None:
    codec = codec_at(depth)
    tiles = tiles_of(size, 3) if size < 256 else picture(256, 256)[None]
    latents = codec.encode(tiles)
    side = size >> depth
    assert latents.shape == (len(tiles), 3 << depth, side, side)
    assert latents.dtype == np.int8
    assert latents[0].size == codec.latent_elements(size)
    assert np.abs(latents.astype(int)).max() <= 127
    decoded = codec.decode(latents)
    assert decoded.shape == tiles.shape
    assert decoded.dtype == np.uint8


@pytest.mark.parametrize("depth", DEPTHS)
def test_neither_the_batch_nor_the_threads_matter(codec_at: CodecAt, depth: int) -> None:
    codec = codec_at(depth)
    tiles = tiles_of()
    results = []
    before = torch.get_num_threads()
    try:
        for threads, batch in ((1, 19), (1, 1), (1, 3), (2, 16), (4, 5)):
            torch.set_num_threads(threads)
            batches = [tiles[start : start + batch] for start in range(0, len(tiles), batch)]
            coded = [codec.encode(part) for part in batches]
            results.append((np.concatenate(coded), np.concatenate([codec.decode(part) for part in coded])))
        assert torch.get_num_threads() == 4, "the caller's setting is left as it was"
    finally:
        torch.set_num_threads(before)
    for latents, decoded in results[1:]:
        np.testing.assert_array_equal(latents, results[0][0])
        np.testing.assert_array_equal(decoded, results[0][1])


def test_batches_that_are_filled_up_as_on_cuda_change_nothing(
    codec_at: CodecAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, tiles = codec_at(3), tiles_of()
    monkeypatch.setattr(tile_codec, "CPU_NETWORK_BATCH", tile_codec.CUDA_NETWORK_BATCH)
    latents = codec.encode(tiles)
    decoded = codec.decode(latents)
    for some in ([0], [3, 1], list(range(17)), list(range(len(tiles)))):
        np.testing.assert_array_equal(codec.encode(tiles[some]), latents[some])
        np.testing.assert_array_equal(codec.decode(latents[some]), decoded[some])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), depth=st.sampled_from(DEPTHS))
def test_a_tile_does_not_depend_on_its_neighbours_in_the_batch(
    codec_at: CodecAt, data: st.DataObject, depth: int
) -> None:
    codec = codec_at(depth)
    shape = (codec.channels, 32 >> depth, 32 >> depth)
    seed = data.draw(st.integers(0, 2**32 - 1))
    latents = np.random.default_rng(seed).integers(-127, 128, (9, *shape)).astype(np.int8)
    chosen = data.draw(st.lists(st.integers(0, 8), min_size=1, max_size=6))
    np.testing.assert_array_equal(codec.decode(latents[chosen]), codec.decode(latents)[chosen])


@pytest.mark.parametrize("depth", DEPTHS)
def test_float32_latents_decode_to_what_the_network_itself_gives(monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    monkeypatch.setattr(transforms, "has_bfloat16", lambda _: False)
    codec = TileCodec.load(STUDY_CODEC, depth, latent_dtype="float32")
    network = load_model(STUDY_CODEC).module
    assert isinstance(network, StudyAutoencoder)
    tiles = tiles_of(count=3)
    with torch.inference_mode():
        x = torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255
        x_hat = network.decode(network.encode(x, depth), depth)
    expected = (x_hat * 255).permute(0, 2, 3, 1).numpy()
    latents = codec.encode(tiles)
    assert latents.dtype == np.float32
    # half a grey level is the rounding; the surplus is that of another memory layout
    assert np.abs(codec.decode(latents) - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("depth", DEPTHS)
def test_half_precision_costs_less_than_a_hundredth_of_a_decibel(monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    if not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("this CPU has no bfloat16")
    image = picture(512, 512)
    tiles = np.stack([image[y : y + 256, x : x + 256] for y in (0, 256) for x in (0, 256)])

    def quality() -> float:
        codec = TileCodec.load(STUDY_CODEC, depth)
        return psnr_db(tiles, codec.decode(codec.encode(tiles)))

    as_it_runs = quality()
    monkeypatch.setattr(transforms, "has_bfloat16", lambda _: False)
    assert abs(as_it_runs - quality()) < 0.01


@pytest.mark.parametrize("depth", [0, 5, -1])
def test_an_unknown_depth_is_refused(depth: int) -> None:
    with pytest.raises(ConfigError, match=f"depth {depth} is unknown"):
        TileCodec.load(STUDY_CODEC, depth)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ConfigError, match="int4"):
        TileCodec.load(STUDY_CODEC, 1, latent_dtype="int4")


@pytest.mark.parametrize(("size", "fits"), [(16, True), (24, False), (256, True), (8, False), (0, False), (240, True)])
def test_tiles_that_cannot_be_halved_are_refused(codec_at: CodecAt, size: int, fits: bool) -> None:
    codec = codec_at(4)
    if fits:
        codec.check_tile_size(size)
    else:
        with pytest.raises(ConfigError, match="multiple of 16"):
            codec.check_tile_size(size)


def test_latents_of_another_depth_are_refused(codec_at: CodecAt) -> None:
    with pytest.raises(ModelError, match="depth 2"):
        codec_at(2).decode(np.zeros((1, 24, 8, 8), np.int8))


def test_a_store_is_decoded_by_its_own_weights_or_not_at_all(tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    save_model(own, StudyAutoencoder(2), key=STUDY_CODEC, settings={"depths": 2}, notes={})
    headers: dict[str, StoreHeader] = {}
    for source in (str(own), STUDY_CODEC):
        store = tmp_path / f"{len(headers)}.zarr"
        encode_source(PictureSource(picture(32, 32)), store, TileCodec.load(source, 2))
        with StoreReader(store) as reader:
            headers[source] = reader.header
    mine, theirs = headers[str(own)], headers[STUDY_CODEC]

    assert TileCodec.for_store(mine, weights=own).weights_sha256 == load_model(own).sha256
    assert TileCodec.for_store(theirs).weights_sha256 == load_model(STUDY_CODEC).sha256
    for header, weights in ((mine, None), (theirs, own)):
        with pytest.raises(WeightsMismatch, match="--model"):
            TileCodec.for_store(header, weights=weights)


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "classifier.safetensors"
    save_model(path, StudyClassifier(0.0625), key=CLASSIFIER, settings={"width": 0.0625}, notes={})
    with pytest.raises(ModelError, match="a classifier, where a codec is needed: perticarari2023 or wsic or wsic-open"):
        TileCodec.load(path, 1)
