"""Staging: the same stores from copies, a slide ahead, and nothing left behind whatever happens."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.factories import tissue_slide
from wsicomp.errors import ConfigError, SlideError
from wsicomp.pipeline.batch import Job, run
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.staging import Stage
from wsicomp.pipeline.target import FixedCodec
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.slides import SourceSettings


@pytest.fixture
def slides(tmp_path: Path) -> list[Path]:
    (tmp_path / "far").mkdir()
    return [tissue_slide(tmp_path / "far" / f"{name}.svs", 96, 80) for name in "ab"]


@pytest.fixture
def near(tmp_path: Path) -> Path:
    (tmp_path / "near").mkdir()
    return tmp_path / "near"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_stores_are_the_same_and_no_copy_is_left(
    slides: list[Path], near: Path, tmp_path: Path, codec_at: Callable[[int], TileCodec]
) -> None:
    def encode(folder: str, stage: Stage | None) -> dict[str, bytes]:
        jobs = [Job(slide, tmp_path / folder / f"{slide.stem}.zarr") for slide in slides]
        settings = EncodeSettings(source=SourceSettings(tile_size=32, tissue_only=False))
        outcomes = run(jobs, settings, FixedCodec(codec_at(3)), stage=stage)
        assert [outcome.status for outcome in outcomes] == ["ok", "ok"]
        return files(tmp_path / folder)

    with Stage(near) as stage:
        staged = encode("staged", stage)
        assert not files(near)
    assert staged == encode("direct", None)
    assert not list(near.iterdir())


def test_the_next_slide_is_copied_meanwhile(slides: list[Path], near: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied, copyfile = list[Path](), shutil.copyfile

    def watch(source: Path, target: Path) -> None:
        copied.append(source)
        copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", watch)
    with Stage(near) as stage:
        with stage.local(slides[0]) as first:
            assert first.read_bytes() == slides[0].read_bytes()
            stage.ahead(slides[1])
            stage._copies[slides[1]].result(timeout=60)
            assert copied == slides
            assert first.exists()
        assert not first.exists()
        with stage.local(slides[1]) as second:
            assert second.read_bytes() == slides[1].read_bytes()
    assert copied == slides


def test_what_is_wrong_with_a_copy_is_said_of_the_slide(slides: list[Path], near: Path) -> None:
    with Stage(near) as stage, pytest.raises(SlideError) as caught, stage.local(slides[0]) as copy:
        raise SlideError(f"{copy}: no slide")
    assert str(caught.value) == f"{slides[0]}: no slide"
    assert not list(near.iterdir())


def test_a_slide_that_cannot_be_copied_is_an_error_of_that_slide(
    slides: list[Path], near: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with Stage(near) as stage:
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "copyfile", full)
            with pytest.raises(SlideError, match=r"a\.svs: cannot be copied"), stage.local(slides[0]):
                pass
        with stage.local(slides[0]) as copy:
            assert copy.exists()


@pytest.mark.parametrize("name", ["many.mrxs", "gone.svs"])
def test_slides_of_many_files_and_slides_that_are_not_there_are_left_where_they_are(tmp_path: Path, name: str) -> None:
    slide = tmp_path / name
    if name == "many.mrxs":
        slide.touch()
    with Stage(tmp_path) as stage, stage.local(slide) as path:
        assert path == slide


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be staged"), Stage(tmp_path / "none"):
        pass
