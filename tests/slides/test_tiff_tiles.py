"""A TIFF's own JPEG tiles show what OpenSlide shows; what cannot be read directly is left to OpenSlide."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories import tissue_slide
from tests.slides.opened import opened
from wsicomp.errors import SlideError
from wsicomp.slides import jpeg, tiff_tiles
from wsicomp.slides.cells import read_cells
from wsicomp.slides.native import SAME_GREY, NativeSlide
from wsicomp.slides.settings import SourceSettings
from wsicomp.slides.tiff_tiles import TiffTiles


@pytest.fixture
def both(tissue_svs: Path) -> Iterator[tuple[NativeSlide, TiffTiles]]:
    slide = NativeSlide(str(tissue_svs), reader="openslide")
    tiles = TiffTiles.open(slide.name, slide.facts.level_sizes)
    assert tiles is not None
    yield slide, tiles
    tiles.close()
    slide.close()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_regions_are_those_of_openslide(both: tuple[NativeSlide, TiffTiles], data: st.DataObject) -> None:
    slide, tiles = both
    # Where a level's size is rounded, OpenSlide reads between pixels, and blurs a little.
    whole = [n for n, size in enumerate(slide.facts.level_sizes) if 1400 % size[0] == 1100 % size[1] == 0]
    assert len(whole) >= 2
    level = data.draw(st.sampled_from(whole))
    width, height = slide.facts.level_sizes[level]
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    size = data.draw(st.integers(1, min(300, width - x))), data.draw(st.integers(1, min(300, height - y)))
    direct = tiles.read(level, x, y, *size)
    assert direct is not None
    shown = read_cells(slide, level, x, y, 1, *size, "a region")[..., :3]
    assert np.abs(direct.astype(int) - shown).max() <= SAME_GREY


@pytest.mark.parametrize(
    ("x", "y", "width", "height"), [(-1, 0, 4, 4), (0, -1, 4, 4), (1399, 0, 2, 1), (0, 1099, 1, 2)]
)
def test_what_leaves_the_level_is_left_to_openslide(
    both: tuple[NativeSlide, TiffTiles], x: int, y: int, width: int, height: int
) -> None:
    slide, tiles = both
    assert slide.facts.level_sizes[0] == (1400, 1100)
    assert tiles.read(0, x, y, width, height) is None


def test_every_tile_of_real_slides(real_slides: dict[str, Path]) -> None:
    for path in real_slides.values():
        with opened(path) as slide, opened(path, SourceSettings(reader="openslide")) as shown:
            for level in slide.levels:
                grid = level.grid(slide.tile_size)
                for row in range(0, grid.rows, 3):
                    for col in range(0, grid.cols, 3):
                        one, other = (s.read_tile(level.index, row, col) for s in (slide, shown))
                        assert np.abs(one.astype(int) - other).max() <= SAME_GREY


def test_the_aperio_slide_is_read_directly(real_slides: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(real_slides["aperio"], SourceSettings(reader="tiff")) as slide:

        def refuse(*_: object) -> None:
            raise AssertionError("OpenSlide was asked")

        monkeypatch.setattr(NativeSlide, "_read_openslide", refuse)
        assert slide.read_tile(0, 1, 1).shape == (256, 256, 3)
    with pytest.raises(SlideError, match="is no TIFF of JPEG tiles that can be read directly; use --reader auto"):
        opened(real_slides["hamamatsu"], SourceSettings(reader="tiff"))


def first_page(path: Path) -> tifffile.TiffPage:
    with tifffile.TiffFile(path) as file:
        return file.pages.first


def damage_tile(path: Path, index: int) -> None:
    page = first_page(path)
    start, count = page.dataoffsets[index], page.databytecounts[index]
    with path.open("r+b") as stream:
        stream.seek(start)
        stream.write(b"\0" * count)


def test_a_damaged_tile_is_named_and_spoils_no_other(tmp_path: Path) -> None:
    path = tissue_slide(tmp_path / "damaged.svs")
    with opened(path) as slide:
        sound = slide.read_tile(0, 0, 0)
    damage_tile(path, len(first_page(path).dataoffsets) - 1)
    with opened(path) as slide:
        grid = slide.levels[0].grid(256)
        with pytest.raises(SlideError, match=rf"level 0 tile \({grid.rows - 1}, {grid.cols - 1}\)"):
            slide.read_tile(0, grid.rows - 1, grid.cols - 1)
        np.testing.assert_array_equal(slide.read_tile(0, 0, 0), sound)


def test_a_slide_damaged_where_the_readers_are_compared_still_opens(tmp_path: Path) -> None:
    path = tissue_slide(tmp_path / "damaged.svs", downsamples=())
    page = first_page(path)
    across = -(-page.imagewidth // page.tilewidth)
    middle = (page.imagelength // 2 // page.tilelength) * across + page.imagewidth // 2 // page.tilewidth
    damage_tile(path, middle)
    with opened(path) as slide:
        assert slide.read_tile(0, 0, 0).shape == (256, 256, 3)


def test_pixels_that_differ_from_openslides_are_not_used(tissue_svs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = TiffTiles.read

    def inverted(self: TiffTiles, level: int, x: int, y: int, width: int, height: int) -> object:
        region = read(self, level, x, y, width, height)
        return None if region is None else 255 - region

    monkeypatch.setattr(TiffTiles, "read", inverted)
    with opened(tissue_svs) as slide, opened(tissue_svs, SourceSettings(reader="openslide")) as shown:
        np.testing.assert_array_equal(slide.read_tile(0, 1, 1), shown.read_tile(0, 1, 1))
    with pytest.raises(SlideError, match="use --reader auto"):
        opened(tissue_svs, SourceSettings(reader="tiff"))


def test_the_cache_is_bounded_and_serves_neighbours(
    both: tuple[NativeSlide, TiffTiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tiles = both
    decoded: list[int] = []
    decode = jpeg.decode_jpeg

    def counted(whole: bytes, width: int, height: int) -> object:
        decoded.append(len(whole))
        return decode(whole, width, height)

    monkeypatch.setattr(tiff_tiles, "decode_jpeg", counted)
    assert tiles.read(0, 0, 0, 1000, 600) is not None
    first = len(decoded)
    assert tiles.read(0, 100, 100, 500, 300) is not None
    assert len(decoded) == first
    monkeypatch.setattr(tiff_tiles, "CACHE_BYTES", 3 * 240 * 240)
    assert tiles.read(0, 900, 600, 400, 400) is not None
    assert len(decoded) > first
    assert tiles._cached_bytes <= 3 * 256 * 256
    assert sum(tile.nbytes for tile in tiles._cache.values()) == tiles._cached_bytes


def test_threads_read_what_one_thread_reads(both: tuple[NativeSlide, TiffTiles]) -> None:
    _, tiles = both
    corners = [(x, y) for x in range(0, 1100, 130) for y in range(0, 800, 110)]
    alone = [tiles.read(0, x, y, 256, 256) for x, y in corners]
    tiles._cache.clear()
    tiles._cached_bytes = 0
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda corner: tiles.read(0, corner[0], corner[1], 256, 256), corners * 3))
    for k, region in enumerate(together):
        np.testing.assert_array_equal(region, alone[k % len(alone)])


def test_a_closed_slide_is_not_read(tissue_svs: Path) -> None:
    slide = opened(tissue_svs)
    slide.close()
    with pytest.raises(SlideError, match="closed"):
        slide.read_tile(0, 0, 0)


@pytest.mark.parametrize("tag", ["ImageWidth", "ImageLength"])
def test_a_size_that_does_not_fit_the_table_of_tiles_is_damage(tmp_path: Path, tag: str) -> None:
    """OpenSlide would open it, and show the tiles that there are in other places."""
    path = tmp_path / "a.tif"
    picture = np.random.default_rng(7).integers(0, 255, (768, 768, 3), np.uint8)
    tifffile.imwrite(path, picture, tile=(256, 256), compression="jpeg", photometric="rgb")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags[tag].overwrite(768 + 2**15)
    with pytest.raises(SlideError, match="has 9 tiles and needs"):
        opened(path)
