"""`wsicomp encode` of pictures, folders of folders, and slides of which a tile cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import wsicomp
from tests.cli.conftest import Cli, fails
from tests.factories import tissue_image

OPTIONS = ("--depth", 4, "--device", "cpu")


def test_folders_of_patches_become_a_store_each(cli: Cli, tmp_path: Path) -> None:
    for name, left in (("a/1.png", 10), ("b/2.jpg", 40)):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tissue_image(260, 200, left, 10)).save(tmp_path / "in" / name)
    cli("encode", tmp_path / "in").failed(2, "no slide in this folder", "--recursive")
    ended = cli("encode", tmp_path / "in", "--recursive", "-o", tmp_path / "out", *OPTIONS)
    assert ended.code == 0, ended.err
    with wsicomp.open(tmp_path / "out" / "a" / "1.zarr") as slide:
        decoded = np.asarray(slide.read_region((0, 0), 0, (260, 200)).convert("RGB")).astype(float)
    assert np.abs(decoded - tissue_image(260, 200, 10, 10)).mean() < 20
    assert (tmp_path / "out" / "b" / "2.zarr").is_dir()


def test_marked_tiles_are_printed_counted_and_recorded(cli: Cli, slide: Path) -> None:
    with tifffile.TiffFile(slide) as tiff:
        page = tiff.pages.first
        start, size = page.dataoffsets[2 * 6 + 2], page.databytecounts[2 * 6 + 2]
    content = bytearray(slide.read_bytes())
    content[start : start + size] = bytes(size)
    slide.write_bytes(content)
    command = ("encode", slide, "-o", slide.parent / "out", "--json", "--levels", 1, *OPTIONS)
    refused = cli(*command)
    assert refused.code == 3
    assert f"{slide}: level 0 tile (1, 1) cannot be read" in refused.err
    ended = cli(*command, "--on-damage", "mark")
    assert ended.code == 0, ended.err
    (result,) = json.loads(ended.out)["results"]
    # The file's tile of 240 px at (480, 480) touches four tiles of 256 px.
    assert result["damaged_tiles"] == [[0, 1, 1], [0, 1, 2], [0, 2, 1], [0, 2, 2]]
    assert "4 tiles cannot be read and are marked: level 0 tile (1, 1), level 0 tile (1, 2)" in ended.err
    store = slide.parent / "out" / "slide.zarr"
    assert cli("info", store, "--json").document["damaged_tiles"] == result["damaged_tiles"]
    verified = cli("verify", store, "--json")
    assert verified.code == 0
    assert verified.document["results"][0]["marked_tiles"] == result["damaged_tiles"]
    assert "4 tiles could not be read from the slide and are marked" in verified.err
    cli(*command, "--resume").failed(2, "holds 4 marked tiles", "--on-damage mark")
    kept = cli(*command, "--resume", "--on-damage", "mark")
    assert kept.code == 0
    assert kept.document["results"][0]["damaged_tiles"] == result["damaged_tiles"]
    assert "4 tiles cannot be read and are marked" in kept.err


def test_a_store_of_a_sound_slide_marks_nothing(cli: Cli, slide: Path) -> None:
    assert cli("encode", slide, "-o", slide.parent / "a.zarr", "--on-damage", "mark", *OPTIONS).code == 0
    assert not (slide.parent / "a.zarr" / "damaged").exists()
    assert cli("info", slide.parent / "a.zarr", "--json").document["damaged_tiles"] == []


@pytest.mark.parametrize("options", [("--on-damage", "ignore"), ("--on-damage", "mark", "--scheduler", "tcp://x:1")])
def test_impossible_wishes_for_damage_are_refused(cli: Cli, slide: Path, options: tuple[str, ...]) -> None:
    fails(cli, slide.parent, 2, ("mark",), slide, *options)
