"""`wsicomp encode --dry-run`, and --recursive, which decide what a batch would write and where."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, fails, listing
from wsicomp.slides.local import open_native


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slides that are known to be sound need no process of their own."""
    monkeypatch.setattr("wsicomp.slides.opening.ReaderProcess", open_native)


@pytest.mark.usefixtures("in_this_process")
def test_a_dry_run_writes_nothing_and_comes_near(cli: Cli, slide: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(slide, tmp_path / "other.svs"))
    before = listing(tmp_path)
    options = (slide, other, "-o", tmp_path / "out", "--depth", "4")
    ended = cli("encode", *options, "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    first, second, total = ended.out.splitlines()
    for line, name in ((first, "slide"), (second, "other")):
        assert line.startswith(f"{tmp_path / 'out' / name}.zarr: would be made: depth 4, quality 4, ")
    assert total.startswith("2 stores: about ")
    document = cli("encode", *options, "--dry-run", "--json").document
    assert (document["status"], document["dry_run"], len(document["results"])) == ("ok", True, 2)
    assert listing(tmp_path) == before

    made = cli("encode", *options, "--json").document["results"]
    for guess, result in zip(document["results"], made, strict=True):
        assert guess["tissue_tiles"] == result["tissue_tiles"]
        assert guess["store_bytes"] == pytest.approx(result["store_bytes"], rel=0.5)
    ended = cli("encode", *options, "--dry-run", "--json")
    assert (ended.code, len(ended.document["failures"])) == (2, 2)
    assert cli("encode", *options, "--dry-run", "--skip-errors").code == 3
    assert "would be kept" in cli("encode", *options, "--dry-run", "--resume").out


@pytest.mark.usefixtures("in_this_process")
def test_folders_in_a_folder(cli: Cli, slide: Path, tmp_path: Path) -> None:
    for name in ("in/a/1.svs", "in/b/1.svs", "in/2.svs"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(slide, tmp_path / name)
    options = (tmp_path / "in", "--depth", "4", "--mpp", "2", "-o", tmp_path / "out")
    ended = cli("encode", *options, "--recursive")
    assert (ended.code, ended.err) == (0, "")
    stores = ["2.zarr", "a/1.zarr", "b/1.zarr"]
    for number, (line, store) in enumerate(zip(ended.out.splitlines(), stores, strict=True), 1):
        assert line.startswith(f"slide {number} of 3: {tmp_path / 'out' / store}: depth 4")
    assert cli("encode", *options, "--resume").out.splitlines()[1:] == []
    fails(cli, tmp_path, 2, ("no slide in this folder", "--recursive"), tmp_path / "out", "--depth", "4")
