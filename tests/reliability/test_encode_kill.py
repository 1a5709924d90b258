"""Kill `wsicomp encode` at forty random moments: what opens is always whole, and the next run always succeeds."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from wsicomp.cli.main import execute
from wsicomp.errors import StoreError
from wsicomp.slides.local import open_native
from wsicomp.store.reader import StoreReader
from wsicomp.store.verify import verify

KILLS = 40
PROBE_S = 0.2
"""About what the child's look at the slide from a process of its own takes."""

COMMAND = ("--depth", "3", "--overwrite", "--workers", "2", "--device", "cpu")
SLOW_START = ("wsicomp.pipeline.batch", "wsicomp.evaluation.fidelity", "skimage.filters", "zarr")


def encode_again_and_again(slide: str, begun: Event) -> None:
    """Child: run the whole command until killed."""
    import torch

    torch.set_num_threads(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    begun.set()
    while execute(["encode", slide, *COMMAND]) == 0:
        pass


def wait_for(path: Path) -> None:
    """Wait until something stands there, at most a minute."""
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.001)


def is_complete(store: Path) -> bool:
    """Whether a store opens as complete; fail unless every byte of one that does is sound."""
    try:
        StoreReader(store).close()
    except StoreError:
        return False
    assert verify(store) == []
    return True


@pytest.mark.usefixtures("one_torch_thread")
@pytest.mark.parametrize("replaces", [False, True], ids=["first encode", "overwrite"])
def test_no_killed_run_leaves_a_store_that_opens_but_is_not_whole(
    tmp_path: Path, tissue_svs: Path, encoded_once: Path, monkeypatch: pytest.MonkeyPatch, replaces: bool
) -> None:
    # a fork server that has imported everything, because a fresh interpreter for each kill would spend its life on that
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.reliability.test_encode_kill", *SLOW_START])
    # the parent's own writes need no sync: a kill, unlike a power cut, loses nothing that was written
    monkeypatch.setattr("os.fsync", lambda _: None)
    # nor a child of its own to find out that the slide is sound
    monkeypatch.setattr("wsicomp.slides.opening.ReaderProcess", open_native)
    shutil.copy(tissue_svs, tmp_path / "timed.svs")
    execute(["encode", str(tmp_path / "timed.svs"), *COMMAND])
    begin = time.perf_counter()
    execute(["encode", str(tmp_path / "timed.svs"), *COMMAND])
    one_encode_s = time.perf_counter() - begin + PROBE_S

    moments = random.Random(7)  # noqa: S311
    complete = []
    for kill in range(KILLS // 2):
        folder = tmp_path / str(kill)
        folder.mkdir()
        slide, store = Path(shutil.copy(tissue_svs, folder / "slide.svs")), folder / "slide.zarr"
        if replaces:
            shutil.copytree(encoded_once, store)
        begun = context.Event()
        child = context.Process(target=encode_again_and_again, args=(str(slide), begun), daemon=True)
        child.start()
        assert begun.wait(60)
        if kill % 2:
            time.sleep(moments.uniform(0, 1.5 * one_encode_s))
        else:  # at any moment of the writing itself, the first of them included
            wait_for(folder / "slide.zarr.partial")
            time.sleep(moments.uniform(0, 0.2 * one_encode_s) if kill else 0)
        child.kill()
        child.join()
        complete.append((is_complete(store), (folder / "slide.zarr.partial").exists()))
        assert execute(["encode", str(slide), "--overwrite" if replaces else "--resume", "--device", "cpu"]) == 0
        assert is_complete(store)
        assert sorted(path.name for path in folder.iterdir()) == ["slide.svs", "slide.zarr"]
        shutil.rmtree(folder)
    assert any(partial for _, partial in complete), "no run was killed while it wrote"
    if not replaces:
        assert not all(whole for whole, _ in complete), "no run was killed before its first end"
