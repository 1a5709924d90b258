"""`wsic` through the pipeline: whole symbols, exact stores, and nothing decoded with what it was not encoded with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.pipeline.sources import PictureSource, files_of, picture
from tests.store.stores import latents_of
from tests.wsic_weights import DEPTHS, write_wsic
from wsicomp.codec import rans, zarr_rans
from wsicomp.errors import ConfigError, StoreCorrupt, StoreError, WeightsMismatch
from wsicomp.models.context import SLICES, ContextModel
from wsicomp.models.registry import WSIC, load_model
from wsicomp.models.wsic import LATENT_CHANNELS, Wsic
from wsicomp.pipeline import transforms
from wsicomp.pipeline.encode import encode_source
from wsicomp.pipeline.resources import Resources
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.view import LatentSlide
from wsicomp.store.reader import StoreReader
from wsicomp.store.verify import verify

WsicAt = Callable[[int, float], TileCodec]
Stores = dict[tuple[int, float], Path]
QUALITIES = (4.0, 6.5)
WIDTH, HEIGHT, TILE = 331, 233, 32
SETTINGS = [(depth, quality) for depth in DEPTHS for quality in QUALITIES]


@pytest.fixture(scope="session")
def wsic_at(wsic_weights: Path) -> WsicAt:
    return cache(lambda depth, quality: TileCodec.load(wsic_weights, depth, quality=quality))


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory, wsic_at: WsicAt) -> Stores:
    folder = tmp_path_factory.mktemp("wsic")
    found = {}
    for depth, quality in SETTINGS:
        found[depth, quality] = folder / f"{depth}-{quality}.zarr"
        encode_source(PictureSource(picture(WIDTH, HEIGHT), TILE), found[depth, quality], wsic_at(depth, quality))
    return found


def tiles_of(size: int = 64, count: int = 19) -> NDArray[np.uint8]:
    image = picture(512, 512)
    return np.stack(
        [image[y : y + size, x : x + size] for y, x in np.random.default_rng(5).integers(0, 512 - size, (count, 2))]
    )


def module_of(codec_weights: Path) -> Wsic:
    return cast(Wsic, load_model(codec_weights).module)


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bfloat16, whatever the processor has."""
    monkeypatch.setattr(transforms, "has_bfloat16", lambda _: False)


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize(("depth", "quality"), SETTINGS)
def test_symbols_are_the_networks(wsic_weights: Path, depth: int, quality: float) -> None:
    codec, tiles = TileCodec.load(wsic_weights, depth, quality=quality), tiles_of(count=4)
    latents = codec.encode(tiles)
    assert latents.dtype == np.int16 == np.dtype(codec.latent_dtype)
    assert latents.shape == (4, LATENT_CHANNELS[depth - 1], 64 >> depth, 64 >> depth)
    assert latents[0].size == codec.latent_elements(64)
    assert len(np.unique(latents)) > 5, "a latent of nothing tests nothing"
    with torch.inference_mode():
        x = torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255
        symbols = module_of(wsic_weights).encode(x, depth, torch.full((4,), quality))
    # In another memory layout the last bits of a sum differ, and so may what lies halfway between two symbols.
    different = latents != symbols.numpy()
    assert different.mean() < 1e-2
    assert np.abs(latents - symbols.numpy()).max() <= 1


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize(("depth", "quality"), SETTINGS)
def test_pixels_are_those_of_the_network(wsic_weights: Path, depth: int, quality: float) -> None:
    codec = TileCodec.load(wsic_weights, depth, quality=quality)
    latents = codec.encode(tiles_of(count=3))
    with torch.inference_mode():
        x_hat = module_of(wsic_weights).decode(torch.from_numpy(latents).float(), depth, torch.full((3,), quality))
    expected = x_hat.clamp(0, 1).mul(255).permute(0, 2, 3, 1).numpy()
    decoded = codec.decode(latents)
    assert decoded.shape == (3, 64, 64, 3)
    assert np.ptp(decoded) > 10
    assert np.abs(decoded - expected).max() <= 0.5 + 1e-2


@pytest.mark.parametrize("depth", DEPTHS)
def test_half_precision_costs_next_to_nothing(
    monkeypatch: pytest.MonkeyPatch, wsic_at: WsicAt, wsic_weights: Path, depth: int
) -> None:
    if not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("this CPU has no bfloat16")
    half = wsic_at(depth, 6)
    latents = half.encode(tiles_of(128, 4))
    monkeypatch.setattr(transforms, "has_bfloat16", lambda _: False)
    full = TileCodec.load(wsic_weights, depth, quality=6)
    difference = half.decode(latents).astype(float) - full.decode(latents)
    assert difference.any(), "bfloat16 was not used"
    # An untrained network has no signal to stand out from; the grey levels that it wanders by are few all the same.
    assert np.abs(difference).max() <= 3
    assert np.square(difference).mean() < 0.5


@pytest.mark.parametrize(("depth", "quality"), SETTINGS)
@pytest.mark.parametrize("size", [16, 64])
def test_neither_the_batch_nor_the_threads_matter(wsic_at: WsicAt, depth: int, quality: float, size: int) -> None:
    codec, tiles, results = wsic_at(depth, quality), tiles_of(size), []
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


def test_a_higher_quality_is_finer(wsic_at: WsicAt) -> None:
    tiles = tiles_of(count=4)
    sizes = [np.abs(wsic_at(3, quality).encode(tiles).astype(int)).mean() for quality in (0, 4, 4.5, 5, 7)]
    assert all(high > 1.1 * low for low, high in pairwise(sizes))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiles_with_qualities_of_their_own_are_those_of_codecs_of_one(
    wsic_at: WsicAt, depth: int, dtype: type[np.floating[Any]]
) -> None:
    qualities = np.array([4, 0, 6.5, 7, 4.0625], dtype)
    codec, tiles = wsic_at(depth, 2.0), tiles_of(count=5)
    latents = codec.encode(tiles, quality=qualities)
    decoded = codec.decode(latents, quality=qualities)
    assert latents.dtype == np.int16
    for k, quality in enumerate(qualities):
        one = wsic_at(depth, float(quality))
        np.testing.assert_array_equal(latents[k], one.encode(tiles[k : k + 1])[0])
        np.testing.assert_array_equal(decoded[k], one.decode(latents[k : k + 1])[0])
    assert (codec.encode(tiles) != latents).any(axis=(1, 2, 3)).all()
    assert (codec.decode(latents) != decoded).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("quality", [-0.1, 7.1, 8, np.nan, np.inf])
def test_qualities_that_there_are_not_are_refused(wsic_at: WsicAt, quality: float) -> None:
    codec, tiles = wsic_at(3, 4.0), tiles_of(count=3)
    latents, asked = codec.encode(tiles), np.array([4, 4, quality], np.float32)
    with pytest.raises(ConfigError, match="is unknown; this model has qualities 0 to 7"):
        codec.encode(tiles, quality=asked)
    with pytest.raises(ConfigError, match="is unknown; this model has qualities 0 to 7"):
        codec.decode(latents, quality=asked)
    with pytest.raises(ValueError, match=r"qualities \(2,\) for 3 tiles"):
        codec.decode(latents, quality=asked[:2])


@pytest.mark.parametrize("value", [1e6, -1e6])
def test_symbols_that_int16_cannot_hold_are_clamped(wsic_weights: Path, value: float) -> None:
    model = load_model(wsic_weights)
    with torch.no_grad():
        model.module.heads["3"].bias.fill_(value)  # type: ignore[union-attr,index]
    latents = TileCodec(model, 3).encode(tiles_of(count=1))
    first = latents[0, : SLICES[3][0], ::2, ::2]  # symbols that are not predicted
    assert (first == (32767 if value > 0 else -32767)).all()
    assert latents.min() >= -32767
    assert TileCodec(model, 3).decode(latents).dtype == np.uint8


@pytest.mark.parametrize(("depth", "quality"), SETTINGS)
def test_a_store_decodes_to_what_its_tiles_do(
    stores: Stores,
    wsic_at: WsicAt,
    wsic_weights: Path,
    depth: int,
    quality: float,
) -> None:
    codec, source, store = wsic_at(depth, quality), PictureSource(picture(WIDTH, HEIGHT), TILE), stores[depth, quality]
    assert verify(store) == []
    edges = 0
    with LatentSlide(store, weights=wsic_weights) as slide:
        header = slide.header
        assert (header.model, header.depth, header.quality, header.latent_dtype) == (WSIC, depth, quality, "int16")
        assert codec.entropy is not None
        assert header.entropy == codec.entropy.digest == codec.entropy_digest
        assert slide.properties["wsicomp.quality"] == str(quality)
        for level in source.levels:
            tiles = list(level.grid(TILE))
            pixels = np.stack([source.read_tile(level.index, tile.row, tile.col) for tile in tiles])
            sizes = np.array([(tile.height_px, tile.width_px) for tile in tiles])
            latents = codec.encode(pixels, sizes=sizes)
            decoded = codec.decode(latents)
            for tile, latent, expected in zip(tiles, latents, decoded, strict=True):
                height, width = tile.height_px, tile.width_px
                np.testing.assert_array_equal(latents_of(slide.reader, level.index, tile.row, tile.col), latent)
                found = slide.read_rgb(level.index, tile.x_px, tile.y_px, width, height)
                np.testing.assert_array_equal(found, expected[:height, :width])
                edges += min(height, width) < TILE
    assert edges > 15


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("depth", DEPTHS)
def test_the_slides_edge_is_coded_no_worse_than_its_middle(tmp_path: Path, wsic_weights: Path, depth: int) -> None:
    source, quality = PictureSource(picture(WIDTH, HEIGHT), TILE, max_levels=1), torch.tensor([5.0])
    codec, module = TileCodec.load(wsic_weights, depth, quality=5), module_of(wsic_weights)
    encode_source(source, tmp_path / "a.zarr", codec)
    gain, means = module.gain(depth, quality), cast(ContextModel, module.means[str(depth)])
    worst: dict[bool, float] = {True: 0, False: 0}
    naive = 0.0
    with StoreReader(tmp_path / "a.zarr") as reader, torch.inference_mode():
        for tile in source.levels[0].grid(TILE):
            x = torch.from_numpy(source.read_tile(0, tile.row, tile.col)).permute(2, 0, 1)[None].float() / 255
            rows, cols = (-(-side >> depth) for side in (tile.height_px, tile.width_px))
            y = module.analyse(x, depth, quality)

            def error(symbols: torch.Tensor, y: torch.Tensor = y, rows: int = rows, cols: int = cols) -> float:
                y_hat = means.restore(symbols, gain)
                return float((y_hat - y)[:, :, :rows, :cols].abs().max())

            stored = torch.from_numpy(latents_of(reader, 0, tile.row, tile.col))[None].float()
            edge = (rows, cols) != tuple(stored.shape[2:])
            worst[edge] = max(worst[edge], error(stored))
            cut = module.encode(x, depth, quality)
            cut[:, :, rows:], cut[..., cols:] = 0, 0
            naive = max(naive, error(cut))
    # Half a step, and a little for sums of another order. Had the encoder not known of the edge, it would be more.
    assert 0.45 < worst[False] <= 0.51
    assert worst[True] <= 0.51
    assert naive > 0.6


@pytest.fixture(scope="module")
def whole(stores: Stores, wsic_weights: Path) -> tuple[LatentSlide, list[NDArray[np.uint8]]]:
    with LatentSlide(stores[4, 4.0], weights=wsic_weights) as slide:
        levels = [slide.read_rgb(k, 0, 0, *size) for k, size in enumerate(slide.level_dimensions)]
    return LatentSlide(stores[4, 4.0], weights=wsic_weights, cache_bytes=0), levels


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_region_decoded_alone_is_the_crop_of_the_whole(
    whole: tuple[LatentSlide, list[NDArray[np.uint8]]], data: st.DataObject
) -> None:
    slide, levels = whole
    level = data.draw(st.integers(0, len(levels) - 1))
    height, width = levels[level].shape[:2]
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    w, h = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
    np.testing.assert_array_equal(slide.read_rgb(level, x, y, w, h), levels[level][y : y + h, x : x + w])


@pytest.mark.parametrize("zipped", [False, True])
def test_the_same_bytes_every_time(tmp_path: Path, wsic_weights: Path, wsic_at: WsicAt, zipped: bool) -> None:
    found = []
    for index, (codec, readers) in enumerate([(wsic_at(3, 4), 1), (TileCodec.load(wsic_weights, 3), 4)]):
        store = tmp_path / str(index) / ("a.zarr.zip" if zipped else "a.zarr")
        store.parent.mkdir()
        encode_source(
            PictureSource(picture(200, 150), TILE),
            store,
            codec,
            EncodeSettings(resources=Resources(readers), zipped=zipped),
        )
        found.append(files_of(store.parent))
    assert found[0] == found[1]


def test_the_chunks_of_a_store_are_streams_of_its_entropy_model(stores: Stores, wsic_at: WsicAt) -> None:
    codec, source = wsic_at(3, 4), PictureSource(picture(WIDTH, HEIGHT), TILE)
    assert codec.entropy is not None
    latents = codec.encode(np.stack([source.read_tile(0, 0, col) for col in range(8)]))
    streams = [rans.encode(latent, codec.entropy) for latent in latents]
    shard = (stores[3, 4.0] / "latents/0/c/0/0/0").read_bytes()
    assert all(stream in shard for stream in streams)


def test_damage_is_an_error_that_names_the_tile(tmp_path: Path, wsic_at: WsicAt, wsic_weights: Path) -> None:
    store = tmp_path / "a.zarr"
    encode_source(PictureSource(picture(64, 64), TILE), store, wsic_at(3, 4))
    shard = store / "latents/0/c/0/0/0"
    content = bytearray(shard.read_bytes())
    content[10] ^= 1
    shard.write_bytes(content)
    (damage,) = verify(store)
    assert (damage.level, damage.row, damage.col) == (0, 0, 0)
    with (
        LatentSlide(store, weights=wsic_weights) as slide,
        pytest.raises(StoreCorrupt, match="level 0, tile row 0, col 0 is damaged"),
    ):
        slide.read_region((0, 0), 0, (64, 64))


def test_without_its_weights_a_store_is_neither_opened_nor_misread(
    stores: Stores, tmp_path: Path, wsic_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_wsic(tmp_path / "other.safetensors", seed=1)
    assert other.read_bytes() != wsic_weights.read_bytes()
    monkeypatch.setattr(zarr_rans, "_models", {})
    for weights in (None, other):
        with pytest.raises(WeightsMismatch, match="--model"):
            LatentSlide(stores[3, 4.0], weights=weights)
    with StoreReader(stores[3, 4.0]) as reader, pytest.raises(StoreError, match="--model"):
        latents_of(reader, 0, 0, 0)
    with LatentSlide(stores[3, 4.0], weights=wsic_weights) as slide:
        assert slide.read_rgb(0, 0, 0, 40, 40).any()


def test_weights_registered_later_open_what_was_written_by_another_process(
    stores: Stores, wsic_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zarr_rans, "_models", {})
    codec = TileCodec.load(wsic_weights, 4, quality=6.5)
    assert codec.entropy is not None
    assert zarr_rans.registered_model(codec.entropy.digest) is codec.entropy
    assert verify(stores[4, 6.5]) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"quality": None}, "quality"),
        ({"quality": 7.0625}, "quality 7.0625"),
        ({"depth": 2}, "depth 2"),
        ({"depth": 4}, "channels"),
        ({"channels": 65}, "channels"),
        ({"entropy": "0" * 64}, "entropy"),
        ({"entropy": None}, "entropy"),
        ({"latent_dtype": "int8"}, "int8"),
        ({"model": "perticarari2023"}, "model"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_header_that_does_not_fit_the_weights_is_refused(
    stores: Stores, wsic_weights: Path, changes: dict[str, Any], word: str
) -> None:
    with StoreReader(stores[3, 4.0]) as reader:
        header = reader.header
    assert TileCodec.for_store(header, weights=wsic_weights).quality == 4
    with pytest.raises(StoreError, match=f"does not fit its weights: .*{word}"):
        TileCodec.for_store(replace(header, **changes), weights=wsic_weights)


def test_one_entropy_model_serves_every_quality(stores: Stores, wsic_weights: Path) -> None:
    with StoreReader(stores[3, 4.0]) as low, StoreReader(stores[3, 6.5]) as high, StoreReader(stores[4, 4.0]) as deep:
        assert low.header.entropy == high.header.entropy != deep.header.entropy
        header = replace(low.header, quality=6.5)
    assert TileCodec.for_store(header, weights=wsic_weights).quality == 6.5
