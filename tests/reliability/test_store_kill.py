"""Kill the writer of a store at forty random moments: what opens is always whole, and the next run always succeeds."""

from __future__ import annotations

import multiprocessing
import random
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from tests.store.stores import Content, assert_holds, make_content, write_content
from wsicomp.errors import StoreError
from wsicomp.store.reader import StoreReader
from wsicomp.store.verify import verify

KILLS = 40
OLD = make_content(seed=3, width_px=30, height_px=20, max_levels=1, icc_profile=None)
NEW = make_content(seed=2, width_px=300, height_px=40, max_levels=1, icc_profile=None)


def write_again_and_again(path: Path, begun: Event) -> None:
    """Child: replace a store by the new content until killed."""
    begun.set()
    while True:
        write_content(path, NEW, overwrite=True)


def content_at(path: Path) -> Content | None:
    """Which of the two contents stands at `path`, compared tile by tile; None if nothing opens as complete."""
    try:
        reader = StoreReader(path)
    except StoreError:
        return None
    with reader:
        content = NEW if reader.header == NEW.header else OLD
        assert_holds(reader, content)
    assert verify(path) == []
    return content


@pytest.mark.parametrize("replaces", [False, True], ids=["first write", "overwrite"])
def test_no_killed_run_leaves_a_store_that_opens_but_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaces: bool
) -> None:
    # a fork server, because a fresh interpreter for each kill would spend its life on imports
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.store.stores"])
    write_content(tmp_path / "timed.zarr", NEW)
    begin = time.perf_counter()
    write_content(tmp_path / "timed.zarr", NEW, overwrite=True)
    one_write_s = time.perf_counter() - begin
    # the parent's own writes need no sync: a kill, unlike a power cut, loses nothing that was written
    monkeypatch.setattr("os.fsync", lambda _: None)

    moments = random.Random(11)  # noqa: S311
    found = []
    for kill in range(KILLS // 2):
        path = tmp_path / str(kill) / "slide.zarr"
        path.parent.mkdir()
        if replaces:
            write_content(path, OLD)
        begun = context.Event()
        child = context.Process(target=write_again_and_again, args=(path, begun), daemon=True)
        child.start()
        assert begun.wait(60)
        time.sleep(moments.uniform(0, 1.2 * one_write_s))
        child.kill()
        child.join()
        found.append(content_at(path))
        if replaces and found[-1] is None:
            old = path.with_name("slide.zarr.replaced").rename(path)
            assert content_at(path) is not None
            path.rename(old.with_name("slide.zarr.replaced"))
        write_content(path, NEW, overwrite=True)
        assert content_at(path) is NEW
        assert [entry.name for entry in path.parent.iterdir()] == ["slide.zarr"]
    assert any(content is not NEW for content in found), "no run was killed before it ended"
