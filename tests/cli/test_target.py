"""`wsicomp encode` towards a target."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.factories import tissue_slide
from wsicomp.slides.local import open_native


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsicomp.slides.opening.ReaderProcess", open_native)


def test_a_limit_picks_depth_and_quality(cli: Cli, slide: Path, wsic_weights: Path) -> None:
    (free,) = cli("encode", slide, "--model", wsic_weights, "--depth", 4, "--json").document["results"]
    limit = int(0.9 * free["store_bytes"])
    ended = cli("encode", slide, "--model", wsic_weights, "--max-bytes", limit, "--overwrite", "--json")
    (result,) = ended.document["results"]
    assert result["store_bytes"] <= limit
    assert result["depth"] in (3, 4)
    assert cli("verify", slide.with_suffix(".zarr"), "--model", wsic_weights).code == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--bits-per-pixel", 0.4, "--psnr", 30], 2, "exclude one another; give one"),
        (["--psnr", 30, "--quality", 4], 2, "a target decides the quality"),
        (["--max-bytes", 0], 2, "cannot be met; give a number above 0"),
        (["--max-bytes", 2000], 4, "2,000 bytes cannot be reached; the smallest setting makes about"),
        (["--psnr", 90], 4, "90 dB cannot be reached; the finest setting gives"),
        (["--reader", "fast"], 2, "reader fast is unknown; use auto, openslide or tiff"),
        (["--on-damage", "ignore"], 2, "a damaged tile is one to refuse or to mark; ignore is unknown"),
    ],
)
def test_one_line_for_what_cannot_be(
    cli: Cli, slide: Path, wsic_weights: Path, words: list[object], code: int, message: str
) -> None:
    cli("encode", slide, "--model", wsic_weights, *words).failed(code, message)
    assert not slide.with_suffix(".zarr").exists()


def test_a_target_out_of_reach_leaves_no_folder(cli: Cli, slide: Path, wsic_weights: Path, tmp_path: Path) -> None:
    for target in ("--max-bytes", 2000), ("--psnr", 90):
        cli("encode", slide, "--model", wsic_weights, *target, "-o", tmp_path / "new/below/a.zarr").failed(4)
    assert not (tmp_path / "new").exists()


def test_the_study_has_no_qualities(cli: Cli, slide: Path) -> None:
    ended = cli("encode", slide, "--model", "perticarari2023", "--bits-per-pixel", 0.5)
    ended.failed(2, "perticarari2023: has no qualities to meet a target with")


def test_readers_make_equal_stores(cli: Cli, tmp_path: Path) -> None:
    slide, made = tissue_slide(tmp_path / "jpeg.svs", 600, 400), {}
    for reader in ("openslide", "tiff", "auto"):
        store = tmp_path / f"{reader}.zarr"
        assert cli("encode", slide, "-o", store, "--reader", reader).code == 0
        made[reader] = (store / "manifest.json").read_bytes()
    assert made["openslide"] == made["tiff"] == made["auto"]
