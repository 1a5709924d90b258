"""Resume: a store is kept if it is this slide's, whole and of these settings, and another slide's is never touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.factories import tissue_slide
from tests.pipeline.sources import files_of
from wsicomp.errors import ConfigError, SlideError, StoreError, StoreVersion
from wsicomp.pipeline.batch import Job, Outcome, run
from wsicomp.pipeline.floor import Floor
from wsicomp.pipeline.resume import check_same_slide
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.target import FixedCodec
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.slides import SourceSettings, open_source
from wsicomp.store.reader import StoreReader

CodecAt = Callable[[int], TileCodec]


def outcomes(slide: Path, codec: TileCodec, settings: SourceSettings | None = None, **options: Any) -> list[Outcome]:
    jobs = [Job(slide, slide.with_suffix(".zarr"))]
    asked = EncodeSettings(source=settings or SourceSettings(tissue_only=False), **options)
    return list(run(jobs, asked, FixedCodec(codec)))


def test_resume_skips_what_is_whole_and_says_what_it_is(slide: Path, codec_at: CodecAt) -> None:
    (made,) = outcomes(slide, codec_at(3))
    (again,) = outcomes(slide, codec_at(3), existing="resume")
    assert (made.status, again.status) == ("ok", "skipped")
    assert made.encoded is not None
    assert again.encoded == replace(made.encoded, seconds=0.0, fidelity=None)


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
    ("depth", "settings"),
    [
        (2, {}),
        (3, {"tile_size": 128}),
        (3, {"mpp": 2.0}),
        (3, {"tissue_threshold": 20}),
        (3, {"tissue_only": False}),
    ],
    ids=["depth", "tile size", "mpp", "threshold", "all tiles"],
)
def test_resume_does_not_take_a_store_of_other_settings_for_done(
    slide: Path, codec_at: CodecAt, depth: int, settings: dict[str, Any]
) -> None:
    outcomes(slide, codec_at(3), SourceSettings())
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
    assert again.encoded == replace(made.encoded, seconds=0.0, fidelity=None)


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


def test_resume_never_replaces_a_store_of_a_newer_format(slide: Path, codec_at: CodecAt) -> None:
    outcomes(slide, codec_at(3))
    metadata = slide.with_suffix(".zarr") / "zarr.json"
    metadata.write_bytes(metadata.read_bytes().replace(b'"format_version":2', b'"format_version":3'))
    before = files_of(slide.parent)
    (outcome,) = outcomes(slide, codec_at(3), existing="resume")
    assert isinstance(outcome.error, StoreVersion)
    assert files_of(slide.parent) == before


def another(slide: Path) -> Path:
    """Write another slide of the same name and size elsewhere."""
    (slide.parent / "elsewhere").mkdir()
    return tissue_slide(slide.parent / "elsewhere" / slide.name, jpeg_quality=84)


@pytest.mark.parametrize("damage", [None, flip])
def test_resume_never_takes_another_slides_store(
    slide: Path, codec_at: CodecAt, damage: Callable[[Path], None] | None
) -> None:
    store = slide.with_suffix(".zarr")
    outcomes(slide, codec_at(3))
    if damage is not None:
        damage(store)
    before = files_of(store)
    settings = EncodeSettings(source=SourceSettings(tissue_only=False), existing="resume")
    (outcome,) = run([Job(another(slide), store)], settings, FixedCodec(codec_at(3)))
    assert outcome.status == "failed"
    assert isinstance(outcome.error, StoreError)
    assert outcome.error.exit_code == 3
    assert "holds another slide" in str(outcome.error)
    assert files_of(store) == before


def test_resume_knows_a_slide_again_by_another_name(slide: Path, codec_at: CodecAt) -> None:
    outcomes(slide, codec_at(3))
    moved = slide.rename(slide.with_name("moved.svs"))
    settings = EncodeSettings(source=SourceSettings(tissue_only=False), existing="resume")
    (outcome,) = run([Job(moved, slide.with_suffix(".zarr"))], settings, FixedCodec(codec_at(3)))
    assert outcome.status == "skipped"
    assert outcome.encoded is not None
    assert not outcome.encoded.warnings


def test_a_store_without_a_fingerprint_is_told_by_its_bytes(slide: Path, codec_at: CodecAt) -> None:
    outcomes(slide, codec_at(3))
    store = slide.with_suffix(".zarr")
    with StoreReader(store) as reader, open_source(slide, SourceSettings(tissue_only=False)) as source:
        old = replace(reader.header, source_fingerprint=None)
        assert check_same_slide(reader.header, source, store) is None
        assert "not say for certain" in (check_same_slide(old, source, store) or "")
        assert "not say for certain" in (check_same_slide(replace(old, source_bytes=None), source, store) or "")
        with pytest.raises(StoreError, match="another slide"):
            check_same_slide(replace(old, source_bytes=7), source, store)


def test_resume_of_a_slide_that_is_gone(slide: Path, codec_at: CodecAt) -> None:
    outcomes(slide, codec_at(3))
    slide.unlink()
    (outcome,) = outcomes(slide, codec_at(3), existing="resume")
    assert isinstance(outcome.error, SlideError)
