"""A target is met: by the best depth, at the quality next to it, and never by more bytes than are allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.factories import tissue_slide
from tests.pipeline.sources import PictureSource, picture
from wsicomp.errors import ConfigError, StoreTooLarge, TargetMissed
from wsicomp.models.registry import LoadedModel, load_model
from wsicomp.pipeline import batch, target
from wsicomp.pipeline.batch import Job, run
from wsicomp.pipeline.encode import encode_source
from wsicomp.pipeline.settings import EncodeSettings, Target
from wsicomp.pipeline.target import FINEST, Setting, TargetedCodec, choose, draw_sample, last_true
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.slides import SourceSettings
from wsicomp.slides.local import open_native


@pytest.fixture(scope="module")
def model(wsic_weights: Path) -> LoadedModel:
    return load_model(wsic_weights)


@pytest.fixture
def source() -> PictureSource:
    return PictureSource(picture(300, 200), 64)


@pytest.mark.parametrize("first_false", [0, 1, 37, FINEST, FINEST + 1])
def test_bisection_finds_the_last_that_holds(first_false: int) -> None:
    asked: list[int] = []

    def holds(sixteenths: int) -> bool:
        asked.append(sixteenths)
        return sixteenths < first_false

    assert last_true(holds) == (first_false - 1 if first_false else None)
    assert len(asked) <= 8
    assert set(asked) <= set(range(FINEST + 1))


@pytest.mark.parametrize(
    "given", [{}, {"bits_per_pixel": 0.4, "psnr_db": 30}, {"psnr_db": 0}, {"max_bytes": -1}, {"psnr_db": float("inf")}]
)
def test_targets_that_cannot_be(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"exclude one another|cannot be met"):
        Target(**given)


def test_a_rate_is_met_from_below_and_nearly(model: LoadedModel, source: PictureSource, tmp_path: Path) -> None:
    lowest = encode_source(source, tmp_path / "low.zarr", TileCodec(model, 4, quality=0)).bits_per_pixel
    highest = encode_source(source, tmp_path / "high.zarr", TileCodec(model, 4, quality=7)).bits_per_pixel
    wanted = (lowest + highest) / 2
    codec = choose(source, model, Target(bits_per_pixel=wanted), depth=4)
    made = encode_source(source, tmp_path / "made.zarr", codec)
    assert (made.depth, 0 < (made.quality or 0) < 7) == (4, True)
    assert made.bits_per_pixel == pytest.approx(wanted, rel=0.03)


def test_the_depth_of_the_most_psnr_is_taken_for_a_rate(
    model: LoadedModel, source: PictureSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "stream_bytes", lambda codec, _, s: 100 * s * (5 - codec.depth))
    monkeypatch.setattr(target, "measure", lambda codec, _, s: Setting(codec, s, 0.0, s * (6 - codec.depth)))
    # Depth 3 reaches half the quality of depth 4 with the same bytes, at 1.5 times its PSNR a step.
    codec = choose(source, model, Target(max_bytes=100_000))
    assert codec.depth == 4
    monkeypatch.setattr(target, "measure", lambda codec, _, s: Setting(codec, s, 0.0, s * (5 - codec.depth) ** 2))
    assert choose(source, model, Target(max_bytes=100_000)).depth == 3


def test_the_fewest_bytes_are_taken_for_a_psnr(
    model: LoadedModel, source: PictureSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(codec: TileCodec, _: object, sixteenths: int) -> Setting:
        return Setting(codec, sixteenths, 10 * sixteenths * (6 - codec.depth), 20 + 0.1 * sixteenths)

    monkeypatch.setattr(target, "measure", fake)
    codec = choose(source, model, Target(psnr_db=24.05))
    assert (codec.depth, codec.quality) == (4, 41 / 16)
    with pytest.raises(TargetMissed, match=r"picture: 40 dB cannot be reached; the finest setting gives 31.20 dB"):
        choose(source, model, Target(psnr_db=40))


def test_what_cannot_be_reached_is_refused(model: LoadedModel, source: PictureSource) -> None:
    with pytest.raises(TargetMissed, match=r"picture: 3,000 bytes cannot be reached; the smallest setting makes about"):
        choose(source, model, Target(max_bytes=3000))
    with pytest.raises(ConfigError, match="has no qualities to meet a target with"):
        choose(source, load_model("perticarari2023"), Target(bits_per_pixel=1))
    everywhere = frozenset(
        (level.index, row, col)
        for level in source.levels
        for row in range(level.grid(64).rows)
        for col in range(level.grid(64).cols)
    )
    glass = PictureSource(picture(300, 200), 64, glass=everywhere)
    with pytest.raises(ConfigError, match="holds no tissue"):
        choose(glass, model, Target(bits_per_pixel=1))


def test_a_sample_knows_what_lies_on_the_slide(source: PictureSource) -> None:
    sample = draw_sample(source, source.tissue())
    assert len(sample.tiles) == len(sample.sizes) <= target.SAMPLE_TILES
    assert {(64, 64), (64, 300 - 256), (200 - 192, 64)} <= {tuple(size) for size in sample.sizes.tolist()}


def settings_of(choice: TargetedCodec, **options: Any) -> EncodeSettings:
    return EncodeSettings(target=choice.target, source=SourceSettings(tissue_only=False), **options)


def outcome_of(slide: Path, choice: TargetedCodec, **options: Any) -> batch.Outcome:
    jobs = [Job(slide, slide.with_suffix(".zarr"))]
    (outcome,) = run(jobs, settings_of(choice, **options), choice)
    return outcome


@pytest.fixture
def slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("wsicomp.slides.opening.ReaderProcess", open_native)
    return tissue_slide(tmp_path / "slide.svs", 520, 300, downsamples=())


@pytest.mark.parametrize("zipped", [False, True])
def test_a_limit_of_bytes_is_never_passed(
    model: LoadedModel, slide: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = outcome_of(slide, TargetedCodec(model, Target(bits_per_pixel=8.0), 4), existing="replace").encoded
    assert free is not None
    limit = int(free.store_bytes * 0.7)
    # A sample that promises a tenth too little: the first store is too large, and must not be put in place.
    honest = target.stream_bytes
    monkeypatch.setattr(target, "stream_bytes", lambda *words: 0.9 * honest(*words))
    choice = TargetedCodec(model, Target(max_bytes=limit), 4)
    store = slide.with_suffix(".zarr.zip" if zipped else ".zarr")
    (outcome,) = run([Job(slide, store)], settings_of(choice, existing="replace", zipped=zipped), choice)
    assert outcome.encoded is not None, outcome.error
    assert 0.8 * limit < outcome.encoded.store_bytes <= limit
    size = store.stat().st_size if zipped else sum(f.stat().st_size for f in store.rglob("*") if f.is_file())
    assert size == outcome.encoded.store_bytes


def test_a_store_that_stays_too_large_leaves_nothing(
    model: LoadedModel, slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "stream_bytes", lambda *_: 0.0)
    outcome = outcome_of(slide, TargetedCodec(model, Target(max_bytes=20_000), 3))
    assert isinstance(outcome.error, StoreTooLarge)
    assert [path.name for path in slide.parent.iterdir()] == ["slide.svs"]


def test_resume_keeps_what_meets_the_target(model: LoadedModel, slide: Path) -> None:
    asked = TargetedCodec(model, Target(bits_per_pixel=6.0))
    made = outcome_of(slide, asked)
    assert made.encoded is not None
    assert outcome_of(slide, asked, existing="resume").status == "skipped"
    other = TargetedCodec(model, Target(bits_per_pixel=5.0))
    assert isinstance(outcome_of(slide, other, existing="resume").error, ConfigError)
    enough = TargetedCodec(model, Target(max_bytes=made.encoded.store_bytes))
    assert outcome_of(slide, enough, existing="resume").status == "skipped"
    less = TargetedCodec(model, Target(max_bytes=made.encoded.store_bytes - 1))
    assert isinstance(outcome_of(slide, less, existing="resume").error, ConfigError)
