"""The promise of a floor: no tile of a store is below it, whatever the picture shows, as a reader decodes it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import zarr
from numpy.typing import NDArray

from tests.pipeline.sources import GLASS_RGB, PictureSource, files_of, picture
from tests.pipeline.step_codec import StepCodec, step_codec
from wsicomp.errors import ConfigError, ModelError, SlideError, StoreCorrupt
from wsicomp.metrics.classification import predict
from wsicomp.metrics.distortion import psnr_db
from wsicomp.metrics.similarity import ms_ssim
from wsicomp.pipeline.encode import encode_source
from wsicomp.pipeline.encoded import Encoded
from wsicomp.pipeline.floor import Floor, FloorCoder, Guard
from wsicomp.pipeline.resources import Resources
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.view import LatentSlide
from wsicomp.store import jpegxl
from wsicomp.store.manifest import MANIFEST, Manifest
from wsicomp.store.reader import StoreReader
from wsicomp.store.tiles import IS_PICTURE
from wsicomp.store.verify import verify

CodecAt = Callable[[int], TileCodec]
TILE = 32
WIDTH, HEIGHT = 150, 75
"""Two tiles of the last column and row stick out; the coarse level is one tile, smaller than a tile."""


def noise(width_px: int, height_px: int) -> NDArray[np.uint8]:
    grain: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3), np.uint8)
    return grain


def gradient(width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Smooth light, as of a photograph of the sky."""
    y, x = np.mgrid[:height_px, :width_px]
    planes = (60 + 150 * x / width_px, 200 - 120 * y / height_px, 90 + 60 * (x + y) / (width_px + height_px))
    light: NDArray[np.uint8] = np.rint(np.stack(planes, -1)).astype(np.uint8)
    return light


def fluorescence(width_px: int, height_px: int) -> NDArray[np.uint8]:
    """A few bright blue nuclei on black."""
    y, x = np.mgrid[:height_px, :width_px]
    image = np.zeros((height_px, width_px, 3), np.uint8)
    for cy, cx in [(12, 20), (40, 70), (60, 130)]:
        image[..., 2] = np.maximum(image[..., 2], 255 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 40))
    return image


PICTURES = {"tissue": picture, "noise": noise, "gradient": gradient, "fluorescence": fluorescence}

FLOORS = {
    "30 dB": Floor(min_psnr_db=30),
    "42 dB": Floor(min_psnr_db=42),
    "MS-SSIM": Floor(min_ms_ssim=0.99),
    "both": Floor(min_psnr_db=36, min_ms_ssim=0.98),
    "lossless": Floor(min_psnr_db=200),
}


@pytest.fixture(params=["step", "study", "wsic"])
def codec(request: pytest.FixtureRequest, codec_at: CodecAt, monkeypatch: pytest.MonkeyPatch) -> TileCodec:
    """A codec, and readers that find it."""
    if request.param == "step":
        found = step_codec()
    elif request.param == "study":
        found = codec_at(4)
    else:
        found = TileCodec.load(request.getfixturevalue("wsic_weights"), 4, quality=4)
    monkeypatch.setattr(TileCodec, "for_store", lambda *_, **__: found)
    return found


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> StepCodec:
    found = StepCodec()
    monkeypatch.setattr(TileCodec, "for_store", lambda *_, **__: found)
    return found


def check_promise(store: Path, source: PictureSource, floor: Floor) -> None:
    """Fail unless each tile, as a reader decodes it, is above the floor, and as near as the store says."""
    assert verify(store) == []
    with LatentSlide(store) as slide:
        assert slide.header.floor == floor.record
        for level in source.levels:
            image = source.level_image(level.index)
            fidelity = slide.reader.fidelity(level.index)
            assert fidelity is not None
            decoded = {tile: pixels.copy() for tile, pixels in slide.decode_tiles(level.index, level.grid(TILE))}
            for tile in level.grid(TILE):
                y, x = slice(tile.y_px, tile.y_px + tile.height_px), slice(tile.x_px, tile.x_px + tile.width_px)
                x_hat = slide.read_rgb(level.index, tile.x_px, tile.y_px, tile.width_px, tile.height_px)
                np.testing.assert_array_equal(x_hat, decoded[tile][: tile.height_px, : tile.width_px])
                squares = np.square(image[y, x].astype(float) - x_hat).mean()
                psnr = 10 * math.log10(255**2 / squares) if squares else math.inf
                similarity = ms_ssim(image[y, x], x_hat)
                assert psnr >= (floor.min_psnr_db or 0) or math.isinf(psnr)
                assert similarity >= (floor.min_ms_ssim or 0)
                np.testing.assert_allclose(fidelity[tile.row, tile.col], (psnr, similarity), rtol=1e-6)


@pytest.mark.parametrize("floor", FLOORS.values(), ids=FLOORS.keys())
@pytest.mark.parametrize("name", PICTURES)
def test_no_tile_is_below_the_floor(tmp_path: Path, codec: TileCodec, name: str, floor: Floor) -> None:
    source = PictureSource(PICTURES[name](WIDTH, HEIGHT), TILE)
    encoded = encode_source(source, tmp_path / "a.zarr", codec, EncodeSettings(floor=floor))
    check_promise(tmp_path / "a.zarr", source, floor)
    if floor.min_psnr_db == 200:
        with LatentSlide(tmp_path / "a.zarr") as slide:
            np.testing.assert_array_equal(slide.read_rgb(0, 0, 0, WIDTH, HEIGHT), source.level_image(0))
    assert encoded.store_bytes == sum(map(len, files_of(tmp_path / "a.zarr").values()))


def test_the_promise_is_not_kept_by_chance(codec: TileCodec) -> None:
    tiles = np.stack([PictureSource(picture(WIDTH, HEIGHT), TILE).read_tile(0, 0, col) for col in range(4)])
    decoded = codec.decode(codec.encode(tiles))
    assert all(psnr_db(x, x_hat) < 30 for x, x_hat in zip(tiles, decoded, strict=True))


def qualities(store: Path, level: int = 0) -> NDArray[np.uint8]:
    with StoreReader(store) as reader:
        found = reader.quality(level)
    assert found is not None
    return found


def encode_gradient(path: Path, codec: StepCodec, floor: Floor) -> Encoded:
    source = PictureSource(gradient(256, 128), 64, max_levels=1)
    return encode_source(source, path / "a.zarr", cast(TileCodec, codec), EncodeSettings(floor=floor))


@pytest.mark.parametrize(
    ("asked", "min_psnr_db", "kept"),
    [(4, 30, 4), (4.5, 30, 4.5), (4, 42, 5), (4.5, 44, 5), (4.5, 46, 6), (5, 46, 6), (0, 42, 5)],
)
def test_a_tile_takes_the_first_quality_that_reaches_the_floor(
    tmp_path: Path, asked: float, min_psnr_db: float, kept: float
) -> None:
    encoded = encode_gradient(tmp_path, StepCodec(asked), Floor(min_psnr_db=min_psnr_db))
    found = qualities(tmp_path / "a.zarr")
    assert (np.median(found), found.max()) == (16 * kept, 16 * kept)
    assert encoded.jpegxl_tiles == 0
    assert encoded.raised_tiles == (found > 16 * asked).sum()


def test_only_tiles_that_failed_are_coded_again(tmp_path: Path, codec_at: CodecAt) -> None:
    codec = StepCodec()
    image = gradient(256, 64)
    image[:, 128:] = picture(128, 64)
    source = PictureSource(image, 64, max_levels=1)
    encoded = encode_source(
        source, tmp_path / "a.zarr", cast(TileCodec, codec), EncodeSettings(floor=Floor(min_psnr_db=36))
    )
    assert codec.encoded == [[4] * 4, [5] * 2, [6] * 2, [7] * 2]
    assert (encoded.raised_tiles, encoded.jpegxl_tiles) == (0, 2)
    np.testing.assert_array_equal(qualities(tmp_path / "a.zarr"), [[64, 64, IS_PICTURE, IS_PICTURE]])


def test_a_low_floor_changes_no_latent_of_a_small_tile(tmp_path: Path, steps: StepCodec) -> None:
    source = PictureSource(gradient(200, 90), TILE)
    codec = cast(TileCodec, steps)
    encode_source(source, tmp_path / "plain.zarr", codec)
    encoded = encode_source(source, tmp_path / "floored.zarr", codec, EncodeSettings(floor=Floor(min_psnr_db=5)))
    assert (encoded.raised_tiles, encoded.jpegxl_tiles) == (0, 0)
    plain, floored = files_of(tmp_path / "plain.zarr"), files_of(tmp_path / "floored.zarr")
    latents = [name for name in plain if name.startswith("latents/")]
    assert len(latents) > 3
    assert all(floored[name] == plain[name] for name in latents)


def test_a_quality_that_the_codec_does_not_have_is_an_error_that_names_the_tile(
    tmp_path: Path, steps: StepCodec
) -> None:
    encode_gradient(tmp_path, steps, Floor(min_psnr_db=5))
    store = tmp_path / "a.zarr"
    array = zarr.open_group(store, mode="r+")["quality/0"]
    assert isinstance(array, zarr.Array)
    array[1, 2] = 113
    (store / MANIFEST).write_bytes(Manifest.of_folder(store).to_bytes())
    with LatentSlide(store) as slide:
        slide.read_rgb(0, 0, 0, 256, 64)
        with pytest.raises(StoreCorrupt, match=r"a\.zarr: level 0, tile row 1, col 2: quality 7\.0625 is unknown"):
            slide.read_rgb(0, 0, 64, 256, 64)


@pytest.mark.parametrize("quality", [4, 7])
def test_above_a_bit_per_pixel_the_smaller_is_kept_and_no_tile_gets_worse(quality: int) -> None:
    codec = StepCodec(quality)
    tiles = np.stack([picture(256, 64)[:, x : x + 64] for x in (0, 64, 128, 192)])
    coder = FloorCoder(cast(TileCodec, codec), Floor(min_psnr_db=5))
    coded = coder.code(tiles, np.full((4, 2), 64))
    assert [tile.quality for tile in coded] == [IS_PICTURE] * 4
    for x, x_hat, tile in zip(tiles, codec.decode(codec.encode(tiles)), coded, strict=True):
        assert tile.stream is not None
        assert tile.psnr_db >= psnr_db(x, x_hat)
        assert tile.psnr_db == psnr_db(x, jpegxl.decode(tile.stream, 64))
        assert len(tile.stream) < 64 * 64 * 3


def test_jpeg_xl_takes_the_largest_distance_that_will_do() -> None:
    tiles = picture(64, 64)[None]
    sizes = []
    for min_psnr_db in (30, 35, 40, 45):
        (tile,) = FloorCoder(step_codec(), Floor(min_psnr_db=min_psnr_db)).code(tiles, np.full((1, 2), 64))
        assert tile.stream is not None
        assert min_psnr_db <= tile.psnr_db < min_psnr_db + 3
        sizes.append(len(tile.stream))
    assert sizes == sorted(set(sizes))


def test_the_same_bytes_every_time_and_for_any_number_of_threads(tmp_path: Path, codec: TileCodec) -> None:
    stores: list[dict[str, bytes]] = []
    for threads in (1, 1, 3):
        torch.set_num_threads(threads)
        store = tmp_path / f"{len(stores)}.zarr"
        floor = Floor(min_psnr_db=36, min_ms_ssim=0.98)
        encode_source(
            PictureSource(picture(WIDTH, HEIGHT), TILE),
            store,
            codec,
            EncodeSettings(floor=floor, resources=Resources(threads)),
        )
        stores.append(files_of(store))
    torch.set_num_threads(1)
    assert stores[0] == stores[1] == stores[2]


GLASS = frozenset({(0, 0, 0), (0, 2, 4)})


def with_glass(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Paint the glass tiles of level 0 almost in the glass colour."""
    image = image.copy()
    for _, row, col in GLASS:
        tile = image[row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE]
        tile[...] = GLASS_RGB
        tile[::2] += 1
    return image


@pytest.mark.parametrize(("min_psnr_db", "glass"), [(30, GLASS), (50, GLASS), (55, frozenset())])
def test_glass_below_the_floor_is_coded_like_tissue(
    tmp_path: Path, codec: TileCodec, min_psnr_db: float, glass: frozenset[tuple[int, int, int]]
) -> None:
    hidden = frozenset({*GLASS, (0, 1, 1), (1, 0, 0)})
    source = PictureSource(with_glass(picture(WIDTH, HEIGHT)), TILE, glass=hidden)
    floor = Floor(min_psnr_db=min_psnr_db)
    encode_source(source, tmp_path / "a.zarr", codec, EncodeSettings(floor=floor))
    with LatentSlide(tmp_path / "a.zarr") as slide:
        for level in source.levels:
            tissue, image = slide.reader.tissue(level.index), source.level_image(level.index)
            expected = {(row, col) for index, row, col in glass if index == level.index}
            assert {(int(row), int(col)) for row, col in np.argwhere(~tissue)} == expected
            for tile, pixels in slide.decode_tiles(level.index, level.grid(TILE)):
                x = image[tile.y_px : tile.y_px + tile.height_px, tile.x_px : tile.x_px + tile.width_px]
                assert psnr_db(x, pixels[: tile.height_px, : tile.width_px]) >= min_psnr_db


def test_a_classifier_keeps_its_prediction_of_glass_too(tmp_path: Path) -> None:
    source = PictureSource(with_glass(picture(WIDTH, HEIGHT)), TILE, glass=frozenset({*GLASS, (0, 1, 1)}))
    encode_source(source, tmp_path / "a.zarr", step_codec(), EncodeSettings(floor=Floor(guard=guard())))
    with StoreReader(tmp_path / "a.zarr") as reader:
        assert {(int(row), int(col)) for row, col in np.argwhere(~reader.tissue(0))} == {(0, 0), (2, 4)}


def test_glass_has_no_fidelity_and_a_packed_store_is_the_same(tmp_path: Path, codec: TileCodec) -> None:
    source = PictureSource(with_glass(picture(WIDTH, HEIGHT)), TILE, glass=GLASS, max_levels=1)
    encode_source(source, tmp_path / "a.zarr.zip", codec, EncodeSettings(floor=Floor(min_psnr_db=30), zipped=True))
    with StoreReader(tmp_path / "a.zarr.zip") as reader:
        fidelity, quality = reader.fidelity(0), reader.quality(0)
        assert fidelity is not None
        assert quality is not None
        for row, col in np.ndindex(quality.shape):
            is_glass = (0, row, col) in GLASS
            assert np.isnan(fidelity[row, col]).all() == is_glass
            assert quality[row, col] == 0 or not is_glass
    assert verify(tmp_path / "a.zarr.zip") == []


@pytest.mark.parametrize("tile", [(0, 0, 0), (0, 2, 4), (1, 0, 1)])
def test_a_tile_that_cannot_be_read_leaves_nothing(tmp_path: Path, tile: tuple[int, int, int]) -> None:
    source = PictureSource(picture(WIDTH, HEIGHT), TILE, fails_at=tile)
    with pytest.raises(SlideError):
        encode_source(source, tmp_path / "a.zarr", step_codec(), EncodeSettings(floor=Floor(min_psnr_db=30)))
    assert list(tmp_path.iterdir()) == []


def texture(tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
    """A classifier that smoothing deceives, and noise: it asks for the usual contrast between neighbouring pixels."""
    contrast = np.abs(np.diff(tiles.astype(float), axis=2)).mean((1, 2, 3))
    found: NDArray[np.float64] = 3 - np.abs(contrast - 11)
    return found


def guard(max_shift: float | None = None, logits: Callable[[Any], Any] = texture) -> Guard:
    return Guard("ef" * 32, 0.5, logits, lambda values: predict(values, 0.5), max_shift)


def logits_of(store: Path, source: PictureSource) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits of whole tiles of level 0, the originals and what a reader gets."""
    with LatentSlide(store) as slide:
        whole = [tile for tile in source.levels[0].grid(TILE) if tile.width_px == tile.height_px == TILE]
        decoded = [pixels for _, pixels in slide.decode_tiles(0, whole)]
    return texture(np.stack([source.read_tile(0, tile.row, tile.col) for tile in whole])), texture(np.stack(decoded))


@pytest.mark.parametrize("max_shift", [None, 0.25])
def test_no_prediction_changes(tmp_path: Path, codec: TileCodec, max_shift: float | None) -> None:
    source = PictureSource(picture(WIDTH, HEIGHT), TILE)
    encode_source(source, tmp_path / "plain.zarr", codec)
    before, after = logits_of(tmp_path / "plain.zarr", source)
    assert ((before >= 0) != (after >= 0)).sum() > 2
    encode_source(source, tmp_path / "kept.zarr", codec, EncodeSettings(floor=Floor(guard=guard(max_shift))))
    before, after = logits_of(tmp_path / "kept.zarr", source)
    np.testing.assert_array_equal(before >= 0, after >= 0)
    if max_shift is not None:
        assert np.abs(before - after).max() <= max_shift
    else:
        assert np.abs(before - after).max() > 0.25
    with StoreReader(tmp_path / "kept.zarr") as reader:
        floor = reader.header.floor
    shift = {} if max_shift is None else {"max_logit_shift": max_shift}
    assert floor == {"classifier": "ef" * 32, "threshold": 0.5} | shift


def test_a_classifier_sees_the_part_inside_alone() -> None:
    seen: list[NDArray[np.uint8]] = []

    def look(tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
        seen.append(tiles)
        return np.zeros(len(tiles))

    tile = picture(64, 64).copy()
    FloorCoder(step_codec(), Floor(guard=guard(logits=look))).code(tile[None], np.array([(40, 20)]))
    for tiles in seen:
        np.testing.assert_array_equal(tiles[0, :, 20:40], tiles[0, :, 19::-1])
        np.testing.assert_array_equal(tiles[0, 40:], tiles[0, 39:15:-1])
    np.testing.assert_array_equal(seen[0][0, :40, :20], tile[:40, :20])


def test_a_classifier_that_fails_ends_it(tmp_path: Path) -> None:
    def refuse(_: object) -> NDArray[np.float64]:
        raise ModelError("classifier takes tiles of 224 x 224 px")

    source = PictureSource(picture(WIDTH, HEIGHT), TILE)
    with pytest.raises(ModelError, match="224"):
        encode_source(
            source, tmp_path / "a.zarr", step_codec(), EncodeSettings(floor=Floor(guard=guard(logits=refuse)))
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Floor(), "needs a PSNR"),
        (lambda: Floor(min_psnr_db=0), "PSNR"),
        (lambda: Floor(min_psnr_db=math.nan), "PSNR"),
        (lambda: Floor(min_psnr_db=math.inf), "PSNR"),
        (lambda: Floor(min_ms_ssim=1.5), "MS-SSIM"),
        (lambda: Floor(min_ms_ssim=0), "MS-SSIM"),
        (lambda: Floor(min_ms_ssim=math.nan), "MS-SSIM"),
        (lambda: guard(0), "shift"),
        (lambda: guard(-1), "shift"),
        (lambda: guard(math.nan), "shift"),
    ],
)
def test_floors_that_cannot_be_are_refused(make: Callable[[], object], word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        make()
    assert "\n" not in str(caught.value)
