"""What encoding would do: close to what it then does, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipeline.sources import files_of
from wsicomp.errors import ConfigError, SlideError
from wsicomp.pipeline.batch import Job, run
from wsicomp.pipeline.estimate import estimates
from wsicomp.pipeline.floor import Floor
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.target import FixedCodec
from wsicomp.pipeline.tile_codec import TileCodec

CodecAt = Callable[[int], TileCodec]


@pytest.mark.parametrize("floor", [None, Floor(min_psnr_db=26)], ids=["plain", "floor"])
def test_an_estimate_is_near_what_is_made_and_writes_nothing(
    slide: Path, codec_at: CodecAt, floor: Floor | None
) -> None:
    jobs = [Job(slide, slide.with_name("out") / "slide.zarr")]
    settings, choice = EncodeSettings(floor=floor), FixedCodec(codec_at(3))
    before = files_of(slide.parent)
    (found,) = estimates(jobs, settings, choice)
    assert files_of(slide.parent) == before
    assert not jobs[0].store.parent.exists()
    (outcome,) = run(jobs, settings, choice)
    made = outcome.encoded
    assert made is not None
    assert found.action == "make"
    assert (found.depth, found.quality) == (made.depth, made.quality)
    assert (found.tiles, found.tissue_tiles) == (made.tiles, made.tissue_tiles)
    assert found.store_bytes == pytest.approx(made.store_bytes, rel=0.25)
    assert found.seconds is not None
    assert found.seconds > 0


def test_what_would_become_of_a_store_that_exists(slide: Path, codec_at: CodecAt) -> None:
    jobs, choice = [Job(slide, slide.with_suffix(".zarr"))], FixedCodec(codec_at(4))
    (made,) = run(jobs, EncodeSettings(), choice)
    assert made.encoded is not None
    (refused,) = estimates(jobs, EncodeSettings(), choice)
    assert refused.action == "fail"
    assert isinstance(refused.error, ConfigError)
    (replaced,) = estimates(jobs, EncodeSettings(existing="replace"), choice)
    assert replaced.action == "replace"
    (kept,) = estimates(jobs, EncodeSettings(existing="resume"), choice)
    assert (kept.action, kept.store_bytes, kept.seconds) == ("keep", made.encoded.store_bytes, 0)


def test_a_slide_that_cannot_be_read_is_no_end(slide: Path, codec_at: CodecAt) -> None:
    bad = slide.with_name("bad.svs")
    bad.write_bytes(b"no slide at all")
    jobs = [Job(path, path.with_suffix(".zarr")) for path in (bad, slide)]
    failed, made = estimates(jobs, EncodeSettings(), FixedCodec(codec_at(4)))
    assert (failed.action, made.action) == ("fail", "make")
    assert isinstance(failed.error, SlideError)
