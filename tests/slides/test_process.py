"""A slide read by another process has the same pixels, and what becomes of that process costs one place at most."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.factories import tissue_slide
from tests.slides.opened import opened
from wsicomp.errors import SlideDamaged, SlideError
from wsicomp.slides import SourceSettings, open_source
from wsicomp.slides.local import open_native
from wsicomp.slides.process import MAX_DEATHS, ReaderProcess
from wsicomp.slides.serve import MEMORY_BYTES

BLOCK = (0, 0, 0, 1, range(64), range(64), "level 0 tile (0, 0)")


def children() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [child for child in found if "wsicomp.slides.serve" in child.cmdline()]


@pytest.fixture
def reader(tissue_svs: Path) -> ReaderProcess:
    return ReaderProcess(tissue_svs)


def test_pixels_facts_and_tissue_are_those_of_this_process(tissue_svs: Path) -> None:
    before = tissue_svs.read_bytes()
    settings = SourceSettings(tile_size=64)
    with open_source(tissue_svs, settings) as source, opened(tissue_svs, settings) as slide:
        assert source.info == slide.info
        assert source.levels == slide.levels
        assert source.tissue().rule == slide.tissue().rule
        places = [(level.index, tile.row, tile.col) for level in slide.levels for tile in level.grid(64)]
        with ThreadPoolExecutor(12) as pool:
            tiles = list(pool.map(lambda place: source.read_tile(*place), places))
        for place, tile in zip(places, tiles, strict=True):
            np.testing.assert_array_equal(tile, slide.read_tile(*place))
    assert tissue_svs.read_bytes() == before
    assert not children()


def test_a_dead_process_costs_nothing_where_the_slide_is_sound(reader: ReaderProcess, tissue_svs: Path) -> None:
    sound = open_native(tissue_svs).read_block(*BLOCK)
    (child,) = children()
    child.kill()
    child.wait()
    with ThreadPoolExecutor(4) as pool:
        for block in pool.map(lambda _: reader.read_block(*BLOCK), range(8)):
            np.testing.assert_array_equal(block, sound)
    reader.close()
    assert not children()


def test_a_process_that_hangs_is_given_up_and_the_place_is_named(tissue_svs: Path) -> None:
    # The place hangs every process that reads it: the one under way is stopped, and those after it open too slowly.
    reader = ReaderProcess(tissue_svs, timeout_s=20)
    reader._timeout_s = 0.001
    assert reader._child is not None
    reader._child._timeout_s = 0.2
    (child,) = children()
    for sending, _ in list(reader._child._free.queue):
        sending.settimeout(0.2)
    child.suspend()
    while child.status() != psutil.STATUS_STOPPED:  # its other threads still run until the first has seen the signal
        time.sleep(0.001)
    with pytest.raises(SlideError, match=rf"{re.escape(str(tissue_svs))}: the process .* within 0\.001 s"):
        reader.read_block(*BLOCK)
    reader.close()
    assert not children()


def test_a_slide_that_does_not_open_in_time_is_refused(tissue_svs: Path) -> None:
    with pytest.raises(SlideError, match=r"does not answer within 0\.001 s"):
        ReaderProcess(tissue_svs, timeout_s=0.001)
    assert not children()


def test_a_place_that_kills_every_process_is_named_and_others_are_read(
    reader: ReaderProcess, tissue_svs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A block of 40,000 x 40,000 cells needs more memory than the process may have.
    side = range(40_000)
    with pytest.raises(SlideDamaged, match=re.escape(f"{tissue_svs}: level 0 tile (7, 7) cannot be read: the process")):
        reader.read_block(0, 0, 0, 1 / 64, side, side, "level 0 tile (7, 7)")
    assert reader.read_block(*BLOCK).shape == (64, 64, 4)
    reader._deaths = MAX_DEATHS
    with pytest.raises(SlideError, match="too many places"):
        reader.read_block(0, 0, 0, 1 / 64, side, side, "level 0 tile (7, 7)")
    assert psutil.Process().memory_info().rss < MEMORY_BYTES
    reader.close()


def test_a_closed_slide_says_so(reader: ReaderProcess) -> None:
    reader.close()
    with pytest.raises(SlideError, match="closed"):
        reader.read_block(*BLOCK)
    reader.close()


def test_a_slide_that_is_let_go_of_ends_its_process(tissue_svs: Path) -> None:
    source = open_source(tissue_svs)
    assert len(children()) == 1
    del source
    gc.collect()
    assert not children()


def test_signals_of_a_terminal_do_not_end_it(reader: ReaderProcess) -> None:
    (child,) = children()
    child.send_signal(signal.SIGINT)
    child.send_signal(signal.SIGTERM)
    assert reader.read_block(*BLOCK).shape == (64, 64, 4)
    assert children() == [child]
    reader.close()


def test_a_process_ends_when_its_owner_is_killed(tissue_svs: Path) -> None:
    code = (
        "import os, sys, wsicomp.slides; source = wsicomp.slides.open_source(sys.argv[1]); "
        "print(source._native._child.end.peek()[2][0].pid, flush=True); os.kill(os.getpid(), 9)"
    )
    owner = subprocess.run([sys.executable, "-c", code, str(tissue_svs)], capture_output=True, check=False)
    child = int(owner.stdout)
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


def test_modules_in_the_working_folder_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = tissue_slide(tmp_path / "slide.svs", 300, 300, downsamples=())
    (tmp_path / "numpy.py").write_text(f"open({os.fspath(tmp_path / 'was-here')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    open_source(slide).close()
    assert not (tmp_path / "was-here").exists()
