"""The exported pyramid: what other programs read from it, and what a failure leaves behind."""

from __future__ import annotations

import errno
import os
import re
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ImageCms
from skimage.data import immunohistochemistry

from wsicomp.errors import ConfigError, StoreError
from wsicomp.geometry import TileGrid, pyramid
from wsicomp.pipeline.tiff import PyramidLevel, write_pyramid

Image = NDArray[np.uint8]


def picture(width_px: int, height_px: int, seed: int = 0) -> Image:
    """A smooth ramp with noise on it: every tile differs from every other."""
    y, x = np.mgrid[:height_px, :width_px]
    ramp = np.stack([x, y, x + y], axis=-1)
    noise = np.random.default_rng(seed).integers(0, 16, ramp.shape)
    return ((ramp + noise) % 256).astype(np.uint8)


def cut(image: Image, tile_size: int) -> Iterator[Image]:
    for tile in TileGrid(image.shape[1], image.shape[0], tile_size):
        padded = np.full((tile_size, tile_size, 3), 99, dtype=np.uint8)  # what sticks out must never be seen
        inside = image[tile.y_px : tile.y_px + tile_size, tile.x_px : tile.x_px + tile_size]
        padded[: inside.shape[0], : inside.shape[1]] = inside
        yield padded


def write(
    path: Path,
    images: list[Image],
    tile_size: int = 64,
    mpp: tuple[float, float] | None = None,
    icc_profile: bytes | None = None,
    jpeg_quality: int | None = None,
) -> None:
    levels = [PyramidLevel(image.shape[1], image.shape[0], cut(image, tile_size)) for image in images]
    write_pyramid(path, levels, tile_size=tile_size, mpp=mpp, icc_profile=icc_profile, jpeg_quality=jpeg_quality)


def pictures(width_px: int, height_px: int, tile_size: int = 64) -> list[Image]:
    levels = pyramid(width_px, height_px, tile_size)
    return [picture(level.width_px, level.height_px, level.index) for level in levels]


def openslide_levels(path: Path) -> list[Image]:
    with openslide.OpenSlide(path) as slide:
        regions = [np.asarray(slide.read_region((0, 0), k, size)) for k, size in enumerate(slide.level_dimensions)]
    assert all((region[..., 3] == 255).all() for region in regions)
    return [region[..., :3] for region in regions]


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (257, 511), (65, 1), (1030, 700)])
def test_openslide_and_tifffile_read_the_same_pixels(tmp_path: Path, size: tuple[int, int]) -> None:
    images = pictures(*size)
    write(tmp_path / "a.tiff", images)
    with tifffile.TiffFile(tmp_path / "a.tiff") as tiff:
        assert tiff.is_bigtiff
        pages = [page.asarray() for page in tiff.pages]
    for image, seen, page in zip(images, openslide_levels(tmp_path / "a.tiff"), pages, strict=True):
        np.testing.assert_array_equal(seen, image)
        np.testing.assert_array_equal(page, image)


@settings(max_examples=12, deadline=None)
@given(width=st.integers(1, 300), height=st.integers(1, 300), tile_size=st.sampled_from([16, 48, 128]))
def test_any_size_comes_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, tile_size: int
) -> None:
    path = tmp_path_factory.mktemp("tiff") / "a.tiff"
    images = pictures(width, height, tile_size)
    write(path, images, tile_size)
    for image, seen in zip(images, openslide_levels(path), strict=True):
        np.testing.assert_array_equal(seen, image)


def test_openslide_sees_the_pyramid(tmp_path: Path) -> None:
    write(tmp_path / "a.tiff", pictures(1030, 700), mpp=(0.499, 0.25))
    with openslide.OpenSlide(tmp_path / "a.tiff") as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert slide.level_dimensions == ((1030, 700), (257, 175), (64, 43))
        assert slide.level_downsamples == pytest.approx((1, 4, 16), rel=0.02)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.499, rel=1e-6)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.25, rel=1e-6)
        assert slide.properties["openslide.level[0].tile-width"] == "64"
        assert not slide.associated_images


@pytest.mark.parametrize("mpp", [0.01, 0.1234567, 0.499, 7.3, 250.0])
def test_mpp_survives(tmp_path: Path, mpp: float) -> None:
    write(tmp_path / "a.tiff", [picture(20, 20)], mpp=(mpp, mpp))
    with openslide.OpenSlide(tmp_path / "a.tiff") as slide:
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(mpp, rel=1e-6)


def test_without_mpp_none_is_invented(tmp_path: Path) -> None:
    write(tmp_path / "a.tiff", [picture(20, 20)])
    with openslide.OpenSlide(tmp_path / "a.tiff") as slide:
        assert "openslide.mpp-x" not in slide.properties


def test_pages_are_laid_out_as_libvips_expects(tmp_path: Path) -> None:
    write(tmp_path / "a.tiff", pictures(1030, 700), mpp=(0.5, 0.5))
    with tifffile.TiffFile(tmp_path / "a.tiff") as tiff:
        tags = [page.tags for page in tiff.pages]  # type: ignore[union-attr]
    assert [int(page["NewSubfileType"].value) for page in tags] == [0, 1, 1]
    widths = [page["ImageWidth"].value for page in tags]
    assert widths == sorted(widths, reverse=True)
    for page in tags:
        top, bottom = page["XResolution"].value
        # 0.5 um per pixel is 20,000 pixels per centimetre, fewer on a reduced page
        assert top / bottom == pytest.approx(20_000 * page["ImageWidth"].value / 1030)


def test_libvips_opens_it(tmp_path: Path) -> None:
    pyvips = pytest.importorskip("pyvips")
    image = picture(300, 200)
    write(tmp_path / "a.tiff", [image], mpp=(0.5, 0.5))
    seen = pyvips.Image.tiffload(str(tmp_path / "a.tiff"))
    np.testing.assert_array_equal(seen.numpy(), image)
    assert seen.xres == pytest.approx(2_000)  # pixels per millimetre


def test_the_file_names_no_program_date_or_source(tmp_path: Path) -> None:
    write(tmp_path / "secret-name.tiff", pictures(300, 200), mpp=(0.5, 0.5))
    with tifffile.TiffFile(tmp_path / "secret-name.tiff") as tiff:
        names = {tag.name for page in tiff.pages for tag in page.tags}  # type: ignore[union-attr]
    assert names == {
        *("NewSubfileType", "ImageWidth", "ImageLength", "BitsPerSample", "Compression", "PhotometricInterpretation"),
        *("SamplesPerPixel", "XResolution", "YResolution", "PlanarConfiguration", "ResolutionUnit", "Predictor"),
        *("TileWidth", "TileLength", "TileOffsets", "TileByteCounts"),
    }
    assert b"secret-name" not in (tmp_path / "secret-name.tiff").read_bytes()


def test_the_same_pixels_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.tiff", "b.tiff"):
        write(tmp_path / name, pictures(300, 200), mpp=(0.5, 0.5))
    assert (tmp_path / "a.tiff").read_bytes() == (tmp_path / "b.tiff").read_bytes()


def test_icc_profile_survives(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    write(tmp_path / "a.tiff", [picture(20, 20)], icc_profile=profile)
    with openslide.OpenSlide(tmp_path / "a.tiff") as slide:
        assert slide.color_profile is not None
        assert slide.color_profile.tobytes() == profile


def test_jpeg_keeps_the_colours_and_saves_bytes(tmp_path: Path) -> None:
    image = np.asarray(immunohistochemistry(), dtype=np.uint8)  # type: ignore[no-untyped-call]
    write(tmp_path / "jpeg.tiff", [image], 256, jpeg_quality=90)
    write(tmp_path / "exact.tiff", [image], 256)
    seen = openslide_levels(tmp_path / "jpeg.tiff")[0].astype(int)
    with tifffile.TiffFile(tmp_path / "jpeg.tiff") as tiff:
        assert tiff.pages.first.photometric == tifffile.PHOTOMETRIC.YCBCR
        assert np.abs(tiff.pages.first.asarray().astype(int) - seen).mean() < 1
    assert np.abs((seen - image).mean(axis=(0, 1))).max() < 0.5  # swapped or shifted channels would be far off
    assert np.abs(seen - image).mean() < 5
    assert (tmp_path / "jpeg.tiff").stat().st_size * 3 < (tmp_path / "exact.tiff").stat().st_size


@pytest.mark.parametrize("error", [RuntimeError("decoder"), KeyboardInterrupt(), StoreError("damaged tile")])
@pytest.mark.parametrize("level", [0, 1])
def test_an_iterator_that_raises_leaves_nothing_new(tmp_path: Path, error: BaseException, level: int) -> None:
    def broken(image: Image) -> Iterator[Image]:
        tiles = cut(image, 16)
        yield next(tiles)
        yield next(tiles)
        raise error

    images = pictures(100, 60, 16)
    (tmp_path / "a.tiff").write_bytes(b"the old file")
    levels = [
        PyramidLevel(image.shape[1], image.shape[0], broken(image) if k == level else cut(image, 16))
        for k, image in enumerate(images)
    ]
    with pytest.raises(type(error)):
        write_pyramid(tmp_path / "a.tiff", levels, tile_size=16, mpp=None, icc_profile=None)
    assert os.listdir(tmp_path) == ["a.tiff"]
    assert (tmp_path / "a.tiff").read_bytes() == b"the old file"


def test_success_replaces_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.tiff").write_bytes(b"the old file")
    write(tmp_path / "a.tiff", [picture(20, 20)])
    assert os.listdir(tmp_path) == ["a.tiff"]
    assert openslide.OpenSlide.detect_format(tmp_path / "a.tiff") == "generic-tiff"


@pytest.mark.parametrize(("change", "message"), [(-1, r"tile \(1, 1\) of 2 x 2 is missing"), (1, "more than its 4")])
def test_a_wrong_number_of_tiles_is_refused(tmp_path: Path, change: int, message: str) -> None:
    tiles = iter([np.zeros((16, 16, 3), np.uint8)] * (4 + change))
    with pytest.raises(ValueError, match=message):
        write_pyramid(tmp_path / "a.tiff", [PyramidLevel(30, 20, tiles)], tile_size=16, mpp=None, icc_profile=None)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "tile", [np.zeros((16, 15, 3), np.uint8), np.zeros((16, 16), np.uint8), np.zeros((16, 16, 3), np.float32)]
)
def test_a_tile_of_another_shape_or_type_is_refused(tmp_path: Path, tile: Image) -> None:
    with pytest.raises(ValueError, match=r"tile \(0, 0\) is"):
        write_pyramid(
            tmp_path / "a.tiff", [PyramidLevel(16, 16, iter([tile]))], tile_size=16, mpp=None, icc_profile=None
        )


def test_a_pyramid_without_levels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one level"):
        write_pyramid(tmp_path / "a.tiff", [], tile_size=16, mpp=None, icc_profile=None)


@pytest.mark.parametrize("tile_size", [0, 8, 250])
def test_tile_sizes_that_tiff_cannot_hold_are_refused(tmp_path: Path, tile_size: int) -> None:
    with pytest.raises(ConfigError, match="multiple of 16"):
        write_pyramid(
            tmp_path / "a.tiff", [PyramidLevel(9, 9, iter([]))], tile_size=tile_size, mpp=None, icc_profile=None
        )


@pytest.mark.parametrize("mpp", [(0.0, 0.5), (0.5, -1.0), (float("nan"), 0.5), (0.5, float("inf"))])
def test_impossible_mpp_is_refused(tmp_path: Path, mpp: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="mpp"):
        write(tmp_path / "a.tiff", [picture(20, 20)], mpp=mpp)


@pytest.mark.parametrize("quality", [0, 101])
def test_impossible_jpeg_quality_is_refused(tmp_path: Path, quality: int) -> None:
    with pytest.raises(ConfigError, match="1 to 100"):
        write(tmp_path / "a.tiff", [picture(20, 20)], jpeg_quality=quality)


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "free some space"), (errno.EROFS, "choose a folder"), (errno.EIO, "check the disk")],
)
def test_what_the_disk_refuses_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError, match=advice) as caught:
        write(tmp_path / "a.tiff", [picture(20, 20)])
    assert re.fullmatch(r".*a\.tiff: cannot be written: [^\n]+; [^\n]+", str(caught.value))
    assert not os.listdir(tmp_path)


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="create it first"):
        write(tmp_path / "none" / "a.tiff", [picture(20, 20)])


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("jpeg_quality", [None, 80])
def test_only_a_few_tiles_are_held_at_a_time(tmp_path: Path, workers: int, jpeg_quality: int | None) -> None:
    held: weakref.WeakValueDictionary[int, Image] = weakref.WeakValueDictionary()
    most = 0

    def tiles() -> Iterator[Image]:
        nonlocal most
        for i in range(400):
            held[i] = tile = np.full((16, 16, 3), i % 251, dtype=np.uint8)
            most = max(most, len(held))
            yield tile

    write_pyramid(
        tmp_path / "a.tiff",
        [PyramidLevel(320, 320, tiles())],
        tile_size=16,
        mpp=None,
        icc_profile=None,
        jpeg_quality=jpeg_quality,
        workers=workers,
    )
    assert most <= 4 * workers + 2
