"""Damaged and hostile slides: each is one line of error, the next slide is encoded, and memory stays bounded."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile

from tests.cli.conftest import Cli, cli
from tests.factories import tissue_slide
from tests.slides.opened import opened
from wsicomp.errors import SlideDamaged, SlideError
from wsicomp.slides import SourceSettings, open_source
from wsicomp.slides.settings import Reader

__all__ = ["cli"]

FLIPS = 60
SIDE = 240
"""Side of the tiles of the slides made here, in the file and in what is read of it."""


def first_page(path: Path) -> tifffile.TiffPage:
    with tifffile.TiffFile(path) as tiff:
        return tiff.pages.first


def change(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def wide_tiles(path: Path) -> None:
    """Claim tiles of 100,000 pixels in width."""
    page = first_page(path)
    content = path.read_bytes()
    # The entry of TileWidth, a SHORT as the maker writes it, becomes a LONG.
    at = page.tags[322].offset
    assert content[at : at + 2] == struct.pack("<H", 322)
    change(path, at + 2, struct.pack("<HII", 4, 1, 100_000))


def huge_jpeg(path: Path) -> None:
    """Claim 65,500 x 65,500 pixels in the header of the JPEG of every tile."""
    content = bytearray(path.read_bytes())
    page = first_page(path)
    for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
        at = content.index(b"\xff\xc0", offset, offset + size)
        content[at + 5 : at + 9] = struct.pack(">2H", 65_500, 65_500)
    path.write_bytes(content)


def looping_directories(path: Path) -> None:
    """Make the last directory point at the first."""
    with tifffile.TiffFile(path) as tiff:
        last, first = tiff.pages[-1].offset, tiff.pages[0].offset
        width = 8 if tiff.is_bigtiff else 4
    with path.open("rb") as file:
        file.seek(last)
        (entries,) = struct.unpack("<Q" if width == 8 else "<H", file.read(8 if width == 8 else 2))
    link = last + (8 + 20 * entries if width == 8 else 2 + 12 * entries)
    change(path, link, struct.pack("<Q" if width == 8 else "<I", first))


def cut_short(path: Path) -> None:
    """Cut the file after its first directory and some of its tiles."""
    path.write_bytes(path.read_bytes()[: first_page(path).dataoffsets[7] + 10])


def endless_image(path: Path) -> None:
    """Claim 4,000,000,000 pixels in width and in height."""
    for tag in (256, 257):
        at = first_page(path).tags[tag].offset
        change(path, at + 2, struct.pack("<HII", 4, 1, 4_000_000_000))


HOSTILE = [wide_tiles, huge_jpeg, looping_directories, cut_short, endless_image]


@pytest.mark.parametrize("reader", ["auto", "openslide"])
@pytest.mark.parametrize("harm", HOSTILE)
def test_a_hostile_slide_is_a_typed_error_or_is_read(
    tmp_path: Path, harm: Callable[[Path], None], reader: Reader
) -> None:
    path = tissue_slide(tmp_path / "hostile.svs", 700, 600, downsamples=())
    harm(path)
    before = psutil.Process().memory_info().rss
    message = None
    try:
        with open_source(path, SourceSettings(tile_size=SIDE, reader=reader)) as source:
            source.tissue()
            for tile in source.levels[0].grid(SIDE):
                source.read_tile(0, tile.row, tile.col)
    except SlideError as error:
        message = str(error)
    if message is None:
        assert harm is looping_directories
    else:
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
    assert psutil.Process().memory_info().rss - before < 2**28


@pytest.mark.parametrize("harm", [wide_tiles, huge_jpeg, cut_short])
def test_the_next_slide_of_a_batch_is_encoded(cli: Cli, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    hostile = tissue_slide(tmp_path / "a-hostile.svs", 700, 600, downsamples=())
    harm(hostile)
    sound = tissue_slide(tmp_path / "b-sound.svs", 700, 600, downsamples=())
    ended = cli("encode", hostile, sound, "-o", tmp_path / "out", "--depth", 4, "--device", "cpu", "--skip-errors")
    assert ended.code == 3
    assert f"{hostile}: " in ended.err
    assert [store.name for store in (tmp_path / "out").glob("*.zarr")] == ["b-sound.zarr"]


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, tuple[int, int]]]:
    """Slides of which one bit of one JPEG tile is flipped, and the row and column of the tile."""
    sound = tissue_slide(tmp_path_factory.mktemp("flips") / "sound.svs", 700, 600, downsamples=())
    page, content = first_page(sound), sound.read_bytes()
    chance = random.Random(11)  # noqa: S311 - any flips will do, the same each time
    slides = []
    for flip in range(FLIPS):
        index = chance.randrange(len(page.dataoffsets))
        bit = chance.randrange(8 * page.databytecounts[index])
        damaged = bytearray(content)
        damaged[page.dataoffsets[index] + bit // 8] ^= 1 << bit % 8
        path = sound.with_name(f"{flip}.svs")
        path.write_bytes(damaged)
        slides.append((path, divmod(index, -(-700 // SIDE))))
    return slides


def refuses(path: Path, place: tuple[int, int], reader: Reader) -> bool:
    with opened(path, SourceSettings(tile_size=SIDE, reader=reader)) as source:
        try:
            source.read_tile(0, *place)
        except SlideDamaged:
            return True
    return False


def test_every_flip_that_openslide_refuses_is_refused(flipped: list[tuple[Path, tuple[int, int]]]) -> None:
    ours = [refuses(path, place, "auto") for path, place in flipped]
    openslides = [refuses(path, place, "openslide") for path, place in flipped]
    assert all(own for own, shown in zip(ours, openslides, strict=True) if shown)
    assert sum(openslides) >= FLIPS // 6


def test_a_marked_tile_is_plain_and_listed(flipped: list[tuple[Path, tuple[int, int]]]) -> None:
    path, place = next(damaged for damaged in flipped if refuses(*damaged, "auto"))
    with open_source(path.with_name("sound.svs"), SourceSettings(tile_size=SIDE)) as sound:
        whole = {(tile.row, tile.col): sound.read_tile(0, tile.row, tile.col) for tile in sound.levels[0].grid(SIDE)}
    with (
        open_source(path, SourceSettings(tile_size=SIDE)) as refusing,
        pytest.raises(SlideDamaged, match=re.escape(f"{path}: level 0 tile {place} cannot be read")),
    ):
        refusing.read_tile(0, *place)
    with open_source(path, SourceSettings(tile_size=SIDE, on_damage="mark")) as source:
        assert source.tissue().tiles[0][place]
        assert not source.damaged
        for at, pixels in whole.items():
            tile = source.read_tile(0, *at)
            if at == place:
                assert (tile == (255, 0, 255)).all()
            else:
                np.testing.assert_array_equal(tile, pixels)
        assert source.damaged == ((0, *place),)


def test_a_place_that_kills_the_process_can_be_marked(tmp_path: Path) -> None:
    path = tissue_slide(tmp_path / "hostile.svs", 700, 600, downsamples=())
    huge_jpeg(path)
    settings = SourceSettings(tile_size=SIDE, reader="openslide", on_damage="mark", tissue_only=False)
    with open_source(path, settings) as source:
        tiles = [source.read_tile(0, tile.row, tile.col) for tile in source.levels[0].grid(SIDE)]
        assert len(source.damaged) == len(tiles)
        assert all((tile == (255, 0, 255)).all() for tile in tiles)
