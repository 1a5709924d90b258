"""How SIGINT and SIGTERM end a command: at once, or at the next safe point where half-written files could be left.

    signal -> Interrupted, raised where the main thread is                       (reading, training, scoring)
    signal -> noted; Interrupted is raised by check(), between batches           (inside `deferred`: writing stores)

zarr writes in a thread of its own, which would go on, and make a removed folder again, if an exception broke in while
its caller waits. A second signal does not wait.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from wsicomp.cli.console import log

__all__ = ["Interrupted", "deferred", "install"]

_noted: list[int] = []
_deferring = False


class Interrupted(BaseException):
    """A signal ended the command; `exit_code` is 130 for SIGINT and 143 for SIGTERM."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_code = 128 + signum


def install() -> None:
    """Handle SIGINT and SIGTERM in this way from now on."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _handle)


@contextmanager
def deferred() -> Iterator[Callable[[], None]]:
    """Hold signals back; the function that is yielded raises Interrupted if one has come, and so does the end."""
    global _deferring
    _deferring = True
    _noted.clear()
    try:
        yield _check
        _check()
    finally:
        _deferring = False


def _check() -> None:
    if _noted:
        raise Interrupted(_noted[0])


def _handle(signum: int, frame: FrameType | None) -> None:
    if _deferring and not _noted:
        _noted.append(signum)
        log("wsicomp: stopping after this batch of tiles")
        return
    raise Interrupted(signum)
