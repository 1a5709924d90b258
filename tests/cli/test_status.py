"""`wsicomp status`, and what `wsicomp encode` does with slide lists and parts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, fails
from wsicomp.slides.local import open_native
from wsicomp.store.reader import StoreReader

OPTIONS = ("--model", "perticarari2023", "--depth", "4")


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsicomp.slides.opening.ReaderProcess", open_native)
    for name in ("ID", "MIN", "MAX", "COUNT", "STEP"):
        monkeypatch.delenv(f"SLURM_ARRAY_TASK_{name}", raising=False)


@pytest.fixture
def csv(slide: Path, tmp_path: Path) -> Path:
    """A list of three slides, the second at half the resolution."""
    for name in ("b", "c"):
        shutil.copy(slide, tmp_path / f"{name}.svs")
    path = tmp_path / "slides.csv"
    path.write_text("slide,mpp,output\nslide.svs,,out/a.zarr\nb.svs,1.0,out\nc.svs,,out\n")
    return path


def stores(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.zarr"))


def test_a_slide_list_and_its_status(cli: Cli, csv: Path, tmp_path: Path) -> None:
    ended = cli("encode", "--list", csv, *OPTIONS, "--json")
    assert (ended.code, ended.err) == (0, "")
    results = ended.document["results"]
    assert [Path(result["store"]).name for result in results] == ["a.zarr", "b.zarr", "c.zarr"]
    with StoreReader(tmp_path / "out/b.zarr") as reader:
        assert reader.header.mpp == (1.0, 1.0)

    ended = cli("status", tmp_path, "--json")
    document = ended.document
    assert (ended.code, ended.err) == (0, "")
    assert {name: document[name] for name in ("slides", "done", "running", "failed", "queued", "eta_s")} == {
        **{"slides": 3, "done": 3, "running": 0, "failed": 0, "queued": 0},
        "eta_s": 0.0,
    }
    assert document["store_bytes"] == sum(result["store_bytes"] for result in results)
    assert document["results"][1]["store"] == "out/b.zarr"
    ended = cli("status", tmp_path)
    assert (ended.code, ended.err) == (0, "")
    counts, sizes = ended.out.splitlines()
    assert counts == "3 slides: 3 done, 0 running, 0 killed, 0 failed, 0 queued"
    assert sizes.startswith(f"{document['store_bytes']:,} bytes, 0.")
    assert sizes.endswith(" of the sources; time left: 0:00:00")

    again = cli("encode", "--list", csv, *OPTIONS, "--resume")
    assert again.out.count("complete already, skipped") == 3
    assert cli("status", tmp_path, "--json").document["done"] == 3


def test_failures_are_in_the_status(cli: Cli, csv: Path, tmp_path: Path) -> None:
    (tmp_path / "b.svs").unlink()
    ended = cli("encode", "--list", csv, *OPTIONS, "--skip-errors", "-o", tmp_path / "out")
    assert ended.code == 3
    ended = cli("status", tmp_path / "out")
    assert ended.code == 3
    (line,) = ended.err.splitlines()
    assert line.startswith("failed: ../b.svs: ")
    ended = cli("status", tmp_path / "out", "--json")
    assert (ended.code, ended.document["status"], ended.document["failed"]) == (3, "error", 1)


def test_a_killed_run_and_a_damaged_file(cli: Cli, csv: Path, tmp_path: Path) -> None:
    assert cli("encode", "--list", csv, *OPTIONS).code == 0
    path = tmp_path / "wsicomp-status.jsonl"
    *before, _ = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(before))
    ended = cli("status", tmp_path)
    assert ended.code == 3
    assert ended.err.startswith("killed: c.svs: ")
    document = cli("status", tmp_path, "--json").document
    assert {name: document[name] for name in ("status", "done", "running", "killed", "failed", "eta_s")} == {
        **{"status": "error", "done": 2, "running": 0, "killed": 1, "failed": 0},
        "eta_s": None,
    }
    path.write_bytes(b"".join(before).replace(b"queued", b"quexed", 1))
    fails(cli, tmp_path, 3, (f"{path} line 1", "damaged"), tmp_path, command="status")


def test_parts_do_all_slides_once(cli: Cli, csv: Path, tmp_path: Path) -> None:
    done = []
    for part in ("1/2", "2/2"):
        ended = cli("encode", "--list", csv, *OPTIONS, "--part", part, "-o", tmp_path / "out", "--json")
        assert (ended.code, ended.err) == (0, "")
        done.append([Path(result["slide"]).name for result in ended.document["results"]])
    assert done == [["slide.svs", "c.svs"], ["b.svs"]]
    assert stores(tmp_path / "out") == ["a.zarr", "b.zarr", "c.zarr"]
    assert cli("status", tmp_path / "out", "--json").document["done"] == 3


def test_more_parts_than_slides(cli: Cli, csv: Path, tmp_path: Path) -> None:
    ended = cli("encode", "--list", csv, *OPTIONS, "--part", "4/4", "--json")
    assert (ended.code, ended.document["results"]) == (0, [])
    assert stores(tmp_path / "out") == []
    assert not list(tmp_path.rglob("wsicomp-status*"))


def test_a_slurm_array_is_the_default_part(
    cli: Cli, csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ID", "12"), ("MIN", "10"), ("COUNT", "3")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    ended = cli("encode", "--list", csv, *OPTIONS)
    assert ended.code == 0
    (line,) = ended.err.splitlines()
    assert "part 3/3" in line
    assert stores(tmp_path / "out") == ["c.zarr"]
    ended = cli("encode", "--list", csv, *OPTIONS, "--part", "1/3")
    assert (ended.code, ended.err) == (0, "")
    assert stores(tmp_path / "out") == ["a.zarr", "c.zarr"]


def test_a_slurm_task_that_is_given_one_slide_does_it(cli: Cli, slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ID", "2"), ("MIN", "1"), ("COUNT", "9")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    ended = cli("encode", slide, *OPTIONS)
    assert (ended.code, ended.err) == (0, "")
    assert sorted(path.name for path in slide.parent.iterdir()) == ["slide.svs", "slide.zarr"]


def test_refusals(cli: Cli, csv: Path, slide: Path, tmp_path: Path) -> None:
    fails(cli, tmp_path, 2, ("--list", "exclude each other"), slide, "--list", csv, *OPTIONS)
    fails(cli, tmp_path, 2, ("no slides", "--list"), *OPTIONS)
    fails(cli, tmp_path, 3, ("none.csv", "no such file"), "--list", tmp_path / "none.csv", *OPTIONS)
    fails(cli, tmp_path, 2, ("part 3/2", "1/4"), "--list", csv, "--part", "3/2", *OPTIONS)
    fails(cli, tmp_path, 3, ("wsicomp-status",), tmp_path, command="status")
    (tmp_path / "c.svs").unlink()
    fails(cli, tmp_path, 3, ("slides.csv line 4", "c.svs"), "--list", csv, *OPTIONS)
