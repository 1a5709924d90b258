"""How a batch stands, in a file beside its stores that only ever grows.

    queued -> started -> ok | skipped | failed         one JSON line for each event
                      -> queued                        where a signal ended the batch

    {"event": "ok", "store": "a.zarr", "slide": "../in/a.svs", "time": 1.8e9, "bytes": 12, "source_bytes": 90, ...}

A line is one write to a file opened for appending. A kill between two pages of the write may cut the last one short:
the reader passes over what no newline ends, and the next writer removes it. Any other line that is no event is damage.

A writer holds an exclusive lock on its file until its process ends, however it ends. So a file has one writer at a
time, and a slide that was started in a file without a lock was killed. Every part of a batch, and every second run at
the same time, writes a file of its own. Reading merges the files; the last event of a store is how it stands.

Paths are relative to the status file's folder. Nothing of a slide but its path is ever written, and nothing of the
machine.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from wsicomp.disk import explain
from wsicomp.errors import StoreError
from wsicomp.pipeline.part import Part

if TYPE_CHECKING:
    from wsicomp.pipeline.batch import Job, Outcome

__all__ = ["BatchStatus", "SlideStatus", "StatusLog", "read_status"]

PATTERN = "wsicomp-status*.jsonl"
EVENTS = ("queued", "started", "ok", "skipped", "failed")


class StatusLog:
    """Context manager that writes down the events of a batch; all jobs are queued at first.

    Parameters
    ----------
    folder
        Where the file stands; made when missing.
    jobs
        The jobs that this process will do.
    part
        Which part of the whole batch they are; None for all of it.
    """

    def __init__(self, folder: Path, jobs: Sequence[Job], part: Part | None = None) -> None:
        self._name = "wsicomp-status" if part is None else f"wsicomp-status-{part.index}-of-{part.count}"
        self.path = folder / f"{self._name}.jsonl"
        self._jobs = jobs
        self._current: Job | None = None
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Open and lock a file that no other run is writing, and queue the jobs.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for number in itertools.count(2):
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
                try:
                    fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    os.close(self._descriptor)
                    self.path = folder / f"{self._name}.{number}.jsonl"
            content = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
            os.ftruncate(self._descriptor, content.rfind(b"\n") + 1)
        except OSError as error:
            raise self._refused(error) from error
        for job in self._jobs:
            self._write("queued", job)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._current is not None:
            with contextlib.suppress(StoreError):  # what ends the batch is the error to be heard of
                self._write("queued", self._current)
        os.close(self._descriptor)

    def started(self, job: Job) -> None:
        """Write that a job's turn has come; raises StoreError if the disk refuses."""
        self._current = job
        self._write("started", job)

    def ended(self, outcome: Outcome) -> None:
        """Write how a job ended; raises StoreError if the disk refuses."""
        self._current = None
        facts: dict[str, object] = {}
        if outcome.encoded is not None:
            facts = {
                "bytes": outcome.encoded.store_bytes,
                "source_bytes": outcome.encoded.source_bytes,
                "seconds": round(outcome.encoded.seconds, 3),
            }
        if outcome.error is not None:
            facts["error"] = " ".join(str(outcome.error).split())
        self._write(outcome.status, outcome.job, **facts)

    def _write(self, event: str, job: Job, **facts: object) -> None:
        folder = self.path.parent
        record = {
            "event": event,
            "store": os.path.relpath(job.store, folder),
            "slide": os.path.relpath(job.slide, folder),
            "time": round(time.time(), 3),
            **facts,
        }
        try:
            line = json.dumps(record).encode("ascii") + b"\n"
            size = os.fstat(self._descriptor).st_size
            if os.write(self._descriptor, line) < len(line):
                os.ftruncate(self._descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> StoreError:
        return StoreError(f"{self.path}: cannot be written: {explain(error)}")


@dataclass(frozen=True)
class SlideStatus:
    """How one slide of a batch stands.

    Parameters
    ----------
    store, slide
        Paths relative to the status file's folder.
    event
        The last that happened to it; "started" is running, "killed" was running when its process died.
    store_bytes, source_bytes, seconds
        Sizes of the store and of its source, and the time it took; None without a store, or where the source is no
        file.
    error
        Why it failed.
    """

    store: str
    slide: str
    event: Literal["queued", "started", "ok", "skipped", "failed", "killed"]
    store_bytes: int | None = None
    source_bytes: int | None = None
    seconds: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class BatchStatus:
    """How a batch stands.

    Parameters
    ----------
    slides
        Its slides, in the order in which they were queued first.
    runs
        Whether any process works on it now.
    """

    slides: tuple[SlideStatus, ...]
    runs: bool

    def count(self, *events: str) -> int:
        """Count the slides whose last event is one of these."""
        return sum(slide.event in events for slide in self.slides)

    @property
    def store_bytes(self) -> int:
        """Bytes of all stores that are done."""
        return sum(slide.store_bytes or 0 for slide in self.slides)

    @property
    def ratio_to_source(self) -> float | None:
        """Bytes of stores over bytes of their sources, where the source is known; None where none is."""
        known = [(slide.store_bytes or 0, slide.source_bytes) for slide in self.slides if slide.source_bytes]
        return sum(store for store, _ in known) / sum(source for _, source in known) if known else None

    @property
    def eta_s(self) -> float | None:
        """Seconds until all is done, from the mean time of a slide and the number that run at once; None if unknown."""
        left = self.count("queued", "started", "killed")
        times = [slide.seconds for slide in self.slides if slide.event == "ok" and slide.seconds is not None]
        if not left:
            return 0.0
        if not times or not self.runs:
            return None
        return math.fsum(times) / len(times) * left / max(self.count("started"), 1)


def read_status(folder: Path) -> BatchStatus:
    """Read every status file in a folder, those of all parts.

    Raises
    ------
    StoreError
        If there is none, or one is damaged.
    OSError
        If one cannot be read.
    """
    # The file of a second run, whose name is longer, comes after that of the first.
    paths = sorted(folder.glob(PATTERN), key=lambda path: (len(path.name), path.name))
    if not paths:
        raise StoreError(f"{folder}: holds no {PATTERN}; encode writes one for more than one slide, beside the stores")
    found: list[tuple[dict[str, Any], bool]] = []
    for path in paths:
        runs, events = is_written(path), list(events_of(path))
        if not (events or runs):  # a run queues its slides first of all
            raise StoreError(f"{path}: holds no event of a batch; the file is damaged: restore or remove it")
        found += [(event, runs) for event in events]
    slides: dict[str, SlideStatus] = {}
    for event, runs in sorted(found, key=lambda pair: float(pair[0]["time"])):
        slides[event["store"]] = SlideStatus(
            event["store"],
            event["slide"],
            "killed" if event["event"] == "started" and not runs else event["event"],
            event.get("bytes"),
            event.get("source_bytes"),
            event.get("seconds"),
            event.get("error"),
        )
    return BatchStatus(tuple(slides.values()), any(runs for _, runs in found))


def is_written(path: Path) -> bool:
    """Tell whether a process holds the lock of a status file."""
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def events_of(path: Path) -> Iterator[dict[str, Any]]:
    """Read the events of one file; what no newline ends is passed over.

    Raises
    ------
    StoreError
        If a line is no event.
    """
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not is_event(event):
            raise StoreError(f"{path} line {number}: is no event of a batch; the file is damaged: restore or remove it")
        yield event


def is_event(event: object) -> bool:
    """Tell whether a JSON value is an event as `StatusLog` writes it."""
    return (
        isinstance(event, dict)
        and event.get("event") in EVENTS
        and all(isinstance(event.get(name), str) for name in ("store", "slide"))
        and isinstance(event.get("time"), int | float)
        and all(isinstance(event.get(name, 0), int | None) for name in ("bytes", "source_bytes"))
        and isinstance(event.get("seconds", 0), int | float | None)
        and isinstance(event.get("error", ""), str)
    )
