"""The demo's slide opens, and its picture shows the place that it promises, at the size that it promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.demo import TISSUE
from benchmarks.demo_picture import CROP_PX, GAP_PX, LABEL_PX, MARGIN_PX, Column, draw, read_region, telling_region
from benchmarks.demo_picture import worst_part as worst
from wsicomp.slides import open_source
from wsicomp.slides.svs import write_svs


def test_the_slide_of_the_demo_holds_tissue_and_no_associated_image() -> None:
    with openslide.OpenSlide(TISSUE) as slide:
        assert slide.dimensions == (960, 960)
        assert dict(slide.associated_images) == {}


@pytest.mark.parametrize("side", [100, 700])
def test_the_crop_lies_inside_the_slide(tmp_path: Path, side: int) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (side, side, 3)).astype(np.uint8)
    write_svs(tmp_path / "a.svs", picture, mpp=0.5, downsamples=())
    with open_source(tmp_path / "a.svs") as source:
        x, y, width, height = telling_region(source)
        assert width == height == min(side, CROP_PX)
        assert max(x + width, y + height) <= side
        assert read_region(source, (x, y, width, height)).shape == (height, width, 3)


def test_the_crop_is_where_nuclei_are(tmp_path: Path) -> None:
    picture = np.full((1024, 1024, 3), (200, 120, 160), np.uint8)
    picture[256:512, 512:768, 0] = np.where(np.indices((256, 256)).sum(axis=0) // 8 % 2, 60, 200)
    picture[512:768, :256, 1] = np.where(np.indices((256, 256)).sum(axis=0) // 8 % 2, 80, 160)  # red does not vary
    write_svs(tmp_path / "a.svs", picture, mpp=0.5, downsamples=(), jpeg_quality=95)
    with open_source(tmp_path / "a.svs") as source:
        assert telling_region(source)[:2] == (512, 256)


def test_the_worst_part_is_enlarged() -> None:
    error: NDArray[np.int16] = np.zeros((192, 192), np.int16)
    error[64:112, 24:72] = 9
    assert worst(error, 48) == (24, 64, 48)


def test_the_picture_keeps_pixels_as_they_are(tmp_path: Path) -> None:
    original = np.full((CROP_PX, CROP_PX, 3), 90, np.uint8)
    damaged = original.copy()
    damaged[80:100, 80:100] += 40
    draw([Column(["original"], original), Column(["depth 4", "1 byte"], damaged)], 0.5, tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as picture:
        shown = np.asarray(picture).astype(int)
    step = CROP_PX + GAP_PX
    assert shown.shape == (LABEL_PX + 3 * step, MARGIN_PX + 2 * step, 3)
    crop = shown[LABEL_PX : LABEL_PX + CROP_PX, MARGIN_PX + step : MARGIN_PX + step + CROP_PX]
    assert abs(crop[90, 90] - 130).max() <= 4
    errors = shown[LABEL_PX + 2 * step :, MARGIN_PX + step :]
    assert errors[90, 90].min() > 150  # bright
    assert errors[20, 20].max() < 30
