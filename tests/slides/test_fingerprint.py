"""A fingerprint tells two slides apart and knows one again by any name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.factories import tissue_slide
from wsicomp.errors import SlideError
from wsicomp.slides import open_source
from wsicomp.slides.fingerprint import BLOCK_BYTES, BLOCKS, fingerprint, parts_of

LARGE = 3 * BLOCKS * BLOCK_BYTES


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.svs"
    path.write_bytes(os.urandom(LARGE))
    return path


def test_a_source_has_the_fingerprint_of_its_file_by_any_name(tissue_svs: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(tissue_svs, tmp_path / "another name.svs"))
    other = tissue_slide(tmp_path / "other.svs", jpeg_quality=84)
    found = []
    for path in (tissue_svs, copy, other):
        with open_source(path) as source:
            found.append(source.info.fingerprint)
    assert found[0] == found[1] == fingerprint(tissue_svs, 1400, 1100)
    assert found[2] != found[0]
    assert found[0] is not None
    assert len(bytes.fromhex(found[0])) == 32


@pytest.mark.parametrize("offset", [0, BLOCK_BYTES - 1, LARGE // 2 - LARGE // 30, LARGE - BLOCK_BYTES, LARGE - 1])
def test_a_byte_of_head_tail_or_sample_changes_it(large: Path, offset: int) -> None:
    # Block 7 of 0 to 15 lies a thirtieth of the file before the middle.
    before = fingerprint(large, 1000, 1000)
    with large.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
    assert fingerprint(large, 1000, 1000) != before


def test_size_and_dimensions_change_it(large: Path) -> None:
    before = fingerprint(large, 1000, 1000)
    assert before == fingerprint(large, 1000, 1000)
    assert before != fingerprint(large, 1000, 1001)
    assert fingerprint(large, 11, 1) != fingerprint(large, 1, 11)
    with large.open("ab") as file:
        file.write(b"\0")
    assert fingerprint(large, 1000, 1000) != before


def mirax(folder: Path, name: str, parts: dict[str, bytes]) -> Path:
    slide = folder / f"{name}.mrxs"
    slide.write_bytes(b"the picture of the slide as a whole")
    (folder / name).mkdir()
    for part, content in parts.items():
        (folder / name / part).write_bytes(content)
    return slide


def test_all_files_of_mirax_count_and_their_names_do_not(tmp_path: Path) -> None:
    one = mirax(tmp_path, "one", {"Data0000.dat": b"first", "Data0001.dat": b"second", "Slidedat.ini": b"index"})
    two = mirax(tmp_path, "two", {"b.dat": b"first", "a.dat": b"second", "Slidedat.ini": b"index"})
    three = mirax(tmp_path, "three", {"Data0000.dat": b"first", "Data0001.dat": b"secund", "Slidedat.ini": b"index"})
    assert len(parts_of(one)) == 4
    assert fingerprint(one, 1, 1) == fingerprint(two, 1, 1) != fingerprint(three, 1, 1)


def test_all_files_that_an_index_names_count(tmp_path: Path) -> None:
    (tmp_path / "pixels.jpg").write_bytes(b"pixels")
    (tmp_path / "stranger.jpg").write_bytes(b"another slide's")
    index = tmp_path / "slide.vms"
    index.write_bytes(b"[Virtual Microscope Specimen]\r\nImageFile=pixels.jpg\r\nMapFile=not-there.jpg\r\n")
    assert parts_of(index) == [index, tmp_path / "pixels.jpg"]
    before = fingerprint(index, 1, 1)
    (tmp_path / "pixels.jpg").write_bytes(b"pixel5")
    assert fingerprint(index, 1, 1) != before


def test_a_file_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"gone\.svs: cannot be read \(No such file or directory\); check"):
        fingerprint(tmp_path / "gone.svs", 1, 1)
