"""Reads a slide in a process of its own, so that a damaged one cannot end, hang or bloat this process.

    read_block -> a free channel -> wsicomp.slides.serve: decoder, under a memory limit -> cells
                                    died, or silent for too long -> asked again alone in a new process
                                    died again -> SlideDamaged names the path and the place

Each channel is a socket that one thread of the reader process serves, so that threads here read in parallel. When the
process dies, every request under way is asked again, each in a process of its own: only the guilty one fails.

What this does not do: it decodes nothing itself, and takes numbers and pixels of known size from the other side, never
code.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import queue
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsicomp.errors import SlideDamaged, SlideError
from wsicomp.slides.facts import SlideFacts
from wsicomp.slides.settings import Reader

__all__ = ["READER_BYTES", "ReaderProcess"]

CHANNELS = 8
"""Requests that one reader process works on at once; further threads wait for a free channel."""

TIMEOUT_S = 60.0
"""Longest silence of a reader process, over a block of 1 Mpx or while it opens the slide."""

MAX_DEATHS = 16
"""Places of one slide that may kill a reader process; with more, the slide is given up."""

READER_BYTES = 160 * 2**20
"""What a reader process is taken to hold, libraries and caches of tiles: one of a small slide in JPEG was measured to
hold 76 MB, and the rest is a margin for larger slides."""

LINE_BYTES = 2**24
"""Longest line of a reader process: its facts, with a colour profile."""

STREAM_BYTES = 2**24
"""Longest encoded tile."""


Channel: TypeAlias = tuple[socket.socket, io.BufferedReader]
"""One socket to a reader process, and what reads from it."""


class _Died(Exception):
    """The reader process has ended or does not answer; says how."""


class _Child:
    """One reader process, its slide open."""

    def __init__(self, path: str, reader: Reader, channels: int, timeout_s: float) -> None:
        pairs = [socket.socketpair() for _ in range(channels)]
        ours, theirs = [our for our, _ in pairs], [their for _, their in pairs]
        command = [sys.executable, "-P", "-m", "wsicomp.slides.serve", path, reader]
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module; the path is no shell text
                [*command, *(str(their.fileno()) for their in theirs)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # libraries complain there, in words that may quote the file
                pass_fds=[their.fileno() for their in theirs],
                # None of its work is linear algebra, whose threads would only take time to start.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        finally:
            for their in theirs:
                their.close()
        for our in ours:
            our.settimeout(timeout_s)
        self._timeout_s = timeout_s
        self._free: queue.LifoQueue[Channel] = queue.LifoQueue()
        readers = [our.makefile("rb") for our in ours]
        self.end = weakref.finalize(self, _end, process, [*ours, *readers])
        try:
            with self._listening():
                self.first: dict[str, Any] = json.loads(readers[0].readline(LINE_BYTES))
        except _Died:
            self.end()
            raise
        for our, reading in zip(ours, readers, strict=True):
            self._free.put((our, reading))

    def ask(self, request: dict[str, Any], limit_bytes: int) -> tuple[dict[str, Any], bytes]:
        """Answer of the process to one request: the message, and the bytes after it, of which there is a most.

        Raises
        ------
        _Died
            If there is no answer, or one that makes no sense.
        """
        sending, reading = self._free.get()
        try:
            with self._listening():
                sending.sendall(json.dumps(request).encode() + b"\n")
                message: dict[str, Any] = json.loads(reading.readline(LINE_BYTES))
                size = message.get("bytes", 0)
                if not 0 <= size <= limit_bytes:
                    raise _Died("answers with too much")
                content = reading.read(size)
            if len(content) != size:
                raise _Died("died")
            return message, content
        finally:
            self._free.put((sending, reading))

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise _Died(f"does not answer within {self._timeout_s:g} s") from None
        except (OSError, ValueError):
            raise _Died("died") from None


def _end(process: subprocess.Popen[bytes], channels: list[socket.socket | io.BufferedReader]) -> None:
    process.kill()
    process.wait()
    for channel in channels:
        channel.close()


class ReaderProcess:
    """An open slide, as `wsicomp.slides.cells.Native` describes it, that a child process reads.

    Parameters
    ----------
    path
        The slide file, as the user gave it; messages repeat it.
    reader
        How the child reads it.
    timeout_s
        Seconds of silence after which a child is given up.

    Raises
    ------
    SlideError
        If the slide cannot be opened, or if the child dies or hangs over it.
    """

    def __init__(self, path: str | os.PathLike[str], *, reader: Reader = "auto", timeout_s: float = TIMEOUT_S) -> None:
        self.name = os.fspath(path)
        self._reader = reader
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._alone = threading.Lock()
        self._deaths = 0
        self._closed = False
        self._child: _Child | None = self._start(CHANNELS)
        try:
            self.facts = SlideFacts.from_json(self._child.first["facts"])
        except (KeyError, TypeError, ValueError):
            self._child.end()
            raise SlideError(f"{self.name}: the process that opened it is of another wsicomp; install one") from None

    def close(self) -> None:
        """End the child; later reads raise SlideError."""
        with self._lock:
            self._closed = True
            child, self._child = self._child, None
        if child is not None:
            child.end()

    def read_block(
        self, level: int, x: float, y: float, step: float, rows: range, cols: range, what: str
    ) -> NDArray[np.uint8]:
        """Mean colour of a block of cells, as `Native.read_block` says.

        Raises
        ------
        SlideError
            If the slide is closed, or if too many of its places kill the child.
        SlideDamaged
            If it cannot be read there.
        """
        block = [level, x, y, step, [rows.start, rows.stop], [cols.start, cols.stop]]
        shape = len(rows), len(cols), 4
        content = self._ask({"block": block, "what": what}, math.prod(shape), what)
        if len(content) != math.prod(shape):
            raise SlideError(f"{self.name}: {what} came back in another size; install wsicomp anew")
        return np.frombuffer(content, np.uint8).reshape(shape)  # (rows * cols * 4,) -> (rows, cols, 4)

    def read_encoded(self, level: int, row: int, col: int) -> bytes:
        """Return a tile as a whole JPEG stream, as `Native.read_encoded` says.

        Raises
        ------
        SlideError
            If the slide is closed.
        SlideDamaged
            If the tile is missing or damaged.
        """
        what = f"the stream of tile ({row}, {col}) of native level {level}"
        return self._ask({"encoded": [level, row, col]}, STREAM_BYTES, what)

    def _start(self, channels: int) -> _Child:
        try:
            child = _Child(self.name, self._reader, channels, self._timeout_s)
        except _Died as how:
            raise SlideError(
                f"{self.name}: the process that opened it {how}; the file is damaged, or its storage is not there: "
                "copy it again from its source"
            ) from None
        if "error" in child.first:
            child.end()
            raise SlideError(str(child.first["error"]))
        return child

    def _ask(self, request: dict[str, Any], limit_bytes: int, what: str) -> bytes:
        with self._lock:
            if self._closed:
                raise SlideError(f"{self.name}: {what} was asked of a slide that is closed; open it again")
            if self._child is None:
                self._child = self._start(CHANNELS)
            child = self._child
        try:
            message, content = child.ask(request, limit_bytes)
        except _Died:
            with self._lock:
                if self._child is child:
                    self._child = None
                closed = self._closed
            child.end()
            if closed:
                raise SlideError(f"{self.name}: {what} was asked of a slide that is closed; open it again") from None
            message, content = self._ask_alone(request, limit_bytes, what)
        if "error" in message:
            raise SlideDamaged(str(message["error"]))
        return content

    def _ask_alone(self, request: dict[str, Any], limit_bytes: int, what: str) -> tuple[dict[str, Any], bytes]:
        """Ask a process that nobody else asks, so that its death has one cause."""
        with self._alone:
            if self._deaths >= MAX_DEATHS:
                raise SlideError(f"{self.name}: too many places of it cannot be read; copy it again from its source")
            child = self._start(1)
            try:
                return child.ask(request, limit_bytes)
            except _Died as how:
                self._deaths += 1
                raise SlideDamaged(
                    f"{self.name}: {what} cannot be read: the process that reads it {how}; the file is damaged there: "
                    "copy it again from its source"
                ) from None
            finally:
                child.end()
