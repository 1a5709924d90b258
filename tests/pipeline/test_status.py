"""The status file: whole lines whatever happens, parts merged, the last event of a store counts."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from wsicomp.errors import SlideError, StoreError
from wsicomp.pipeline.batch import Job, Outcome
from wsicomp.pipeline.encoded import Encoded
from wsicomp.pipeline.part import Part
from wsicomp.pipeline.status import StatusLog, read_status


def jobs_in(folder: Path, *names: str) -> list[Job]:
    return [Job(folder / f"in/{name}.svs", folder / f"out/{name}.zarr") for name in names]


def ok(job: Job, *, store_bytes: int = 50, seconds: float = 2.0) -> Outcome:
    encoded = Encoded(job.store, 3, None, 1000, 200, store_bytes, 4, 2, seconds)
    return Outcome(job, "ok", encoded)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_for_every_event(tmp_path: Path) -> None:
    a, b = jobs_in(tmp_path, "a", "b")
    with StatusLog(tmp_path / "out", [a, b]) as log:
        log.started(a)
        log.ended(ok(a))
        log.started(b)
        log.ended(Outcome(b, "failed", error=SlideError("b.svs: is\ndamaged")))
    assert log.path == tmp_path / "out/wsicomp-status.jsonl"
    events = lines(log.path)
    assert [(event["event"], event["store"]) for event in events] == [
        *(("queued", "a.zarr"), ("queued", "b.zarr")),
        *(("started", "a.zarr"), ("ok", "a.zarr"), ("started", "b.zarr"), ("failed", "b.zarr")),
    ]
    assert {event["slide"] for event in events} == {"../in/a.svs", "../in/b.svs"}
    assert {name: events[3][name] for name in ("bytes", "source_bytes", "seconds")} == {
        "bytes": 50,
        "source_bytes": 200,
        "seconds": 2.0,
    }
    assert events[5]["error"] == "b.svs: is damaged"
    assert str(tmp_path) not in log.path.read_text()


def test_where_a_batch_stands(tmp_path: Path) -> None:
    a, b, c, d, e = jobs_in(tmp_path, "a", "b", "c", "d", "e")
    with StatusLog(tmp_path / "out", [a, b, c, d, e]) as log:
        for job, outcome in ((a, ok(a)), (b, ok(b, store_bytes=30, seconds=4))):
            log.started(job)
            log.ended(outcome)
        log.started(c)
        log.ended(Outcome(c, "failed", error=SlideError("c")))
        log.started(d)
        found = read_status(tmp_path / "out")
    counts = [found.count(event) for event in ("ok", "skipped", "failed", "started", "queued")]
    assert counts == [2, 0, 1, 1, 1]
    assert (found.store_bytes, found.ratio_to_source, found.eta_s) == (80, 80 / 400, 3.0 * 2)
    assert [slide.store for slide in found.slides] == ["a.zarr", "b.zarr", "c.zarr", "d.zarr", "e.zarr"]


def test_a_batch_that_a_signal_ends_leaves_its_slide_queued(tmp_path: Path) -> None:
    (a,) = jobs_in(tmp_path, "a")
    with pytest.raises(KeyboardInterrupt), StatusLog(tmp_path / "out", [a]) as log:  # noqa: PT012
        log.started(a)
        raise KeyboardInterrupt
    assert [event["event"] for event in lines(log.path)] == ["queued", "started", "queued"]


def test_nothing_is_known_of_a_batch_that_has_just_begun(tmp_path: Path) -> None:
    with StatusLog(tmp_path / "out", jobs_in(tmp_path, "a", "b")):
        found = read_status(tmp_path / "out")
    assert (found.eta_s, found.ratio_to_source, found.store_bytes) == (None, None, 0)


def test_parts_are_merged_and_run_beside_one_another(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, "a", "b", "c", "d")
    first, second = Part(1, 2), Part(2, 2)
    with (
        StatusLog(tmp_path / "out", first.of(jobs), first) as one,
        StatusLog(tmp_path / "out", second.of(jobs), second) as two,
    ):
        for log, job in ((one, jobs[0]), (two, jobs[1])):
            log.started(job)
        one.ended(ok(jobs[0], seconds=6))
        one.started(jobs[2])
        found = read_status(tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["wsicomp-status-1-of-2.jsonl", "wsicomp-status-2-of-2.jsonl"]
    assert (found.count("ok"), found.count("started"), found.count("queued")) == (1, 2, 1)
    assert found.eta_s == 6 * 3 / 2


def test_a_second_run_is_appended_and_decides(tmp_path: Path) -> None:
    (a,) = jobs_in(tmp_path, "a")
    with StatusLog(tmp_path / "out", [a], Part(1, 1)) as log:
        log.started(a)
        log.ended(Outcome(a, "failed", error=SlideError("x")))
    time.sleep(0.01)
    with StatusLog(tmp_path / "out", [a]) as log:
        log.started(a)
        log.ended(Outcome(a, "skipped", ok(a).encoded))
    (slide,) = read_status(tmp_path / "out").slides
    assert (slide.event, slide.error) == ("skipped", None)


def test_a_line_that_was_cut_short_costs_no_other(tmp_path: Path) -> None:
    a, b = jobs_in(tmp_path, "a", "b")
    with StatusLog(tmp_path / "out", [a]) as log:
        pass
    content = log.path.read_bytes()
    log.path.write_bytes(content + content[:20])
    assert [slide.store for slide in read_status(tmp_path / "out").slides] == ["a.zarr"]
    with StatusLog(tmp_path / "out", [b]):
        pass
    assert [slide.store for slide in read_status(tmp_path / "out").slides] == ["a.zarr", "b.zarr"]


def test_a_disk_that_takes_half_a_line_leaves_whole_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = jobs_in(tmp_path, "a", "b")
    write = os.write
    with StatusLog(tmp_path / "out", [a]) as log:
        monkeypatch.setattr("wsicomp.pipeline.status.os.write", lambda fd, data: write(fd, data[:20]))
        with pytest.raises(StoreError, match="the disk is full"):
            log.started(a)
        monkeypatch.undo()
        log.started(b)
        assert [event["store"] for event in lines(log.path)] == ["a.zarr", "b.zarr"]


@pytest.mark.parametrize(
    "line",
    [
        *("[]", "null", "1", "{}", "", "\0\0", '{"event": "o', '{"event": "ok"}'),
        '{"event": "eaten", "store": "a", "slide": "a", "time": 1}',
        '{"event": "ok", "store": "a", "slide": "a", "time": 1, "bytes": "many"}',
        '{"event": ["ok"], "store": "a", "slide": "a", "time": 1}',
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    with StatusLog(tmp_path, jobs_in(tmp_path, "a")) as log:
        pass
    whole = log.path.read_text()
    log.path.write_text(f"{whole}{line}\n{whole}")
    with pytest.raises(StoreError, match=r"wsicomp-status\.jsonl line 2: .* damaged"):
        read_status(tmp_path)


def test_two_runs_at_once_write_two_files(tmp_path: Path) -> None:
    a, b = jobs_in(tmp_path, "a", "b")
    with StatusLog(tmp_path / "out", [a]) as one:
        one.started(a)
        with StatusLog(tmp_path / "out", [b]) as two:
            two.started(b)
            assert read_status(tmp_path / "out").count("started") == 2
        found = read_status(tmp_path / "out")
        assert [(slide.store, slide.event) for slide in found.slides] == [("a.zarr", "started"), ("b.zarr", "queued")]
    assert [one.path.name, two.path.name] == ["wsicomp-status.jsonl", "wsicomp-status.2.jsonl"]
    with StatusLog(tmp_path / "out", [a]) as third:
        assert third.path == one.path


def test_a_folder_without_a_batch(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no wsicomp-status\*\.jsonl"):
        read_status(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StoreError, match="cannot be written"):
        StatusLog(tmp_path / "out", []).__enter__()


def write_for_ever(folder: Path) -> None:
    """Write events until killed, in a child process."""
    jobs = jobs_in(folder, *(f"a long name of a slide {k}" for k in range(100)))
    while True:
        with StatusLog(folder / "out", jobs) as log:
            for job in jobs:
                log.started(job)
                log.ended(ok(job))


def test_a_killed_run_is_told_from_a_running_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.pipeline.test_status"])
    for _ in range(5):
        child = context.Process(target=write_for_ever, args=(tmp_path,), daemon=True)
        child.start()
        path = tmp_path / "out/wsicomp-status.jsonl"
        before = path.stat().st_size if path.exists() else 0
        until = time.monotonic() + 60
        while not path.exists() or path.stat().st_size < before + 5000:
            assert time.monotonic() < until
            time.sleep(0.002)
        found = read_status(tmp_path / "out")
        assert (found.runs, found.count("killed")) == (True, 0)
        child.kill()
        child.join()
        content = path.read_bytes()
        last = json.loads(content[: content.rfind(b"\n")].splitlines()[-1])
        found = read_status(tmp_path / "out")
        assert (found.runs, found.count("started")) == (False, 0)
        assert found.count("killed") == (last["event"] == "started")
        assert found.count("killed", "queued") == 0 or found.eta_s is None
    assert os.path.getsize(path) > 20_000


@pytest.mark.parametrize("content", [b"", b'{"event": "queu'])
def test_a_file_that_lost_its_events_is_no_batch_of_no_slides(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "wsicomp-status.jsonl").write_bytes(content)
    with pytest.raises(StoreError, match="no event of a batch"):
        read_status(tmp_path)
