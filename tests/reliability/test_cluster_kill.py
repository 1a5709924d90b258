"""Kill what takes part in a cluster: a worker costs nothing but time, scheduler and client leave no store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dask_cluster import DaskCluster
from wsicomp.cli.main import execute
from wsicomp.slides.local import open_native
from wsicomp.store.manifest import MANIFEST

OPTIONS = ("--model", "perticarari2023", "--depth", "3", "--tile-size", "16", "--all-tiles", "--device", "cpu")
"""Five rows of shards at level 0 of 1408 tiles each, so that there is a middle to kill something in."""

WAIT_S = 120


@pytest.fixture
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with DaskCluster(tmp_path_factory.mktemp("dask")) as found:
        yield found


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch, one_torch_thread: None) -> None:
    monkeypatch.setattr("wsicomp.slides.opening.ReaderProcess", open_native)


def wait_for(happened: Callable[[], object]) -> None:
    until = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.002)


def in_the_middle(partial: Path) -> bool:
    """Whether some shards of level 0 are written, and not all."""
    return 0 < len(list(partial.glob("latents/0/c/0/*/*"))) < 20


def busy(address: str) -> set[str]:
    """Names of the workers that have work."""
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        return {str(workers[key]["name"]) for key, tasks in client.processing().items() if tasks}


def test_a_worker_that_dies_in_the_middle_changes_no_byte(dask: DaskCluster, slide: Path, tmp_path: Path) -> None:
    assert execute(["encode", str(slide), *OPTIONS, "-o", str(tmp_path / "alone.zarr")]) == 0
    killed_in_the_middle = []

    def kill() -> None:
        wait_for(lambda: in_the_middle(tmp_path / "helped.zarr.partial"))
        busy_ones = busy(dask.address)
        dask.kill(0)
        killed_in_the_middle.append(in_the_middle(tmp_path / "helped.zarr.partial") and "0" in busy_ones)

    killer = threading.Thread(target=kill)
    killer.start()
    arguments = ["encode", str(slide), *OPTIONS, "-o", str(tmp_path / "helped.zarr"), "--scheduler", dask.address]
    assert execute(arguments) == 0
    killer.join()
    assert killed_in_the_middle == [True]
    manifests = [(tmp_path / name / MANIFEST).read_bytes() for name in ("alone.zarr", "helped.zarr")]
    assert manifests[0] == manifests[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.zarr", "helped.zarr", "slide.svs"]


def start_client(slide: Path, address: str) -> subprocess.Popen[str]:
    """Encode in a process of its own, whose stderr is all that there is."""
    arguments = ["encode", str(slide), *OPTIONS, "--scheduler", address]
    return subprocess.Popen(
        [sys.executable, "-c", "from wsicomp.cli.main import run; run()", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
    )


def complaints(err: str) -> list[str]:
    """Lines of stderr but for progress."""
    return [line for line in err.splitlines() if not line.startswith("encode: ")]


def test_a_scheduler_that_dies_is_one_line_and_leaves_nothing(dask: DaskCluster, slide: Path) -> None:
    client = start_client(slide, dask.address)
    wait_for(lambda: in_the_middle(slide.with_name("slide.zarr.partial")) or client.poll() is not None)
    dask.scheduler.kill()
    _, err = client.communicate(timeout=WAIT_S)
    assert client.returncode == 3
    (line,) = complaints(err)
    assert line.startswith(f"wsicomp: error: {slide}: the Dask scheduler is gone")
    assert [path.name for path in slide.parent.iterdir()] == ["slide.svs"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_a_client_that_dies_leaves_no_store_and_workers_go_on(
    dask: DaskCluster, slide: Path, signum: signal.Signals
) -> None:
    client = start_client(slide, dask.address)
    partial = slide.with_name("slide.zarr.partial")
    wait_for(lambda: in_the_middle(partial) or client.poll() is not None)
    client.send_signal(signum)
    _, err = client.communicate(timeout=WAIT_S)
    if signum == signal.SIGINT:
        assert client.returncode == 130
        assert complaints(err) == [
            "wsicomp: stopping after this batch of tiles",
            "wsicomp: error: interrupted; nothing half-written is left",
        ]
        assert [path.name for path in slide.parent.iterdir()] == ["slide.svs"]
        time.sleep(1)  # what the workers still had to do brings nothing back
        assert [path.name for path in slide.parent.iterdir()] == ["slide.svs"]
    assert not slide.with_suffix(".zarr").exists()
    assert execute(["encode", str(slide), *OPTIONS, "--scheduler", dask.address, "--resume"]) == 0
    assert execute(["encode", str(slide), *OPTIONS, "-o", str(slide.with_name("alone.zarr"))]) == 0
    manifests = [(slide.with_name(name) / MANIFEST).read_bytes() for name in ("alone.zarr", "slide.zarr")]
    assert manifests[0] == manifests[1]
