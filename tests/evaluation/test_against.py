"""A store held against its slide: every tile is looked at, glass too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.factories import tissue_slide
from tests.pipeline.sources import GLASS_RGB, PictureSource, picture
from wsicomp.errors import ConfigError
from wsicomp.evaluation.against import GLASS_LIMIT, LevelFidelity, block_departure, compare, open_original
from wsicomp.metrics.distortion import psnr_db
from wsicomp.pipeline.encode import encode_source
from wsicomp.pipeline.floor import Floor
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.view import LatentSlide

TILE = 32
GLASS = frozenset({(0, 0, 0), (0, 0, 1), (0, 1, 2)})


def half_glass(seed: int = 0) -> NDArray[np.uint8]:
    """Tissue of 100 x 70 px with a noisy glass colour where GLASS is."""
    image = picture(100, 70)
    noise = np.random.default_rng(seed).normal(0, 3, image.shape)
    for _, row, col in GLASS:
        place = slice(row * TILE, (row + 1) * TILE), slice(col * TILE, (col + 1) * TILE)
        image[place] = np.clip(np.array(GLASS_RGB) + noise[place], 0, 255)
    return image


def found(
    folder: Path, image: NDArray[np.uint8], other: NDArray[np.uint8] | None = None, floor: Floor | None = None
) -> LevelFidelity:
    """Encode a picture and hold its store against it, or against another one of its size."""
    source = PictureSource(image, TILE, glass=GLASS, max_levels=1)
    codec = TileCodec.load("perticarari2023", 4)
    folder.mkdir(exist_ok=True)
    encode_source(source, folder / "a.zarr", codec, EncodeSettings(floor=floor))
    against = source if other is None else PictureSource(other, TILE, glass=GLASS, max_levels=1)
    with LatentSlide(folder / "a.zarr") as slide:
        (level,) = compare(slide, against)
    return level


def test_tissue_and_glass_are_told_apart_and_all_counted(tmp_path: Path) -> None:
    image = half_glass()
    level = found(tmp_path, image)
    assert (level.level, level.tiles, level.glass_tiles) == (0, 9, 3)
    assert level.psnr_db is not None
    assert 10 < level.psnr_db < 60
    tiles = [image[row * 32 : row * 32 + 32, col * 32 : col * 32 + 32] for _, row, col in GLASS]
    expected = [psnr_db(tile, np.broadcast_to(np.array(GLASS_RGB, np.uint8), tile.shape)) for tile in tiles]
    assert level.glass_psnr_db == pytest.approx(np.mean(expected))
    assert level.glass_departure is not None
    assert level.glass_departure < 3  # noise averages out
    assert level.glass_differs == level.below_floor == []


def test_what_glass_hides_is_found_and_named(tmp_path: Path) -> None:
    image = half_glass()
    image[40:56, 70:90] = (200, 120, 160)  # in tile (1, 2), the whole of one block
    level = found(tmp_path, image)
    (differs,) = level.glass_differs
    assert (differs["row"], differs["col"]) == (1, 2)
    assert differs["grey_levels"] == level.glass_departure
    assert GLASS_LIMIT < differs["grey_levels"] <= 243


def test_a_level_without_tissue_has_figures_of_its_glass(tmp_path: Path) -> None:
    image = picture(64, 32)
    source = PictureSource(image, TILE, glass=frozenset({(0, 0, 0), (0, 0, 1)}), max_levels=1)
    encode_source(source, tmp_path / "a.zarr", TileCodec.load("perticarari2023", 4))
    with LatentSlide(tmp_path / "a.zarr") as slide:
        (level,) = compare(slide, source)
    assert (level.tiles, level.psnr_db, level.ssim, level.ms_ssim) == (0, None, None, None)
    assert level.glass_tiles == len(level.glass_differs) == 2


def test_a_kept_floor_is_kept_and_a_changed_slide_is_below_it(tmp_path: Path) -> None:
    image = half_glass()
    assert found(tmp_path / "kept", image, floor=Floor(min_psnr_db=34)).below_floor == []
    other = image.copy()
    other[:8, 96:] ^= 255  # in tissue tile (0, 3), which is 4 px wide
    other[0, 0] = 142  # one pixel of glass tile (0, 0), which then has 36 dB
    other[:4, 32:64] = 0  # an eighth of glass tile (0, 1)
    below = found(tmp_path / "changed", image, other, Floor(min_psnr_db=34)).below_floor
    assert [(tile["row"], tile["col"]) for tile in below] == [(0, 1), (0, 3)]
    assert max(tile["psnr_db"] for tile in below) < 34
    assert [tile["ms_ssim"] is None for tile in below] == [True, False]


def test_a_floor_of_ms_ssim_is_held_against_tissue(tmp_path: Path) -> None:
    image = half_glass()
    other = image.copy()
    other[32:64, 32:64] = 128
    below = found(tmp_path, image, other, Floor(min_ms_ssim=0.9)).below_floor
    assert [(tile["row"], tile["col"]) for tile in below] == [(1, 1)]


def test_blocks_at_the_edge_weigh_their_own_pixels() -> None:
    x = np.full((20, 37, 3), 100, np.uint8)
    assert block_departure(x, x) == 0
    x_hat = x.copy()
    x_hat[16:, 32:, 2] = 130  # the block of 4 x 5 px in the corner, whole
    assert block_departure(x, x_hat) == 30
    x_hat[:] = x
    x_hat[0, 0, 0] = 100 + 128  # one of 256 pixels
    assert block_departure(x, x_hat) == 0.5


def test_another_size_is_another_slide(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="80 x 70 pixels and the store 100 x 70") as caught:
        found(tmp_path, half_glass(), picture(80, 70))
    assert "not the slide of this store" in str(caught.value)


def test_without_a_fingerprint_the_resolution_tells_slides_apart(encoded_once: Path, tmp_path: Path) -> None:
    coarse = tissue_slide(tmp_path / "coarse.svs", mpp=1.0)
    with LatentSlide(encoded_once) as slide:
        header = replace(slide.header, source_fingerprint=None)
    with pytest.raises(ConfigError, match=r"not the slide of this store, whose 0\.5 um per pixel"):
        open_original(header, coarse)
