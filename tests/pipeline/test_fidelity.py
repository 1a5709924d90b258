"""The sample of tiles at every encoding: which tiles, what they say, and when a user is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.rd.references import CODECS, RESULTS, lowest_psnr
from tests.pipeline.sources import PictureSource, picture
from wsicomp.errors import SlideError
from wsicomp.metrics.distortion import mean_psnr_db, psnr_db, ycbcr_squared_error
from wsicomp.metrics.similarity import ms_ssim
from wsicomp.models.shipped import shipped_path
from wsicomp.pipeline.batch import encode_within
from wsicomp.pipeline.encode import encode_source
from wsicomp.pipeline.fidelity import (
    LEAST_TILES,
    MOST_TILES,
    Fidelity,
    SampledSource,
    drift,
    measured,
    sample_places,
    sample_size,
)
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.target import FixedCodec
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.view import LatentSlide

CodecAt = Callable[[int], TileCodec]
GLASS = frozenset((0, row, col) for row in range(3) for col in range(10))


@pytest.mark.parametrize(("tissue", "size"), [(0, 4), (1, 4), (130, 4), (640, 20), (10**6, MOST_TILES - LEAST_TILES)])
def test_a_sample_is_a_share_within_bounds(tissue: int, size: int) -> None:
    assert sample_size(tissue) == size


def test_places_are_of_every_level_spread_and_of_the_mask() -> None:
    masks = [np.ones((40, 50), np.bool_), np.ones((10, 13), np.bool_), np.ones((3, 4), np.bool_)]
    masks[0][:20] = False
    places = sample_places(masks, 56)
    assert len(places) == len(set(places)) <= MOST_TILES
    assert {level for level, _, _ in places} == {0, 1, 2}
    assert all(masks[level][row, col] for level, row, col in places)
    rows = sorted(row for level, row, _ in places if level == 0)
    assert rows[0] <= 21
    assert rows[-1] >= 38
    assert sample_places([np.zeros((4, 4), np.bool_)], 8) == []


def test_what_is_measured_is_what_a_reader_gets(codec_at: CodecAt, tmp_path: Path) -> None:
    source = PictureSource(picture(300, 200), 32, glass=GLASS)
    encoded = encode_within(source, tmp_path / "a.zarr", EncodeSettings(), FixedCodec(codec_at(3)))
    sampled = SampledSource(source, source.tissue())
    found = encoded.fidelity
    assert found is not None
    assert (found.tiles, found.glass_tiles) == (len(sampled.tissue_places), len(sampled.glass_places))
    pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []
    glass: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []
    with LatentSlide(tmp_path / "a.zarr") as slide:
        for level, row, col in sampled.tissue_places + sampled.glass_places:
            tile = source.levels[level].grid(32).tile(row, col)
            box = tile.x_px, tile.y_px, tile.width_px, tile.height_px
            x = source.read_tile(level, row, col)[: tile.height_px, : tile.width_px]
            (glass if (level, row, col) in GLASS else pairs).append((x, slide.read_rgb(level, *box)))
    assert found.psnr_db == pytest.approx(mean_psnr_db([psnr_db(*pair) for pair in pairs]))
    assert found.ms_ssim == pytest.approx(np.mean([ms_ssim(*pair) for pair in pairs]), abs=1e-6)
    errors = np.mean([ycbcr_squared_error(*pair) for pair in pairs], axis=0)
    assert (found.y_error, found.cb_error, found.cr_error) == pytest.approx(tuple(errors))
    assert found.glass_psnr_db == pytest.approx(mean_psnr_db([psnr_db(*pair) for pair in glass]))
    json.dumps(found.record, allow_nan=False)


def test_tiles_that_the_encoder_read_are_not_read_again(codec_at: CodecAt, tmp_path: Path) -> None:
    source = PictureSource(picture(300, 200), 32, glass=GLASS)
    encode_within(source, tmp_path / "a.zarr", EncodeSettings(), FixedCodec(codec_at(3)))
    tissue = [place for place in source.read if place not in GLASS]
    assert len(tissue) == len(set(tissue))
    assert len(source.read) - len(tissue) == LEAST_TILES


def test_a_sample_changes_no_byte(codec_at: CodecAt, tmp_path: Path) -> None:
    source = PictureSource(picture(300, 200), 32)
    one = encode_source(source, tmp_path / "a.zarr", codec_at(3))
    other = encode_within(source, tmp_path / "b.zarr", EncodeSettings(), FixedCodec(codec_at(3)))
    assert one.store_bytes == other.store_bytes


def test_a_damaged_glass_tile_does_not_fail_the_encoding(codec_at: CodecAt, tmp_path: Path) -> None:
    places = SampledSource(plain := PictureSource(picture(300, 200), 32, glass=GLASS), plain.tissue()).glass_places
    source = PictureSource(picture(300, 200), 32, glass=GLASS, fails_at=places[3])
    with pytest.raises(SlideError):
        source.read_tile(*places[3])
    encoded = encode_within(source, tmp_path / "a.zarr", EncodeSettings(), FixedCodec(codec_at(3)))
    assert encoded.fidelity is not None
    assert encoded.fidelity.glass_tiles == len(places) - 1


def test_a_slide_of_glass_has_no_tissue_to_measure(codec_at: CodecAt, tmp_path: Path) -> None:
    everywhere = frozenset((0, row, col) for row in range(7) for col in range(10))
    source = PictureSource(picture(300, 200), 32, glass=everywhere, max_levels=1)
    sampled = SampledSource(source, source.tissue())
    encode_source(sampled, tmp_path / "a.zarr", codec_at(3))
    found = measured(sampled, tmp_path / "a.zarr", codec_at(3))
    assert found is None


GOOD = Fidelity(16, 30.0, 0.97, 20.0, 25.0, 30.0, 0.3, 4, 45.0)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (GOOD, []),
        (replace(GOOD, psnr_db=17.0), ["17.0 dB"]),
        (replace(GOOD, y_error=0.0, cb_error=0.5, cr_error=0.5), []),
        (replace(GOOD, cb_error=200.0), ["colours"]),
        (replace(GOOD, psnr_db=12.0, cr_error=900.0), ["12.0 dB", "colours"]),
        (replace(GOOD, y_error=0.0, cb_error=200.0), ["colours"]),
        (replace(GOOD, psnr_db=36.0, drift=60.0), ["colours"]),
    ],
)
def test_a_user_is_told_in_a_line_each(codec_at: CodecAt, found: Fidelity, words: list[str]) -> None:
    doubts = list(found.doubts(codec_at(3)))
    assert len(doubts) == len(words)
    for doubt, word in zip(doubts, words, strict=True):
        assert word in doubt
        assert "\n" not in doubt


def test_detail_that_is_lost_is_no_drift_and_a_wrong_colour_is() -> None:
    x = np.full((40, 37, 3), 100, np.uint8)
    x_hat = x.copy()
    x_hat[::2] += 6
    x_hat[1::2] -= 6
    assert drift(x, x_hat) == 0
    assert drift(x, x + 3) == pytest.approx(9)
    assert drift(x[:5, :3], x[:5, :3] + 3) == pytest.approx(9)
    x_hat = x.copy()
    x_hat[..., 2] += 3
    assert drift(x, x_hat) == pytest.approx(3)


def test_what_is_expected_is_what_the_results_say() -> None:
    for name, (results, codec) in CODECS.items():
        document = json.loads((RESULTS / results).read_bytes())
        content = json.loads(shipped_path(name).with_suffix(".json").read_bytes())
        assert document["command"] in content["commands"]
        found = {(row["depth"], row["quality"]): row["psnr_db"] for row in content["settings"]}
        assert found == lowest_psnr(document, codec)
        assert all(row["drift"] > 0 for row in content["settings"])
