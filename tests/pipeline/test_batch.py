"""Many slides: which store each becomes, and that what goes wrong with one touches no other."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.sources import files_of
from wsicomp.errors import ConfigError, SlideError, StoreError
from wsicomp.pipeline.batch import Job, Outcome, plan, run
from wsicomp.pipeline.floor import Floor
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.target import FixedCodec
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.slides import SourceSettings
from wsicomp.store.reader import StoreReader

CodecAt = Callable[[int], TileCodec]


@pytest.fixture(autouse=True)
def _no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child process for each slide is of use where slides may be damaged; the command's tests have such."""
    monkeypatch.setattr("wsicomp.slides.probe.probe", lambda _: None)


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
    ],
)
def test_plans_that_would_lose_a_slide_are_refused(
    inputs: Sequence[str], output: str | None, zipped: bool, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan([Path(name) for name in inputs], Path(output) if output else None, zipped=zipped)


def test_a_folder_without_slides_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match="no slide in this folder"):
        plan([tmp_path], None)


def outcomes(slide: Path, codec: TileCodec, settings: SourceSettings | None = None, **options: Any) -> list[Outcome]:
    jobs = [Job(slide, slide.with_suffix(".zarr"))]
    asked = EncodeSettings(source=settings or SourceSettings(tissue_only=False), **options)
    return list(run(jobs, asked, FixedCodec(codec)))


def test_resume_skips_what_is_whole_and_says_what_it_is(slide: Path, codec_at: CodecAt) -> None:
    (made,) = outcomes(slide, codec_at(3))
    (again,) = outcomes(slide, codec_at(3), existing="resume")
    assert (made.status, again.status) == ("ok", "skipped")
    assert made.encoded is not None
    assert again.encoded == replace(made.encoded, seconds=0.0)


def flip(store: Path) -> None:
    shard = store / "latents/0/c/0/0/0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


def lose_shard(store: Path) -> None:
    (store / "latents/0/c/0/0/0").unlink()


def unfinish(store: Path) -> None:
    store.rename(store.with_name(store.name + ".partial"))
    (store.with_name(store.name + ".partial") / "manifest.json").unlink()


def lose_manifest(store: Path) -> None:
    (store / "manifest.json").unlink()


@pytest.mark.parametrize("damage", [flip, lose_shard, unfinish, lose_manifest])
def test_resume_makes_again_what_is_not_whole(slide: Path, codec_at: CodecAt, damage: Callable[[Path], None]) -> None:
    store = slide.with_suffix(".zarr")
    outcomes(slide, codec_at(3))
    before = files_of(store)
    damage(store)
    (outcome,) = outcomes(slide, codec_at(3), existing="resume")
    assert outcome.status == "ok"
    assert files_of(store) == before
    assert sorted(path.name for path in slide.parent.iterdir()) == ["slide.svs", "slide.zarr"]


@pytest.mark.parametrize(
    ("depth", "settings"), [(2, {}), (3, {"tile_size": 128}), (3, {"mpp": 2.0})], ids=["depth", "tile size", "mpp"]
)
def test_resume_does_not_take_a_store_of_other_settings_for_done(
    slide: Path, codec_at: CodecAt, depth: int, settings: dict[str, Any]
) -> None:
    outcomes(slide, codec_at(3))
    before = files_of(slide.parent)
    (outcome,) = outcomes(slide, codec_at(depth), SourceSettings(**settings), existing="resume")
    assert isinstance(outcome.error, ConfigError)
    assert "other settings" in str(outcome.error)
    assert files_of(slide.parent) == before


FLOOR = Floor(min_psnr_db=20)


def test_resume_of_a_store_with_a_floor_says_what_it_is(slide: Path, codec_at: CodecAt) -> None:
    (made,) = outcomes(slide, codec_at(3), floor=FLOOR)
    (again,) = outcomes(slide, codec_at(3), floor=Floor(min_psnr_db=20), existing="resume")
    assert (made.status, again.status) == ("ok", "skipped")
    assert made.encoded is not None
    assert made.encoded.jpegxl_tiles > 0
    assert again.encoded == replace(made.encoded, seconds=0.0)


@pytest.mark.parametrize(
    ("made", "asked"),
    [(FLOOR, None), (None, FLOOR), (FLOOR, Floor(min_psnr_db=21)), (FLOOR, Floor(20, 0.5))],
    ids=["without", "with", "higher", "more"],
)
def test_resume_tells_floors_apart(slide: Path, codec_at: CodecAt, made: Floor | None, asked: Floor | None) -> None:
    outcomes(slide, codec_at(3), floor=made)
    before = files_of(slide.parent)
    (outcome,) = outcomes(slide, codec_at(3), floor=asked, existing="resume")
    assert isinstance(outcome.error, ConfigError)
    assert "other settings" in str(outcome.error)
    assert files_of(slide.parent) == before


def test_resume_of_a_slide_that_is_gone(slide: Path, codec_at: CodecAt) -> None:
    outcomes(slide, codec_at(3))
    slide.unlink()
    (outcome,) = outcomes(slide, codec_at(3), existing="resume")
    assert isinstance(outcome.error, SlideError)


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
