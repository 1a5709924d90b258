"""The maker of slides makes what OpenSlide takes for an Aperio slide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from tests.factories import tissue_image
from wsicomp.slides.svs import write_svs


@pytest.mark.parametrize(
    ("downsamples", "sizes"),
    [
        ((), [(703, 601)]),
        ((4, 16), [(703, 601), (175, 150), (43, 37)]),
        ((2,), [(703, 601), (351, 300)]),
    ],
)
def test_openslide_sees_an_aperio_slide(
    tmp_path: Path, downsamples: tuple[int, ...], sizes: list[tuple[int, int]]
) -> None:
    path = tmp_path / "made.svs"
    image = tissue_image(703, 601, 100, 50)
    write_svs(path, image, mpp=0.2503, objective_power=40, jpeg_quality=95, downsamples=downsamples)
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == "aperio"
        for key, value in {"mpp-x": 0.2503, "mpp-y": 0.2503, "objective-power": 40}.items():
            assert float(slide.properties[f"openslide.{key}"]) == pytest.approx(value)
        assert list(slide.level_dimensions) == sizes
        assert dict(slide.associated_images) == {}
        for level, size in enumerate(sizes):
            pixels = np.asarray(slide.read_region((0, 0), level, size).convert("RGB")).astype(int)
            step = (1, *downsamples)[level]
            whole = image[: size[1] * step, : size[0] * step].reshape(size[1], step, size[0], step, 3).mean(axis=(1, 3))
            assert np.abs(pixels - whole).mean() < 4
            # Padding past the edge must not ring back into the image.
            assert np.abs(pixels[-1, -9:] - whole[-1, -9:]).max() < 8


@pytest.mark.parametrize("names", [("label",), ("macro", "thumbnail"), ("thumbnail", "label", "macro")])
def test_associated_images_are_told_from_levels(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = tmp_path / "made.svs"
    pictures = {name: np.full((40 + 8 * n, 64, 3), 90 * n, np.uint8) for n, name in enumerate(names)}
    write_svs(path, tissue_image(600, 500, 10, 10), mpp=0.5, associated=pictures)
    with openslide.OpenSlide(path) as slide:
        assert slide.level_count == 3
        assert set(slide.associated_images) == set(names)
        for name in names:
            picture = np.asarray(slide.associated_images[name].convert("RGB")).astype(int)
            assert picture.shape == pictures[name].shape
            assert np.abs(picture - pictures[name]).max() <= 2
    with tifffile.TiffFile(path) as tiff:
        tiled = [page.is_tiled for page in tiff.pages]  # type: ignore[union-attr]
        first = ["thumbnail"] if "thumbnail" in names else []
        assert tiled == [True, *(False for _ in first), True, True, *(False for _ in set(names) - set(first))]


def test_extra_fields_become_properties(tmp_path: Path) -> None:
    path = tmp_path / "made.svs"
    write_svs(path, tissue_image(600, 500, 10, 10), mpp=0.5, description_extra="|Title = demo {1}")
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["aperio.Title"] == "demo {1}"


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"tile_size": 250}, "multiple of 16"),
        ({"tile_size": 0}, "multiple of 16"),
        ({"downsamples": (4, 512)}, "empty level"),
        ({"associated": {"barcode": np.zeros((4, 4, 3), np.uint8)}}, "barcode"),
    ],
)
def test_impossible_slides_are_refused(tmp_path: Path, setting: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        write_svs(tmp_path / "made.svs", tissue_image(300, 300, 0, 0), mpp=0.5, **setting)  # type: ignore[arg-type]
    assert not (tmp_path / "made.svs").exists()
