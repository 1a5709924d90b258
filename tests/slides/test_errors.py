"""Files that are no slides or damaged ones: one line that names the file and says what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.factories import tissue_slide
from tests.slides.opened import opened
from wsicomp.errors import SlideError
from wsicomp.slides import open_source
from wsicomp.slides.describe import describe
from wsicomp.slides.settings import SourceSettings


def cut_short(tmp_path: Path) -> Path:
    path = tissue_slide(tmp_path / "cut.svs")
    content = path.read_bytes()
    # The first directory still stands, the pixels of its last tiles do not.
    path.write_bytes(content[: len(content) // 3])
    return path


def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "notes.svs"
    path.write_text("Patient: CANARY")
    return path


def empty_file(tmp_path: Path) -> Path:
    path = tmp_path / "empty.svs"
    path.touch()
    return path


def folder(tmp_path: Path) -> Path:
    return tmp_path


def missing(tmp_path: Path) -> Path:
    return tmp_path / "missing.svs"


def headless(tmp_path: Path) -> Path:
    path = tissue_slide(tmp_path / "headless.svs")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages.first.offset
    content[offset : offset + 40] = bytes(40)
    path.write_bytes(content)
    return path


CASES = [
    (cut_short, "copy it again"),
    (text_file, "not a slide"),
    (empty_file, "empty"),
    (folder, "folder"),
    (missing, "no such file"),
    (headless, "copy it again"),
]


@pytest.mark.parametrize("use", [opened, describe, open_source])
@pytest.mark.parametrize(("make", "says"), CASES)
def test_bad_files_are_one_line(
    tmp_path: Path, use: Callable[[Path], object], make: Callable[[Path], Path], says: str
) -> None:
    path = make(tmp_path)
    with pytest.raises(SlideError, match=says) as caught:
        use(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "CANARY" not in message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_unreadable_file(tissue_svs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(SlideError, match=r"Permission denied.*permissions"):
        opened(tissue_svs)


@pytest.fixture
def damaged_svs(tmp_path: Path) -> Path:
    """A slide whose file tile (row 2, col 3) of level 0, 240 px wide, is not JPEG any more."""
    path = tissue_slide(tmp_path / "damaged.svs")
    with tifffile.TiffFile(path) as tiff:
        index = 2 * -(-1400 // 240) + 3
        offset, size = tiff.pages.first.dataoffsets[index], tiff.pages.first.databytecounts[index]
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = b"\xa5" * size
    path.write_bytes(content)
    return path


def test_damaged_tile_is_named_and_spares_the_others(damaged_svs: Path, tissue_svs: Path) -> None:
    with (
        opened(damaged_svs, SourceSettings(tile_size=240)) as slide,
        opened(tissue_svs, SourceSettings(tile_size=240)) as sound,
    ):
        for _ in range(2):
            with pytest.raises(SlideError, match=re.escape(f"{damaged_svs}: level 0 tile (2, 3) cannot be read")):
                slide.read_tile(0, 2, 3)
            np.testing.assert_array_equal(slide.read_tile(0, 2, 2), sound.read_tile(0, 2, 2))


def test_damage_met_by_one_thread_does_not_reach_the_others(damaged_svs: Path) -> None:
    with opened(damaged_svs, SourceSettings(tile_size=240)) as slide:
        places = [tile for tile in slide.levels[0].grid(240) for _ in range(3)]

        def fails(row: int, col: int) -> bool:
            try:
                slide.read_tile(0, row, col)
            except SlideError:
                return True
            return False

        with ThreadPoolExecutor(6) as pool:
            failed = list(pool.map(lambda tile: fails(tile.row, tile.col), places))
    assert [(tile.row, tile.col) == (2, 3) for tile in places] == failed


def test_closed_slide_says_so(tissue_svs: Path) -> None:
    with opened(tissue_svs) as slide:
        pass
    with pytest.raises(SlideError, match="closed"):
        slide.read_tile(0, 0, 0)
