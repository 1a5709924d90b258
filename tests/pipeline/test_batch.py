"""Many slides: which store each becomes, and that what goes wrong with one touches no other."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.sources import files_of
from wsicomp.errors import ConfigError, SlideError, StoreError
from wsicomp.pipeline.batch import Job, Outcome, check_stores, plan, run
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.target import FixedCodec
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.slides import SourceSettings
from wsicomp.slides.local import open_native
from wsicomp.store.reader import StoreReader

CodecAt = Callable[[int], TileCodec]


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child process for each slide is of use where slides may be damaged; the command's tests have such."""
    monkeypatch.setattr("wsicomp.slides.opening.ReaderProcess", open_native)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.SVS", "a.tiff", "notes.txt", "c.ndpi"):
        (tmp_path / name).touch()
    (tmp_path / "d.svs").mkdir()
    return tmp_path


def test_slides_of_a_folder_in_order(folder: Path) -> None:
    jobs = plan([folder], None)
    assert [job.slide.name for job in jobs] == ["a.tiff", "b.SVS", "c.ndpi"]
    assert [job.store for job in jobs] == [folder / "a.zarr", folder / "b.zarr", folder / "c.zarr"]


@pytest.mark.parametrize(
    ("output", "zipped", "store"),
    [
        (None, False, "in/x.zarr"),
        (None, True, "in/x.zarr.zip"),
        ("out", False, "out/x.zarr"),
        ("out", True, "out/x.zarr.zip"),
        ("out/y.zarr", False, "out/y.zarr"),
        ("out/y.zarr.zip", True, "out/y.zarr.zip"),
    ],
)
def test_where_a_store_goes(output: str | None, zipped: bool, store: str) -> None:
    assert plan([Path("in/x.any")], Path(output) if output else None, zipped=zipped) == [
        Job(Path("in/x.any"), Path(store))
    ]


@pytest.mark.parametrize(
    ("inputs", "output", "zipped", "message"),
    [
        (["x.svs", "y.svs"], "one.zarr", False, "2 slides"),
        (["x.svs"], "one.zarr", True, "ends in .zarr.zip"),
        (["x.svs"], "one.zarr.zip", False, "ends in .zarr"),
        (["x.svs", "x.tif"], None, False, "x.svs and x.tif: would both become"),
        (["1/x.svs", "2/x.svs"], "out", False, "would both become"),
        (["x.svs", "x.svs"], None, False, "would both become"),
        (["1/x.svs", "./1/x.svs"], None, False, "would both become"),
    ],
)
def test_plans_that_would_lose_a_slide_are_refused(
    inputs: Sequence[str], output: str | None, zipped: bool, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan([Path(name) for name in inputs], Path(output) if output else None, zipped=zipped)


def test_two_slides_for_one_store_are_refused_through_links(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(ConfigError, match="would both become"):
        plan([tmp_path / "in/x.svs", tmp_path / "link/x.tif"], None)


@pytest.mark.parametrize("linked", [False, True])
def test_a_store_inside_a_store_is_refused(slide: Path, codec_at: CodecAt, linked: bool) -> None:
    outcomes(slide, codec_at(4))
    outer = slide.with_suffix(".zarr")
    if linked:
        outer = slide.with_name("link.zarr")
        outer.symlink_to(slide.with_suffix(".zarr"))
    before = files_of(slide.with_suffix(".zarr"))
    for output in (outer / "inner.zarr", outer / "deep" / "folder", outer / "latents" / "inner.zarr"):
        with pytest.raises(ConfigError, match="lies inside the store"):
            plan([slide], output)
    assert files_of(slide.with_suffix(".zarr")) == before


def test_a_store_inside_one_of_the_same_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match="lies inside the store"):
        check_stores([Job(Path("a.svs"), Path("a.zarr")), Job(Path("b.svs"), Path("a.zarr/b.zarr"))])


def test_a_file_where_a_folder_is_needed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    for output in ("out", "out/deeper", "out/x.zarr"):
        with pytest.raises(ConfigError, match="out is a file where a folder is needed"):
            plan([Path("x.svs")], tmp_path / output)


def test_a_folder_without_slides_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match="no slide in this folder"):
        plan([tmp_path], None)


def outcomes(slide: Path, codec: TileCodec, settings: SourceSettings | None = None, **options: Any) -> list[Outcome]:
    jobs = [Job(slide, slide.with_suffix(".zarr"))]
    asked = EncodeSettings(source=settings or SourceSettings(tissue_only=False), **options)
    return list(run(jobs, asked, FixedCodec(codec)))


def test_what_goes_wrong_with_one_touches_no_other(slide: Path, codec_at: CodecAt) -> None:
    other = Path(shutil.copy(slide, slide.with_name("other.svs")))
    bad = slide.with_name("bad.svs")
    bad.write_bytes(b"no slide at all")
    jobs = [Job(path, path.with_suffix(".zarr")) for path in (slide, bad, other)]
    found = list(run(jobs, EncodeSettings(), FixedCodec(codec_at(4))))
    assert [outcome.status for outcome in found] == ["ok", "failed", "ok"]
    assert isinstance(found[1].error, SlideError)
    assert not bad.with_suffix(".zarr").exists()
    for path in (slide, other):
        with StoreReader(path.with_suffix(".zarr")) as reader:
            assert reader.header.depth == 4


def test_what_the_system_refuses_is_a_store_error(
    slide: Path, codec_at: CodecAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    (outcome,) = outcomes(slide, codec_at(4))
    assert isinstance(outcome.error, StoreError)
    assert "permission denied" in str(outcome.error)
    assert [path.name for path in slide.parent.iterdir()] == ["slide.svs"]


def test_a_slide_without_tissue_is_warned_of(slide: Path, codec_at: CodecAt) -> None:
    heard: list[str] = []
    jobs = [Job(slide, slide.with_suffix(".zarr"))]
    glass = EncodeSettings(source=SourceSettings(tissue_threshold=255))
    (outcome,) = run(jobs, glass, FixedCodec(codec_at(4)), warn=heard.append)
    assert outcome.encoded is not None
    assert outcome.encoded.tissue_tiles == 0
    assert [f"{slide}: {message}" for message in outcome.encoded.warnings] == heard
    assert [message for message in heard if "no tile holds tissue" in message]
