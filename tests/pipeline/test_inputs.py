"""Folders stand for the slides or the pictures in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsicomp.errors import ConfigError
from wsicomp.pipeline.batch import plan
from wsicomp.pipeline.inputs import slides_in


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_slides_come_before_pictures_and_pictures_alone_are_patches(tmp_path: Path) -> None:
    make(tmp_path, "both/b.svs", "both/a.TIF", "both/preview.png", "both/notes.txt", "patches/2.jpg", "patches/1.png")
    assert slides_in(tmp_path / "both") == [tmp_path / "both" / "a.TIF", tmp_path / "both" / "b.svs"]
    assert slides_in(tmp_path / "patches") == [tmp_path / "patches" / "1.png", tmp_path / "patches" / "2.jpg"]


def test_folders_of_folders_are_searched_where_that_is_asked(tmp_path: Path) -> None:
    make(tmp_path, "b/x/1.svs", "a/2.svs", ".hidden/3.svs", "old.zarr/4.svs", "a/.5.svs")
    with pytest.raises(ConfigError, match=r"no slide in this folder.*--recursive"):
        slides_in(tmp_path)
    assert slides_in(tmp_path, recursive=True) == [tmp_path / "a" / "2.svs", tmp_path / "b" / "x" / "1.svs"]


def test_stores_lie_in_the_folders_of_their_slides(tmp_path: Path) -> None:
    make(tmp_path, "in/a/1.svs", "in/b/1.svs", "in/1.svs", "alone.svs")
    inputs = [tmp_path / "in", tmp_path / "alone.svs"]
    jobs = plan(inputs, tmp_path / "out", recursive=True)
    stores = [job.store.relative_to(tmp_path / "out").as_posix() for job in jobs]
    assert stores == ["1.zarr", "a/1.zarr", "b/1.zarr", "alone.zarr"]
    beside = plan(inputs, None, recursive=True)
    assert all(job.store == job.slide.with_suffix(".zarr") for job in beside)
    assert [job.slide.name for job in plan(inputs, tmp_path / "out")] == ["1.svs", "alone.svs"]
