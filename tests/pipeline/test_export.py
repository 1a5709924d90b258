"""A store into image files: the pixels that the store decodes to, in formats that others read, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image, ImageCms

from tests.pipeline.sources import PictureSource, files_of, picture
from wsicomp.errors import ConfigError, StoreCorrupt, StoreError
from wsicomp.pipeline import export as export_module
from wsicomp.pipeline.encode import encode_source
from wsicomp.pipeline.export import export
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.view import LatentSlide
from wsicomp.slides.describe import describe

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, codec_at: Callable[[int], TileCodec]) -> Path:
    store = tmp_path_factory.mktemp("decode") / "a.zarr"
    source = PictureSource(picture(331, 233), glass=frozenset({(0, 2, 3)}), icc_profile=PROFILE)
    encode_source(source, store, codec_at(2))
    return store


@pytest.fixture
def slide(path: Path) -> Iterator[LatentSlide]:
    with LatentSlide(path) as slide:
        yield slide


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".PNG"])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_picture_of_a_level(tmp_path: Path, slide: LatentSlide, suffix: str, level: int) -> None:
    output = tmp_path / f"a{suffix}"
    size = export(slide, output, level=level)
    assert size == (*slide.level_dimensions[level], 1)
    with Image.open(output) as image:
        np.testing.assert_array_equal(np.asarray(image), slide.read_rgb(level, 0, 0, *size[:2]))
        assert image.info["icc_profile"] == PROFILE
    assert list(tmp_path.iterdir()) == [output]


def test_a_region(tmp_path: Path, slide: LatentSlide) -> None:
    assert export(slide, tmp_path / "a.png", region=(30, 20, 200, 101)) == (200, 101, 1)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), slide.read_rgb(0, 30, 20, 200, 101))


@pytest.mark.parametrize("region", [None, (20, 12, 59, 41)])
def test_a_part_as_tiff_is_tiled_and_keeps_its_resolution(
    tmp_path: Path, slide: LatentSlide, region: tuple[int, int, int, int] | None
) -> None:
    calls: list[tuple[int, int]] = []
    output = tmp_path / "a.tif"
    width, height, levels = export(
        slide, output, level=1, region=region, progress=lambda done, total, note="": calls.append((done, total))
    )
    expected = slide.read_rgb(1, *(region or (0, 0, *slide.level_dimensions[1])))
    assert (height, width, levels) == (*expected.shape[:2], 1)
    assert calls[-1][0] == calls[-1][1]
    with openslide.OpenSlide(output) as exported:
        assert exported.level_dimensions == ((width, height),)
        assert float(exported.properties["openslide.mpp-x"]) == pytest.approx(4 * 0.5)
        assert float(exported.properties["openslide.mpp-y"]) == pytest.approx(4 * 0.25)
        found = np.asarray(exported.read_region((0, 0), 0, (width, height)))
        np.testing.assert_array_equal(found[..., :3], expected)
    with tifffile.TiffFile(output) as tiff:
        assert tiff.pages.first.is_tiled
        assert tiff.pages.first.dtype == np.uint8


def test_the_objective_power_survives(tmp_path: Path, slide: LatentSlide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slide, "header", replace(slide.header, objective_power=20.0))
    export(slide, tmp_path / "a.tif")
    assert describe(tmp_path / "a.tif")["objective_power"] == 20
    with openslide.OpenSlide(tmp_path / "a.tif") as exported:
        assert exported.properties["openslide.comment"] == "AppMag = 20"
        assert exported.properties["openslide.vendor"] == "generic-tiff"
    export(slide, tmp_path / "level.tif", level=1)
    assert describe(tmp_path / "level.tif")["objective_power"] is None


@pytest.mark.parametrize("name", ["a.ome.tif", "A.OME.TIFF"])
def test_what_is_no_ome_tiff_is_not_called_so(tmp_path: Path, slide: LatentSlide, name: str) -> None:
    with pytest.raises(ConfigError, match=r"OME-TIFF is not written; leave \.ome out"):
        export(slide, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_jpeg_is_near(tmp_path: Path, slide: LatentSlide) -> None:
    export(slide, tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "JPEG"
        assert np.abs(np.asarray(image).astype(int) - slide.read_rgb(0, 0, 0, 331, 233)).mean() < 3


@pytest.mark.parametrize(
    "region", [(-1, 0, 5, 5), (0, -1, 5, 5), (0, 0, 0, 5), (0, 0, 5, -5), (0, 0, 332, 5), (300, 200, 5, 34)]
)
def test_regions_outside_are_refused(tmp_path: Path, slide: LatentSlide, region: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match=r"not inside level 0, which is 331 x 233"):
        export(slide, tmp_path / "a.png", region=region)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("level", [-1, 3])
def test_unknown_levels_are_refused(tmp_path: Path, slide: LatentSlide, level: int) -> None:
    with pytest.raises(ConfigError, match="levels 0 to 2"):
        export(slide, tmp_path / "a.png", level=level)


@pytest.mark.parametrize("name", ["a", "a.bmp", "a.zarr"])
def test_unknown_formats_are_refused(tmp_path: Path, slide: LatentSlide, name: str) -> None:
    with pytest.raises(ConfigError, match=r"\.png"):
        export(slide, tmp_path / name)


def test_a_picture_that_memory_could_not_hold_is_refused(
    tmp_path: Path, slide: LatentSlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "MAX_PICTURE_PX", 1000)
    with pytest.raises(ConfigError, match="too large"):
        export(slide, tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_what_stands_there_stays(tmp_path: Path, slide: LatentSlide, name: str) -> None:
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(ConfigError, match="--overwrite"):
        export(slide, tmp_path / name)
    assert files_of(tmp_path) == {name: b"mine"}
    export(slide, tmp_path / name, overwrite=True)
    assert files_of(tmp_path)[name] != b"mine"
    with pytest.raises(ConfigError, match="does not exist"):
        export(slide, tmp_path / "none" / name)


def test_the_pyramid_is_the_store_pixel_for_pixel(tmp_path: Path, slide: LatentSlide) -> None:
    calls: list[tuple[int, int]] = []
    export(slide, tmp_path / "a.tif", progress=lambda done, total, note="": calls.append((done, total)))
    assert calls[-1] == (slide.header.total_tiles, slide.header.total_tiles)
    with openslide.OpenSlide(tmp_path / "a.tif") as exported:
        assert exported.level_dimensions == slide.level_dimensions
        assert float(exported.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        assert float(exported.properties["openslide.mpp-y"]) == pytest.approx(0.25)
        for level, size in enumerate(slide.level_dimensions):
            found = np.asarray(exported.read_region((0, 0), level, size))
            np.testing.assert_array_equal(found[..., :3], slide.read_rgb(level, 0, 0, *size))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.is_bigtiff
        assert tiff.pages.first.tags["InterColorProfile"].value == PROFILE


def test_a_pyramid_in_jpeg_is_smaller_and_near(tmp_path: Path, slide: LatentSlide) -> None:
    export(slide, tmp_path / "whole.tif")
    export(slide, tmp_path / "jpeg.tif", jpeg_quality=80)
    assert (tmp_path / "jpeg.tif").stat().st_size < (tmp_path / "whole.tif").stat().st_size
    with openslide.OpenSlide(tmp_path / "jpeg.tif") as exported:
        found = np.asarray(exported.read_region((0, 0), 0, exported.dimensions))[..., :3]
    assert np.abs(found.astype(int) - slide.read_rgb(0, 0, 0, 331, 233)).mean() < 6


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_full_disk_leaves_nothing(
    tmp_path: Path, slide: LatentSlide, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(StoreError, match=name):
        export(slide, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_damaged_tile_leaves_nothing(
    tmp_path: Path, slide: LatentSlide, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    read = slide.reader.read_tile

    def damaged(level: int, row: int, col: int) -> object:
        if (level, row, col) == (0, 5, 5):
            raise StoreCorrupt("tile (5, 5)")
        return read(level, row, col)

    monkeypatch.setattr(slide.reader, "read_tile", damaged)
    with pytest.raises(StoreCorrupt, match=r"tile \(5, 5\)"):
        export(slide, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.tif", "latents/a.png"])
def test_nothing_is_written_into_a_store(path: Path, slide: LatentSlide, name: str) -> None:
    before = files_of(path)
    with pytest.raises(ConfigError, match="inside the store"):
        export(slide, path / name)
    assert files_of(path) == before
