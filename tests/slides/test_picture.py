"""Pictures are slides of one level: PNG, JPEG and plain TIFF, pixel by pixel."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from tests.factories import tissue_image
from tests.slides.opened import opened
from wsicomp.errors import SlideError
from wsicomp.slides import SourceSettings, open_source


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return tissue_image(300, 200, 20, 10)


def tile_of(path: Path, size: int = 512) -> NDArray[np.uint8]:
    with opened(path, SourceSettings(tile_size=size)) as slide:
        (level,) = slide.levels
        return slide.read_tile(0, 0, 0)[: level.height_px, : level.width_px]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "lzw.tif", "upper.PNG"])
def test_lossless_pictures_are_read_as_they_are(tmp_path: Path, pixels: NDArray[np.uint8], name: str) -> None:
    path = tmp_path / name
    Image.fromarray(pixels).save(path, compression="tiff_lzw" if name == "lzw.tif" else None)
    np.testing.assert_array_equal(tile_of(path), pixels)


def test_a_picture_is_a_source_of_one_native_level(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels).save(path, quality=90, dpi=(72, 72))
    with open_source(path, SourceSettings(tile_size=64)) as source, Image.open(path) as shown:
        assert (source.levels[0].width_px, source.levels[0].height_px) == (300, 200)
        assert source.info.mpp is None
        assert source.info.vendor is None
        assert source.info.source_bytes == path.stat().st_size
        assert source.encoded_levels == (None,)
        np.testing.assert_array_equal(source.read_tile(0, 1, 2), np.asarray(shown)[64:128, 128:192])
        assert len(source.tissue().tiles) == len(source.levels) == 3
        coarse = source.read_tile(1, 0, 0)[:50]
        assert np.abs(coarse[:, :64].mean((0, 1)) - pixels[:200, :256].mean((0, 1))).max() < 2


def test_transparent_pixels_stand_on_white_and_grey_becomes_rgb(tmp_path: Path) -> None:
    clear = np.zeros((20, 30, 4), np.uint8)
    clear[:, :10] = (200, 10, 30, 255)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    tile = tile_of(tmp_path / "clear.png")
    assert (tile[:, :10] == (200, 10, 30)).all()
    assert (tile[:, 10:] == 255).all()
    Image.fromarray(clear[..., 0]).save(tmp_path / "grey.png")
    assert (tile_of(tmp_path / "grey.png")[:, :10] == 200).all()


def bomb(path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">2I5B", 100_000, 100_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")))


def deep(path: Path) -> None:
    Image.fromarray(np.full((20, 30), 40_000, np.uint16)).save(path)


def cut(path: Path) -> None:
    Image.fromarray(tissue_image(300, 200, 20, 10)).save(path)
    path.write_bytes(path.read_bytes()[:-5000])


def flipped(path: Path) -> None:
    Image.fromarray(tissue_image(300, 200, 20, 10)).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def cut_jpeg(path: Path) -> None:
    Image.fromarray(tissue_image(300, 200, 20, 10)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-500])


def no_picture(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\nCANARY")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (bomb, "is too large|damaged or cut short"),
        (deep, "8 bits per channel"),
        (cut, "damaged or cut short"),
        (flipped, "damaged or cut short"),
        (cut_jpeg, "damaged or cut short"),
        (no_picture, "copy it again"),
    ],
)
def test_bad_pictures_are_one_line(tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    path = tmp_path / "a.png"
    make(path)
    with pytest.raises(SlideError, match=says) as caught:
        opened(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "CANARY" not in str(caught.value)


def test_a_tiff_that_openslide_knows_is_a_slide(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    tifffile.imwrite(tmp_path / "tiled.tif", pixels, photometric="rgb", tile=(64, 64))
    with opened(tmp_path / "tiled.tif") as slide:
        assert slide.info.vendor == "generic-tiff"
