"""`wsicomp encode --scheduler`, on a real scheduler with two worker processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tifffile

from tests.cli.conftest import Cli, fails, listing
from tests.dask_cluster import DaskCluster
from wsicomp.pipeline import cluster
from wsicomp.slides.local import open_native
from wsicomp.store.verify import verify

MODEL = ("--model", "perticarari2023")
SMALL = (*MODEL, "--depth", "3", "--tile-size", "32")
"""Tiles so small that a slide of the tests has several rows of shards."""


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with DaskCluster(tmp_path_factory.mktemp("dask")) as found:
        yield found


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsicomp.slides.opening.ReaderProcess", open_native)


@pytest.mark.parametrize(
    "options",
    [
        SMALL,
        (*SMALL, "--zip"),
        (*MODEL, "--tile-size", "64", "--levels", "2", "--min-psnr", "24"),
        (*MODEL, "--tile-size", "64", "--levels", "2", "--keep-prediction", "bright.onnx"),
        ("--model", "own.safetensors", "--depth", "4", "--quality", "3", "--tile-size", "64"),
    ],
    ids=["plain", "zip", "floor", "guard", "wsic"],
)
def test_the_store_is_the_same_as_without_a_cluster(
    cli: Cli, dask: DaskCluster, slide: Path, options: tuple[str, ...], bright_onnx: Path, wsic_weights: Path
) -> None:
    if "bright.onnx" in options:
        shutil.copy(bright_onnx, "bright.onnx")
    if "own.safetensors" in options:
        shutil.copy(wsic_weights, "own.safetensors")
    name = "a.zarr.zip" if "--zip" in options else "a.zarr"
    alone = cli("encode", slide, *options, "-o", Path("alone", name), "--json")
    ended = cli("encode", slide.name, *options, "-o", Path("helped", name), "--json", "--scheduler", dask.address)
    assert ended.code == 0
    assert "wsicomp:" not in ended.err
    assert listing(Path("helped")) == listing(Path("alone"))
    results = [{**run.document["results"][0], "seconds": 0, "slide": "", "store": ""} for run in (alone, ended)]
    assert results[0] == results[1]


def test_a_batch_with_a_status(cli: Cli, dask: DaskCluster, slide: Path, tmp_path: Path) -> None:
    shutil.copy(slide, tmp_path / "other.svs")
    (tmp_path / "bad.svs").write_text("no slide")
    options = (*SMALL, "--scheduler", dask.address, "-o", "out", "--skip-errors")
    assert cli("encode", tmp_path, *options).code == 3
    assert [verify(tmp_path / f"out/{name}.zarr") for name in ("slide", "other")] == [[], []]
    status = cli("status", "out", "--json").document
    assert (status["done"], status["failed"]) == (2, 1)
    ended = cli("encode", tmp_path, *options, "--resume")
    assert ended.out.count("complete already, skipped") == 2


def test_a_damaged_tile_is_one_line_and_leaves_no_store(
    cli: Cli, dask: DaskCluster, slide: Path, tissue_svs: Path
) -> None:
    with tifffile.TiffFile(slide) as tiff:
        offset = tiff.pages.first.dataoffsets[12]
    with slide.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(400))
    words = (str(slide), "level 0 tile", "damaged")
    fails(cli, slide.parent, 3, words, slide, *MODEL, "--all-tiles", "--scheduler", dask.address)
    sound = cli("encode", tissue_svs, *MODEL, "--all-tiles", "-o", "sound.zarr", "--scheduler", dask.address)
    assert sound.code == 0, "an error that is a slide's own has no effect on the workers"


def test_a_slide_that_was_replaced_is_not_taken_for_the_old_one(
    cli: Cli, dask: DaskCluster, slide: Path, canary_svs: Path
) -> None:
    for source in (slide, canary_svs):
        shutil.copyfile(source, "x.svs")
        assert cli("encode", "x.svs", *SMALL, "-o", "alone.zarr", "--overwrite").code == 0
        assert cli("encode", "x.svs", *SMALL, "-o", "a.zarr", "--overwrite", "--scheduler", dask.address).code == 0
        assert listing(Path("a.zarr")) == listing(Path("alone.zarr"))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "tcp://none.invalid:8786", "abacus://1", "127.0.0.1:9"])
def test_a_scheduler_that_is_not_there(cli: Cli, slide: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 1.0)
    shutil.copy(slide, "other.svs")
    words = (address, "no Dask scheduler answers", "dask scheduler")
    fails(cli, slide.parent, 2, words, slide, "other.svs", *MODEL, "--scheduler", address)
