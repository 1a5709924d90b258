"""A store as a slide: any region decoded alone is the crop of the whole, and OpenSlide's own tools read it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from openslide.deepzoom import DeepZoomGenerator
from PIL import ImageCms

from tests.pipeline.sources import GLASS_RGB, PictureSource, picture
from wsicomp.errors import StoreCorrupt, StoreIncomplete, WeightsMismatch
from wsicomp.models.autoencoder import StudyAutoencoder
from wsicomp.models.registry import STUDY_CODEC, save_model
from wsicomp.pipeline.encode import encode_source
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.view import LatentSlide
from wsicomp.store.tiles import StoredTile

WIDTH, HEIGHT, TILE = 331, 233, 32
GLASS = frozenset({(0, 2, 3), (0, 2, 4), (0, 7, 10), (1, 0, 0)})
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
DEPTHS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Decoded:
    """A store, and each of its levels decoded as a whole."""

    path: Path
    source: PictureSource
    levels: tuple[NDArray[np.uint8], ...]


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory, codec_at: Callable[[int], TileCodec]) -> dict[int, Decoded]:
    found = {}
    for depth in DEPTHS:
        source = PictureSource(picture(WIDTH, HEIGHT), TILE, glass=GLASS, icc_profile=PROFILE)
        path = tmp_path_factory.mktemp("view") / f"{depth}.zarr"
        encode_source(source, path, codec_at(depth))
        with LatentSlide(path) as slide:
            levels = tuple(slide.read_rgb(k, 0, 0, *size) for k, size in enumerate(slide.level_dimensions))
        found[depth] = Decoded(path, source, levels)
    return found


@pytest.fixture(scope="module")
def cold(decoded: dict[int, Decoded]) -> Iterator[dict[int, LatentSlide]]:
    """The same stores with room for one tile in the cache, so that regions are really decoded alone."""
    slides = {depth: LatentSlide(one.path, cache_bytes=0) for depth, one in decoded.items()}
    yield slides
    for slide in slides.values():
        slide.close()


@pytest.fixture
def slide(decoded: dict[int, Decoded]) -> Iterator[LatentSlide]:
    with LatentSlide(decoded[2].path) as slide:
        yield slide


@settings(max_examples=60, deadline=None)
@given(data=st.data(), depth=st.sampled_from(DEPTHS))
def test_any_region_decoded_alone_is_the_crop_of_the_whole(
    decoded: dict[int, Decoded], cold: dict[int, LatentSlide], data: st.DataObject, depth: int
) -> None:
    level = data.draw(st.integers(0, len(decoded[depth].levels) - 1))
    whole = decoded[depth].levels[level]
    height, width = whole.shape[:2]
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    w, h = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
    expected = whole[y : y + h, x : x + w]
    np.testing.assert_array_equal(cold[depth].read_rgb(level, x, y, w, h), expected)

    downsample = cold[depth].header.levels[level].downsample
    region = np.asarray(cold[depth].read_region((x * downsample, y * downsample), level, (w, h)))
    np.testing.assert_array_equal(region[..., :3], expected)
    assert (region[..., 3] == 255).all()


@settings(max_examples=40, deadline=None)
@given(
    x=st.integers(-80, WIDTH + 20),
    y=st.integers(-80, HEIGHT + 20),
    w=st.integers(0, 120),
    h=st.integers(0, 120),
)
def test_outside_is_transparent_and_inside_is_not(
    decoded: dict[int, Decoded], cold: dict[int, LatentSlide], x: int, y: int, w: int, h: int
) -> None:
    region = np.asarray(cold[3].read_region((x, y), 0, (w, h)))
    assert region.shape == (h, w, 4)
    canvas = np.zeros((HEIGHT + 300, WIDTH + 300, 4), np.uint8)
    canvas[80 : 80 + HEIGHT, 80 : 80 + WIDTH, :3] = decoded[3].levels[0]
    canvas[80 : 80 + HEIGHT, 80 : 80 + WIDTH, 3] = 255
    np.testing.assert_array_equal(region, canvas[y + 80 : y + 80 + h, x + 80 : x + 80 + w])


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_cache_changes_nothing(decoded: dict[int, Decoded], depth: int) -> None:
    expected = decoded[depth].levels[0]
    for cache_bytes in (0, 5 * 3 * TILE**2, 2**26):
        with LatentSlide(decoded[depth].path, cache_bytes=cache_bytes) as slide:
            for _ in range(2):
                np.testing.assert_array_equal(slide.read_rgb(0, 0, 0, WIDTH, HEIGHT), expected)


def test_a_cached_tile_is_not_decoded_again(slide: LatentSlide, monkeypatch: pytest.MonkeyPatch) -> None:
    first = slide.read_rgb(0, 0, 0, WIDTH, HEIGHT)

    def refuse(_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(slide.codec, "decode", refuse)
    np.testing.assert_array_equal(slide.read_rgb(0, 0, 0, WIDTH, HEIGHT), first)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_the_batch_changes_nothing(
    decoded: dict[int, Decoded], monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    with LatentSlide(decoded[3].path) as slide:
        monkeypatch.setattr(slide.codec, "batch_size", batch_size)
        for level, expected in enumerate(decoded[3].levels):
            height, width = expected.shape[:2]
            np.testing.assert_array_equal(slide.read_rgb(level, 0, 0, width, height), expected)


def test_a_batch_is_read_while_the_one_before_is_decoded(slide: LatentSlide, monkeypatch: pytest.MonkeyPatch) -> None:
    read, decode = slide.reader.read_tile, slide.codec.decode
    second = threading.Event()

    def watch(level: int, row: int, col: int) -> StoredTile:
        if (row, col) == (0, 1):
            second.set()
        return read(level, row, col)

    def wait(latents: NDArray[Any], **options: Any) -> NDArray[np.uint8]:
        assert second.wait(timeout=20), "nobody reads the second tile"
        return decode(latents, **options)

    monkeypatch.setattr(slide.codec, "batch_size", 1)
    monkeypatch.setattr(slide.reader, "read_tile", watch)
    monkeypatch.setattr(slide.codec, "decode", wait)
    assert len(list(slide.decode_tiles(0, itertools.islice(slide.header.grid(0), 2)))) == 2


def test_tiles_that_nobody_asks_for_any_more_may_be_left(decoded: dict[int, Decoded]) -> None:
    with LatentSlide(decoded[2].path) as slide:
        tiles = slide.decode_tiles(0, iter(slide.header.grid(0)))
        _, first = next(tiles)
        assert [thread for thread in threading.enumerate() if thread.name.startswith("read")]
        tiles.close()  # type: ignore[attr-defined]
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("read")]
    np.testing.assert_array_equal(first, decoded[2].levels[0][:TILE, :TILE])


def test_threads_may_read_at_once(decoded: dict[int, Decoded]) -> None:
    places = [(x, y) for x in range(0, 240, 40) for y in range(0, 160, 40)]
    with LatentSlide(decoded[1].path, cache_bytes=4 * 3 * TILE**2) as slide, ThreadPoolExecutor(4) as pool:
        for (x, y), found in zip(
            places, pool.map(lambda place: slide.read_rgb(0, place[0], place[1], 70, 60), places), strict=True
        ):
            np.testing.assert_array_equal(found, decoded[1].levels[0][y : y + 60, x : x + 70])


@pytest.mark.parametrize("depth", DEPTHS)
def test_glass_comes_back_as_glass(decoded: dict[int, Decoded], depth: int) -> None:
    one = decoded[depth]
    for level, row, col in GLASS:
        tile = one.levels[level][row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE]
        assert tile.size
        assert (tile == GLASS_RGB).all()
    assert not (GLASS & set(one.source.read)), "glass is not even read"


def test_it_is_an_openslide(slide: LatentSlide, decoded: dict[int, Decoded]) -> None:
    assert isinstance(slide, openslide.AbstractSlide)
    assert slide.dimensions == (WIDTH, HEIGHT)
    assert slide.level_count == 3
    assert slide.level_dimensions == ((331, 233), (82, 58), (20, 14))
    assert slide.level_downsamples == (1.0, 4.0, 16.0)
    assert slide.associated_images == {}
    assert slide.properties["openslide.vendor"] == "wsicomp"
    assert (slide.properties["openslide.mpp-x"], slide.properties["openslide.mpp-y"]) == ("0.5", "0.25")
    assert slide.properties["openslide.objective-power"] == "20"
    assert slide.properties["openslide.background-color"] == "F2F1F3"
    assert all(isinstance(value, str) for value in slide.properties.values())
    assert slide.color_profile is not None
    assert slide.read_region((0, 0), 0, (8, 8)).info["icc_profile"] == PROFILE
    assert LatentSlide.detect_format(decoded[2].path) == "wsicomp"
    assert LatentSlide.detect_format(decoded[2].path.parent) is None
    assert str(decoded[2].path) in repr(slide)


@pytest.mark.parametrize(("downsample", "level"), [(0.5, 0), (1, 0), (3.9, 0), (4, 1), (15, 1), (16, 2), (900, 2)])
def test_best_level(slide: LatentSlide, downsample: float, level: int) -> None:
    assert slide.get_best_level_for_downsample(downsample) == level


@pytest.mark.parametrize(("level", "size"), [(-1, (1, 1)), (3, (1, 1)), (0, (-1, 1)), (0, (1, -1))])
def test_impossible_regions_are_refused(slide: LatentSlide, level: int, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no region"):
        slide.read_region((0, 0), level, size)


def test_thumbnail(slide: LatentSlide, decoded: dict[int, Decoded]) -> None:
    thumbnail = slide.get_thumbnail((100, 100))
    assert thumbnail.mode == "RGB"
    assert max(thumbnail.size) == 100
    assert thumbnail.width / thumbnail.height == pytest.approx(WIDTH / HEIGHT, rel=0.02)
    assert np.abs(np.asarray(thumbnail).mean((0, 1)) - decoded[2].levels[0].mean((0, 1))).max() < 12


def test_deep_zoom(slide: LatentSlide, decoded: dict[int, Decoded]) -> None:
    zoom = DeepZoomGenerator(slide, tile_size=64, overlap=0)
    finest = zoom.level_count - 1
    assert zoom.level_dimensions[finest] == (WIDTH, HEIGHT)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    cols, rows = zoom.level_tiles[finest]
    for row in range(rows):
        for col in range(cols):
            tile = np.asarray(zoom.get_tile(finest, (col, row)))
            image[row * 64 : row * 64 + tile.shape[0], col * 64 : col * 64 + tile.shape[1]] = tile
    np.testing.assert_array_equal(image, decoded[2].levels[0])
    for level, (width, height) in enumerate(zoom.level_dimensions):
        found = zoom.get_tile(level, (0, 0)).size
        assert np.abs(np.subtract(found, (min(width, 64), min(height, 64)))).max() <= 1  # its thumbnails round


def test_damage_is_an_error_that_names_the_tile(tmp_path: Path, codec_at: Callable[[int], TileCodec]) -> None:
    path = tmp_path / "a.zarr"
    encode_source(PictureSource(picture(64, 64), TILE), path, codec_at(3))
    shard = path / "latents/0/c/0/0/0"
    content = bytearray(shard.read_bytes())
    content[10] ^= 1
    shard.write_bytes(content)
    with LatentSlide(path) as slide, pytest.raises(StoreCorrupt, match="level 0, tile row 0, col 0 is damaged"):
        slide.read_region((0, 0), 0, (64, 64))


def test_a_store_is_opened_only_with_its_own_weights(tmp_path: Path) -> None:
    own, other = tmp_path / "own.safetensors", tmp_path / "other.safetensors"
    for path in (own, other):
        save_model(path, StudyAutoencoder(1), key=STUDY_CODEC, settings={"depths": 1}, notes={})
    store = tmp_path / "a.zarr"
    encode_source(PictureSource(picture(40, 40), TILE), store, TileCodec.load(own, 1))
    with LatentSlide(store, weights=own) as slide:
        assert slide.read_rgb(0, 0, 0, 40, 40).shape == (40, 40, 3)
    for weights in (None, other):
        with pytest.raises(WeightsMismatch):
            LatentSlide(store, weights=weights)


def test_an_unfinished_store_does_not_open(tmp_path: Path, codec_at: Callable[[int], TileCodec]) -> None:
    store = tmp_path / "a.zarr"
    encode_source(PictureSource(picture(40, 40), TILE), store, codec_at(1))
    (store / "manifest.json").unlink()
    with pytest.raises(StoreIncomplete):
        LatentSlide(store)
