"""Encoding a source: the same bytes every time, all or nothing, in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.pipeline.sources import GLASS_RGB, PictureSource, files_of, picture
from tests.store.stores import latents_of
from wsicomp.errors import ConfigError, SlideError, StoreError
from wsicomp.pipeline.encode import encode_source
from wsicomp.pipeline.resources import Resources
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.view import LatentSlide
from wsicomp.store.reader import StoreReader
from wsicomp.store.verify import verify

CodecAt = Callable[[int], TileCodec]
GLASS = frozenset({(0, 0, 0), (0, 3, 4)})


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (255, 257), (300, 100), (16, 400)])
def test_sizes_come_back(tmp_path: Path, codec_at: CodecAt, size: tuple[int, int], depth: int) -> None:
    source = PictureSource(picture(*size), 256)
    encoded = encode_source(source, tmp_path / "a.zarr", codec_at(depth))
    assert (encoded.pixels, encoded.depth) == (size[0] * size[1], depth)
    assert encoded.tiles == encoded.tissue_tiles == len(source.read)
    assert encoded.store_bytes == sum(map(len, files_of(tmp_path / "a.zarr").values()))
    assert encoded.bits_per_pixel == 8 * encoded.store_bytes / encoded.pixels
    assert encoded.ratio_to_source == encoded.store_bytes / (3 * encoded.pixels)
    assert verify(tmp_path / "a.zarr") == []
    with LatentSlide(tmp_path / "a.zarr") as slide:
        assert slide.dimensions == size
        for level, geometry in enumerate(source.levels):
            assert slide.level_dimensions[level] == (geometry.width_px, geometry.height_px)
            x_hat = slide.read_rgb(level, 0, 0, *slide.level_dimensions[level])
            assert x_hat.shape == source.level_image(level).shape


@pytest.mark.parametrize("depth", [1, 4])
def test_each_tile_is_put_where_it_belongs(tmp_path: Path, codec_at: CodecAt, depth: int) -> None:
    # more than one shard in both directions
    source = PictureSource(picture(18 * 16 + 5, 17 * 16), 16, glass=GLASS)
    codec = codec_at(depth)
    encode_source(source, tmp_path / "a.zarr", codec)
    with StoreReader(tmp_path / "a.zarr") as reader:
        for level, tiles in zip(source.levels, source.tissue().tiles, strict=True):
            np.testing.assert_array_equal(reader.tissue(level.index), tiles)
            whole = [tile for tile in level.grid(16) if tile.width_px == tile.height_px == 16]
            for tile in whole:
                found = latents_of(reader, level.index, tile.row, tile.col)
                if not tiles[tile.row, tile.col]:
                    assert found is None
                    continue
                expected = codec.encode(source.read_tile(level.index, tile.row, tile.col)[None])
                np.testing.assert_array_equal(found, expected[0])


def test_symbols_at_the_edge_are_read_as_the_encoder_took_them(tmp_path: Path, wsic_weights: Path) -> None:
    codec = TileCodec.load(wsic_weights, 3)
    source = PictureSource(picture(100, 50), 64, max_levels=1)
    encode_source(source, tmp_path / "a.zarr", codec)
    with StoreReader(tmp_path / "a.zarr") as reader:
        for tile in source.levels[0].grid(64):
            sizes = np.array([[tile.height_px, tile.width_px]])
            expected = codec.encode(source.read_tile(0, tile.row, tile.col)[None], sizes=sizes)[0]
            np.testing.assert_array_equal(latents_of(reader, 0, tile.row, tile.col), expected)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_float_latents_are_kept_as_they_are(tmp_path: Path, dtype: str) -> None:
    codec = TileCodec.load("perticarari2023", 2, latent_dtype=dtype)
    source = PictureSource(picture(128, 64), 64, max_levels=1)
    encode_source(source, tmp_path / "a.zarr", codec)
    tiles = np.stack([source.read_tile(0, 0, col) for col in range(2)])
    latents = codec.encode(tiles)
    with LatentSlide(tmp_path / "a.zarr") as slide:
        assert slide.header.latent_dtype == dtype
        for col in range(2):
            found = latents_of(slide.reader, 0, 0, col)
            assert found is not None
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, latents[col])
            np.testing.assert_array_equal(slide.read_rgb(0, 64 * col, 0, 64, 64), codec.decode(latents)[col])


def test_the_same_bytes_every_time_and_for_any_number_of_readers(tmp_path: Path, codec_at: CodecAt) -> None:
    stores = []
    for index, readers in enumerate([1, 1, 4]):
        store = tmp_path / f"{index}.zarr"
        encode_source(
            PictureSource(picture(650, 500), glass=GLASS),
            store,
            codec_at(3),
            EncodeSettings(resources=Resources(readers)),
        )
        stores.append(files_of(store))
    assert len(stores[0]) > 10
    assert stores[0] == stores[1] == stores[2]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_packed_store_holds_the_same_pixels(tmp_path: Path, codec_at: CodecAt, overwrite: bool) -> None:
    source = PictureSource(picture(200, 150), glass=GLASS)
    encode_source(source, tmp_path / "a.zarr", codec_at(2))
    for _ in range(1 + overwrite):
        encoded = encode_source(
            source, tmp_path / "a.zarr.zip", codec_at(2), EncodeSettings(zipped=True, existing="replace")
        )
    assert encoded.store_bytes == (tmp_path / "a.zarr.zip").stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "a.zarr.zip"]
    with LatentSlide(tmp_path / "a.zarr") as folder, LatentSlide(tmp_path / "a.zarr.zip") as packed:
        assert folder.header == packed.header
        for level, size in enumerate(folder.level_dimensions):
            np.testing.assert_array_equal(folder.read_rgb(level, 0, 0, *size), packed.read_rgb(level, 0, 0, *size))


@pytest.mark.parametrize("zipped", [False, True])
def test_an_existing_store_stays_unless_it_may_be_replaced(
    tmp_path: Path, codec_at: CodecAt, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    store = tmp_path / ("a.zarr.zip" if zipped else "a.zarr")
    encode_source(PictureSource(picture(40, 40)), store, codec_at(1), EncodeSettings(zipped=zipped))
    before = files_of(tmp_path)
    source = PictureSource(picture(40, 40))
    with pytest.raises(ConfigError, match="exists"):
        encode_source(source, store, codec_at(2), EncodeSettings(zipped=zipped))
    assert source.read == []
    assert files_of(tmp_path) == before
    encode_source(source, store, codec_at(2), EncodeSettings(zipped=zipped, existing="replace"))
    with StoreReader(store) as reader:
        assert reader.header.depth == 2


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("tile", [(0, 0, 0), (0, 10, 12), (1, 2, 2)])
def test_a_tile_that_cannot_be_read_ends_it_and_leaves_nothing(
    tmp_path: Path, codec_at: CodecAt, tile: tuple[int, int, int], zipped: bool
) -> None:
    source = PictureSource(picture(650, 500), fails_at=tile)
    threads = threading.active_count()
    with pytest.raises(SlideError, match=rf"level {tile[0]} tile \({tile[1]}, {tile[2]}\)"):
        encode_source(source, tmp_path / "a.zarr", codec_at(3), EncodeSettings(zipped=zipped))
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads


@pytest.mark.parametrize("old", [False, True])
def test_a_disk_that_fails_in_the_writing_thread_ends_it(
    tmp_path: Path, codec_at: CodecAt, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    store = tmp_path / "a.zarr"
    if old:
        encode_source(PictureSource(picture(40, 40)), store, codec_at(1))
    before = files_of(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zarr.storage.LocalStore.set", full)
    with pytest.raises(StoreError, match="disk is full"):
        encode_source(PictureSource(picture(650, 500)), store, codec_at(3), EncodeSettings(existing="replace"))
    assert files_of(tmp_path) == before


def test_tiles_that_do_not_fit_the_depth_are_refused_first(tmp_path: Path, codec_at: CodecAt) -> None:
    source = PictureSource(picture(64, 64), 24)
    with pytest.raises(ConfigError, match="multiple of 16"):
        encode_source(source, tmp_path / "a.zarr", codec_at(4))
    assert source.read == []
    assert list(tmp_path.iterdir()) == []


def test_a_slide_of_glass_alone(tmp_path: Path, codec_at: CodecAt) -> None:
    source = PictureSource(picture(60, 30), glass=frozenset({(0, 0, 0), (0, 0, 1), (1, 0, 0)}))
    encoded = encode_source(source, tmp_path / "a.zarr", codec_at(4))
    assert (encoded.tissue_tiles, encoded.tiles, source.read) == (0, 3, [])
    with LatentSlide(tmp_path / "a.zarr") as slide:
        assert (slide.read_rgb(0, 0, 0, 60, 30) == GLASS_RGB).all()


def test_progress_counts_every_tissue_tile(tmp_path: Path, codec_at: CodecAt) -> None:
    calls: list[tuple[int, int]] = []
    source = PictureSource(picture(330, 200), glass=GLASS)
    encoded = encode_source(
        source, tmp_path / "a.zarr", codec_at(3), progress=lambda done, total, note="": calls.append((done, total))
    )
    assert calls[-1] == (encoded.tissue_tiles, encoded.tissue_tiles)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert {total for _, total in calls} == {encoded.tissue_tiles}


@pytest.mark.parametrize("readers", [1, 4])
def test_tiles_are_read_ahead_but_not_far(
    tmp_path: Path, codec_at: CodecAt, monkeypatch: pytest.MonkeyPatch, readers: int
) -> None:
    codec = TileCodec.load("perticarari2023", 3)
    monkeypatch.setattr(codec, "batch_size", 4)
    source = PictureSource(picture(40 * 16, 20 * 16), 16)
    encode, encoded, ahead = codec.encode, 0, []

    def slow_encode(tiles: NDArray[np.uint8], **options: Any) -> NDArray[Any]:
        nonlocal encoded
        # the consumer stands still until the readers have run as far ahead as they may
        for _ in range(200):
            before = len(source.read)
            threading.Event().wait(0.0005)
            if len(source.read) == before:
                break
        ahead.append(len(source.read) - encoded)
        encoded += len(tiles)
        return encode(tiles, **options)

    monkeypatch.setattr(codec, "encode", slow_encode)
    encode_source(source, tmp_path / "a.zarr", codec, EncodeSettings(resources=Resources(readers)))
    assert encoded == len(source.read) > 800
    assert 4 < max(ahead) <= 4 + 2 * 4 + readers


def test_batches_are_filled_across_shards_and_change_no_byte(
    tmp_path: Path, codec_at: CodecAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three shards in a row of one level, with 3, 5 and 2 tissue tiles.
    tissue = {(0, 0, col) for col in (0, 7, 15, 16, 18, 20, 22, 31, 32, 35)}
    glass = frozenset((0, 0, col) for col in range(40)) - tissue
    codec = codec_at(3)
    given: list[int] = []
    honest = TileCodec.encode

    def count(self: TileCodec, tiles: Any, **options: Any) -> Any:
        given.append(len(tiles))
        return honest(self, tiles, **options)

    monkeypatch.setattr(TileCodec, "encode", count)
    stores = []
    for size in (4, 1, 16):
        monkeypatch.setattr(codec, "batch_size", size)
        source = PictureSource(picture(40 * 32, 32), glass=glass, max_levels=1)
        encode_source(source, tmp_path / f"{size}.zarr", codec)
        stores.append(files_of(tmp_path / f"{size}.zarr"))
    assert given == [4, 4, 2] + [1] * 10 + [10]
    assert len([name for name in stores[0] if "/c/" in name and name.startswith("latents")]) == 3
    assert stores[0] == stores[1] == stores[2]
