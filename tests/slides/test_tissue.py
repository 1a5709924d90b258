"""Glass is only what is surely glass: specks survive, noise does not, and in doubt everything is tissue."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories import GLASS_RGB, glass, huge_slide, tissue_image
from tests.slides.opened import opened
from wsicomp.slides.settings import SourceSettings
from wsicomp.slides.svs import write_svs

SPECK_UM = 16


def test_tissue_tiles_are_kept_and_most_glass_is_found(tissue_svs: Path) -> None:
    with opened(tissue_svs, SourceSettings(tile_size=128)) as slide:
        mask = slide.tissue()
        tissue = mask.tiles[0]
        # The picture lies at x 300..812, y 260..772.
        assert tissue[2:7, 2:7].mean() > 0.9
        assert not tissue[:, 8:].any()
        assert not tissue[7:].any()
        assert np.abs(np.subtract(mask.glass_rgb, GLASS_RGB)).max() <= 2
        assert mask.rule["glass_share"] == pytest.approx(1 - tissue.mean(), abs=1e-4)
        assert mask.rule == {**mask.rule, "threshold": 10, "overview_downsample": 16.0}


def test_each_level_has_a_mask_that_covers_the_finer_one(tissue_svs: Path) -> None:
    with opened(tissue_svs, SourceSettings(tile_size=64)) as slide:
        masks = slide.tissue().tiles
        assert [mask.shape for mask in masks] == [(g.rows, g.cols) for g in (lv.grid(64) for lv in slide.levels)]
        for fine, coarse in pairwise(masks):
            for row, col in np.argwhere(fine):
                if row // 4 < coarse.shape[0] and col // 4 < coarse.shape[1]:
                    assert coarse[row // 4, col // 4]
        assert not masks[1].all()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    x=st.integers(0, 700 - 32),
    y=st.integers(0, 600 - 32),
    natives=st.sampled_from([(), (4,), (4, 16)]),
    colour=st.sampled_from([(205, 170, 200), (150, 90, 140), (225, 215, 226), (30, 30, 30)]),
)
def test_speck_of_16_um_survives_at_any_offset(
    tmp_path: Path, x: int, y: int, natives: tuple[int, ...], colour: tuple[int, int, int]
) -> None:
    image = glass(600, 700)
    side = SPECK_UM * 2
    image[y : y + side, x : x + side] = colour
    path = tmp_path / "speck.svs"
    write_svs(path, image, mpp=0.5, downsamples=natives)
    with opened(path, SourceSettings(tile_size=64)) as slide:
        tissue = slide.tissue().tiles[0]
        assert tissue[y // 64 : (y + side - 1) // 64 + 1, x // 64 : (x + side - 1) // 64 + 1].all()
        assert tissue.sum() <= 16
        assert all(mask.any() for mask in slide.tissue().tiles)


@pytest.mark.parametrize("mpp", [0.25, 1.0, 2.3])
def test_speck_survives_at_other_resolutions(tmp_path: Path, mpp: float) -> None:
    image = glass(600, 700)
    side = int(np.ceil(SPECK_UM / mpp))
    image[301 : 301 + side, 211 : 211 + side] = (200, 160, 190)
    path = tmp_path / "speck.svs"
    write_svs(path, image, mpp=mpp)
    with opened(path, SourceSettings(tile_size=128)) as slide:
        assert slide.tissue().tiles[0][301 // 128, 211 // 128]
    with opened(path, SourceSettings(mpp=mpp * 3.3, tile_size=64)) as slide:
        assert slide.tissue().tiles[0][int(301 / 3.3) // 64, int(211 / 3.3) // 64]


@pytest.mark.parametrize(("quality", "noise"), [(30, 2.0), (85, 3.0), (50, 1.0)])
def test_noise_and_jpeg_leave_glass_glass(tmp_path: Path, quality: int, noise: float) -> None:
    path = tmp_path / "bare.svs"
    write_svs(path, glass(800, 900, noise), mpp=0.5, jpeg_quality=quality)
    with opened(path) as slide:
        assert not slide.tissue().tiles[0].any()
        assert slide.tissue().rule["glass_share"] == 1.0


def test_threshold_decides_what_is_faint(tmp_path: Path) -> None:
    image = glass(512, 512, 0)
    image[:256, :256] -= 20
    path = tmp_path / "faint.svs"
    write_svs(path, image, mpp=0.5)
    shares = []
    for threshold in (0, 10, 40):
        with opened(path, SourceSettings(tile_size=64, tissue_threshold=threshold)) as slide:
            shares.append(float(slide.tissue().tiles[0].mean()))
    assert shares[0] > shares[1] > shares[2] == 0


@pytest.mark.parametrize("kind", ["fluorescence", "filled", "black", "green"])
def test_without_plausible_glass_everything_is_tissue(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(3)
    tissue = skimage.data.immunohistochemistry()  # type: ignore[no-untyped-call]
    image = {
        "fluorescence": (tissue_image(600, 600, 40, 40) // 8).astype(np.uint8),
        "filled": np.clip(tissue * 0.6 + rng.normal(0, 4, tissue.shape), 0, 255).astype(np.uint8),
        "black": np.zeros((512, 512, 3), np.uint8),
        "green": np.full((512, 512, 3), (180, 240, 190), np.uint8),
    }[kind]
    path = tmp_path / "none.svs"
    write_svs(path, image, mpp=0.5)
    with opened(path, SourceSettings(tile_size=64)) as slide:
        mask = slide.tissue()
        assert all(tiles.all() for tiles in mask.tiles)
        assert mask.rule["method"] == "no-plausible-glass"
        assert mask.rule["glass_share"] == 0


def test_all_tiles_reads_nothing(tissue_svs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tissue_svs, SourceSettings(tissue_only=False)) as slide:
        slide.close()
        mask = slide.tissue()
    assert all(tiles.all() for tiles in mask.tiles)
    assert mask.rule == {"method": "all-tiles"}


def test_gigapixel_slide_is_half_glass(tmp_path: Path) -> None:
    path = huge_slide(tmp_path / "huge.svs", 1)
    assert path.stat().st_size < 2_000_000
    with opened(path) as slide:
        assert slide.levels[0].width_px * slide.levels[0].height_px == pytest.approx(1e9, rel=0.1)
        assert slide.tissue().rule["glass_share"] == pytest.approx(0.5, abs=0.02)
        tissue = slide.tissue().tiles[0]
        # The picture has pale spots, and the file's levels repeat it at their own scale.
        assert tissue[:, : tissue.shape[1] // 2].mean() > 0.98
        assert not tissue[:, tissue.shape[1] // 2 + 1 :].any()
        last = slide.levels[0].grid(256)
        assert np.abs(slide.read_tile(0, last.rows - 1, last.cols - 1).astype(int) - GLASS_RGB).max() < 12


@pytest.mark.real_data
def test_real_slides(real_slides: dict[str, Path]) -> None:
    with opened(real_slides["aperio"]) as slide:
        mask = slide.tissue()
        assert 0.25 < float(mask.rule["glass_share"]) < 0.35
        assert np.abs(np.subtract(mask.glass_rgb, 244)).max() <= 2
        for row, col in np.argwhere(~mask.tiles[0]):
            assert np.abs(slide.read_tile(0, row, col).astype(int).mean(axis=(0, 1)) - mask.glass_rgb).max() < 4
    with opened(real_slides["hamamatsu"]) as slide:
        assert all(tiles.all() for tiles in slide.tissue().tiles)
