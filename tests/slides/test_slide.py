"""A slide as a pyramid of tiles: the same pixels as OpenSlide, at every level, edge and resolution."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openslide
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import wsicomp.slides.cells as cells_module
from tests.factories import tissue_slide
from tests.slides.opened import opened
from wsicomp.errors import ConfigError
from wsicomp.geometry import pyramid
from wsicomp.slides.cells import read_cells
from wsicomp.slides.local import open_native
from wsicomp.slides.settings import SourceSettings
from wsicomp.slides.source import TileSource
from wsicomp.slides.svs import write_svs


def native_rgb(path: Path, level: int = 0) -> NDArray[np.uint8]:
    """A whole native level of an opaque slide, (h, w, 3) uint8."""
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]).convert("RGB"))


def stitched(slide: TileSource, level: int = 0) -> NDArray[np.uint8]:
    """All tiles of a level, padding cropped, (h, w, 3) uint8."""
    geometry = slide.levels[level]
    image = np.zeros((geometry.height_px, geometry.width_px, 3), np.uint8)
    for tile in geometry.grid(slide.tile_size):
        pixels = slide.read_tile(level, tile.row, tile.col)
        assert pixels.shape == (slide.tile_size, slide.tile_size, 3)
        assert pixels.dtype == np.uint8
        inside = slice(tile.y_px, tile.y_px + tile.height_px), slice(tile.x_px, tile.x_px + tile.width_px)
        image[inside] = pixels[: tile.height_px, : tile.width_px]
    return image


def block_means(image: NDArray[np.uint8], step: int) -> NDArray[np.float64]:
    height, width = image.shape[0] // step, image.shape[1] // step
    blocks = image[: height * step, : width * step].reshape(height, step, width, step, 3)
    means: NDArray[np.float64] = blocks.mean(axis=(1, 3))
    return means


class Doctored(openslide.OpenSlide):
    """A slide whose properties and pixels a test may change."""

    changed: Mapping[str, str] = {}
    transparent_from_x: int | None = None

    @property
    def properties(self) -> Mapping[str, str]:
        return {key: value for key, value in {**super().properties, **self.changed}.items() if value}

    def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        image = super().read_region(location, level, size)
        if self.transparent_from_x is not None and min(size) > 0:
            start = max(int((self.transparent_from_x - location[0]) / self.level_downsamples[level]), 0)
            image.paste((0, 0, 0, 0), (start, 0, max(size[0], start), size[1]))
        return image


@pytest.fixture
def doctored(monkeypatch: pytest.MonkeyPatch) -> type[Doctored]:
    monkeypatch.setattr(openslide, "OpenSlide", Doctored)
    monkeypatch.setattr(Doctored, "changed", {})
    monkeypatch.setattr(Doctored, "transparent_from_x", None)
    return Doctored


@settings(max_examples=8, deadline=None)
@given(tile_size=st.integers(40, 1500))
def test_stitched_tiles_are_the_whole_image(tissue_svs: Path, tile_size: int) -> None:
    with opened(tissue_svs, SourceSettings(tile_size=tile_size)) as slide:
        np.testing.assert_array_equal(stitched(slide), native_rgb(tissue_svs))


@pytest.mark.parametrize("tile_size", [64, 256])
def test_coarse_levels_are_the_native_ones(tissue_svs: Path, tile_size: int) -> None:
    with opened(tissue_svs, SourceSettings(tile_size=tile_size)) as slide:
        assert [level.downsample for level in slide.levels][:2] == [1, 4]
        assert slide.levels == pyramid(1400, 1100, tile_size)
        np.testing.assert_array_equal(stitched(slide, 1), native_rgb(tissue_svs, 1))


def test_rounded_level_sizes_do_not_shift_the_pixels(tmp_path: Path) -> None:
    # 1403 x 1101 over 350 x 275 makes OpenSlide report a downsample of 4.006.
    path = tissue_slide(tmp_path / "odd.svs", 1403, 1101, downsamples=(4,))
    with openslide.OpenSlide(path) as slide:
        assert slide.level_downsamples[1] > 4.005
    with opened(path) as slide:
        difference = stitched(slide, 1).astype(int) - native_rgb(path, 1)
        assert np.abs(difference).mean() < 1


@pytest.mark.parametrize("downsamples", [(), (2,), (3,)])
def test_missing_native_levels_are_averaged_from_finer_ones(tmp_path: Path, downsamples: tuple[int, ...]) -> None:
    path = tissue_slide(tmp_path / "few.svs", 1000, 900, downsamples=downsamples)
    expected = block_means(native_rgb(path), 4)
    with opened(path, SourceSettings(tile_size=128)) as slide:
        difference = stitched(slide, 1) - expected
    # From level 0 it is exact; a level between has been through JPEG once more.
    assert np.abs(difference).max() <= (60 if downsamples else 0.6)
    assert np.abs(difference).mean() <= 2.5


@pytest.mark.parametrize(("mpp", "step"), [(1.0, 2), (1.5, 3), (2.0, 4), (2.01, 4), (0.497, 1), (0.502, 1)])
def test_mpp_of_whole_steps_averages_blocks(tmp_path: Path, mpp: float, step: int) -> None:
    path = tissue_slide(tmp_path / "flat.svs", 700, 600, mpp=0.5, downsamples=(4,))
    with opened(path, SourceSettings(mpp=mpp, tile_size=64)) as slide:
        assert slide.info.mpp == pytest.approx((0.5 * step, 0.5 * step))
        assert (slide.levels[0].width_px, slide.levels[0].height_px) == (700 // step, 600 // step)
        if step == 4:
            np.testing.assert_array_equal(stitched(slide), native_rgb(path, 1))
        else:
            assert np.abs(stitched(slide) - block_means(native_rgb(path), step)).max() <= 0.6


def test_mpp_of_fractional_steps_keeps_the_mean_and_the_place(tmp_path: Path) -> None:
    ramp = np.zeros((300, 400, 3), np.uint8)
    ramp[..., 0] = np.linspace(20, 220, 400).round()
    ramp[..., 1] = np.linspace(30, 230, 300).round()[:, None]
    path = tmp_path / "ramp.svs"
    write_svs(path, ramp, mpp=0.5, jpeg_quality=100, downsamples=())
    with opened(path, SourceSettings(mpp=0.8, tile_size=48)) as slide:
        image = stitched(slide)
        assert slide.info.mpp == pytest.approx((0.8, 0.8))
        assert image.shape == (187, 250, 3)
    x, y = (np.arange(250) + 0.5) * 1.6 - 0.5, (np.arange(187) + 0.5) * 1.6 - 0.5
    assert np.abs(image[..., 0] - (20 + 200 / 399 * x)).max() < 6
    assert np.abs(image[..., 1] - (30 + 200 / 299 * y)[:, None]).max() < 6


@pytest.mark.parametrize("mpp", [0.49, 0.25, 0.0, -1.0, float("nan"), float("inf")])
def test_mpp_out_of_reach_is_refused(tissue_svs: Path, mpp: float) -> None:
    with pytest.raises(ConfigError, match="0.5" if mpp in (0.49, 0.25) else "positive"):
        opened(tissue_svs, SourceSettings(mpp=mpp))


@pytest.mark.parametrize(("mpp", "left"), [(1e6, "0 x 0"), (3.0, "233 x 183")])
def test_mpp_that_leaves_less_than_one_tile_is_refused(tissue_svs: Path, mpp: float, left: str) -> None:
    with pytest.raises(ConfigError, match=rf"mpp {mpp} leaves {left} pixels of the slide, less than one tile of 256"):
        opened(tissue_svs, SourceSettings(mpp=mpp))
    with opened(tissue_svs, SourceSettings(mpp=2.73)) as slide:
        assert slide.levels[0].width_px == 256


def test_a_slide_smaller_than_one_tile_is_read_at_its_own_resolution(tissue_svs: Path) -> None:
    with opened(tissue_svs, SourceSettings(mpp=0.5, tile_size=2048)) as slide:
        assert slide.levels[0].width_px == 1400


def test_slide_without_mpp_opens_in_pixels_only(tissue_svs: Path, doctored: type[Doctored]) -> None:
    doctored.changed = {"openslide.mpp-x": ""}
    with opened(tissue_svs) as slide:
        assert slide.info.mpp is None
        assert slide.tissue().rule["overview_downsample"] == 16
    with pytest.raises(ConfigError, match="does not say its micrometres"):
        opened(tissue_svs, SourceSettings(mpp=1.0))


@pytest.mark.parametrize("value", ["zero", "-1", "nan", "inf", "0"])
def test_nonsense_numbers_are_no_numbers(tissue_svs: Path, doctored: type[Doctored], value: str) -> None:
    doctored.changed = {"openslide.mpp-y": value, "openslide.objective-power": value}
    with opened(tissue_svs) as slide:
        assert slide.info.mpp is None
        assert slide.info.objective_power is None


@pytest.mark.parametrize(
    "setting", [{"tile_size": 0}, {"max_levels": 0}, {"tissue_threshold": -1}, {"tissue_threshold": 256}]
)
def test_settings_out_of_range_are_refused(tissue_svs: Path, setting: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(setting.values())))):
        opened(tissue_svs, SourceSettings(**setting))  # type: ignore[arg-type]


def test_max_levels_and_unknown_tiles(tissue_svs: Path) -> None:
    with opened(tissue_svs, SourceSettings(max_levels=1)) as slide:
        assert len(slide.levels) == 1
        for place in [(1, 0, 0), (-1, 0, 0), (0, 5, 0), (0, 0, 6), (0, -1, 0)]:
            with pytest.raises(IndexError):
                slide.read_tile(*place)


@pytest.mark.parametrize("width", [257, 258, 300])
def test_tiles_that_stick_out_are_reflected(tmp_path: Path, width: int) -> None:
    path = tissue_slide(tmp_path / "edge.svs", width, 260, downsamples=())
    whole = native_rgb(path)
    with opened(path) as slide:
        tile = slide.read_tile(0, 1, 1)
        np.testing.assert_array_equal(tile, np.pad(whole[256:, 256:], ((0, 252), (0, 512 - width), (0, 0)), "reflect"))
        assert tile.flags.c_contiguous


@pytest.mark.parametrize("level", [0, 1])
def test_bounds_are_the_base_image(tissue_svs: Path, doctored: type[Doctored], level: int) -> None:
    bounds = {"x": "200", "y": "120", "width": "801", "height": "603"}
    doctored.changed = {f"openslide.bounds-{key}": value for key, value in bounds.items()}
    with opened(tissue_svs) as slide:
        assert slide.levels == pyramid(801, 603, 256)
        step = slide.levels[level].downsample
        whole = native_rgb(tissue_svs, level)[120 // step : (120 + 603) // step, 200 // step : (200 + 801) // step]
        np.testing.assert_array_equal(stitched(slide, level), whole)
        assert slide.tissue().tiles[0].shape == (3, 4)


@pytest.mark.parametrize("bounds", [("5000", "0", "10", "10"), ("0", "0", "", "x"), ("", "", "-3", "0")])
def test_impossible_bounds_are_ignored(tissue_svs: Path, doctored: type[Doctored], bounds: tuple[str, ...]) -> None:
    doctored.changed = dict(zip((f"openslide.bounds-{key}" for key in ("x", "y", "width", "height")), bounds))  # noqa: B905
    with opened(tissue_svs) as slide:
        assert slide.levels == pyramid(1400, 1100, 256)


@pytest.mark.parametrize(("colour", "rgb"), [("", (255, 255, 255)), ("FFEE10", (255, 238, 16)), ("pink", (255,) * 3)])
def test_alpha_lies_over_the_background(
    tissue_svs: Path, doctored: type[Doctored], colour: str, rgb: tuple[int, int, int]
) -> None:
    doctored.changed = {"openslide.background-color": colour}
    doctored.transparent_from_x = 300
    with opened(tissue_svs) as slide:
        tile = slide.read_tile(0, 0, 1)
        np.testing.assert_array_equal(tile[:, :44], native_rgb(tissue_svs)[:256, 256:300])
        assert (tile[:, 44:] == rgb).all()


def test_unscanned_area_is_glass(tissue_svs: Path, doctored: type[Doctored]) -> None:
    doctored.changed = {"openslide.background-color": "000000"}
    doctored.transparent_from_x = 1024
    with opened(tissue_svs, SourceSettings(tile_size=128)) as slide:
        assert not slide.tissue().tiles[0][:, 9:].any()
        assert slide.tissue().tiles[0].any()


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(step=st.sampled_from([1, 2, 3, 7, 1.7, 5.3]), side=st.integers(32, 400))
def test_reads_in_bands_equal_one_read(
    tissue_svs: Path, monkeypatch: pytest.MonkeyPatch, step: float, side: int
) -> None:
    area = (0, 10, 20, step, 130, 110, "an area")
    slide = open_native(tissue_svs)
    whole = read_cells(slide, *area)
    with monkeypatch.context() as patch:
        patch.setattr(cells_module, "READ_SIDE_PX", side)
        np.testing.assert_array_equal(read_cells(slide, *area), whole)
    slide.close()


def test_no_read_is_larger_than_four_megapixels(
    tmp_path: Path, doctored: type[Doctored], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tissue_slide(tmp_path / "wide.svs", 5000, 900, downsamples=())
    sizes: list[int] = []
    read_region = Doctored.read_region

    def counted(self: Doctored, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        sizes.append(size[0] * size[1])
        return read_region(self, location, level, size)

    monkeypatch.setattr(Doctored, "read_region", counted)
    with opened(path, SourceSettings(reader="openslide")) as slide:
        slide.tissue()
        slide.read_tile(len(slide.levels) - 1, 0, 0)
    assert max(sizes) <= 2**22
    assert sum(sizes) >= 2 * 5000 * 896


def test_lattice_beyond_the_level_repeats_its_edge(tissue_svs: Path) -> None:
    slide = open_native(tissue_svs)
    inside = read_cells(slide, 0, 1390, 1090, 4, 2, 2, "the corner")
    beyond = read_cells(slide, 0, 1390, 1090, 4, 5, 3, "the corner")
    slide.close()
    assert beyond.shape == (3, 5, 4)
    assert (beyond[..., 3] == 255).all()
    np.testing.assert_array_equal(beyond[:2, :2], inside)
    np.testing.assert_array_equal(beyond[:, 3], beyond[:, 2])


def test_tiles_read_by_many_threads_are_the_same(tissue_svs: Path) -> None:
    with opened(tissue_svs, SourceSettings(tile_size=64)) as slide:
        places = [(level.index, tile.row, tile.col) for level in slide.levels for tile in level.grid(64)]
        alone = [slide.read_tile(*place) for place in places]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda place: slide.read_tile(*place), places))
            masks = list(pool.map(lambda _: slide.tissue(), range(8)))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))
    assert all(mask is masks[0] for mask in masks)


def test_info_says_what_the_slide_says(tissue_svs: Path) -> None:
    with opened(tissue_svs) as slide:
        assert slide.name == str(tissue_svs)
        assert slide.info.mpp == (0.5, 0.5)
        assert slide.info.objective_power == 20.0
        assert slide.info.vendor == "aperio"
        assert slide.info.source_bytes == tissue_svs.stat().st_size
        assert slide.info.icc_profile is None


@pytest.mark.parametrize(("vendor", "counted"), [("aperio", True), ("dicom", False)])
def test_source_bytes_are_those_of_the_file(
    tissue_svs: Path, doctored: type[Doctored], vendor: str, counted: bool
) -> None:
    doctored.changed = {"openslide.vendor": vendor}
    with opened(tissue_svs) as slide:
        assert slide.info.source_bytes == (tissue_svs.stat().st_size if counted else None)


@pytest.mark.real_data
@pytest.mark.parametrize("vendor", ["aperio", "hamamatsu"])
def test_real_tiles_equal_read_region(real_slides: dict[str, Path], vendor: str) -> None:
    path = real_slides[vendor]
    with opened(path, SourceSettings(tile_size=512)) as slide:
        assert slide.info.vendor == vendor
        np.testing.assert_array_equal(stitched(slide), native_rgb(path))
        with openslide.OpenSlide(path) as reference:
            natives = {round(ds): n for n, ds in enumerate(reference.level_downsamples)}
        for level in slide.levels:
            if level.downsample in natives:
                np.testing.assert_array_equal(stitched(slide, level.index), native_rgb(path, natives[level.downsample]))
            else:
                means = block_means(native_rgb(path), level.downsample)
                assert np.abs(stitched(slide, level.index) - means).max() <= 0.6


@pytest.mark.real_data
@pytest.mark.parametrize(("vendor", "own"), [("aperio", 0.499), ("hamamatsu", 0.22817505590288)])
def test_real_mpp_is_reached(real_slides: dict[str, Path], vendor: str, own: float) -> None:
    with opened(real_slides[vendor]) as slide:
        assert slide.info.mpp == pytest.approx((own, own))
        width = slide.levels[0].width_px
    with opened(real_slides[vendor], SourceSettings(mpp=0.7)) as slide:
        assert slide.info.mpp == pytest.approx((0.7, 0.7))
        assert slide.levels[0].width_px == int(width * own / 0.7)
        slide.read_tile(0, 1, 1)
