"""A real Dask scheduler and worker processes on this machine, for tests."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from distributed import Client

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s",
}
WAIT_S = 120
PR_SET_PDEATHSIG = 1


class DaskCluster:
    """Context manager of a scheduler and its workers, each a process of its own.

    Parameters
    ----------
    folder
        Where they put their own files.
    """

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self._folder = folder
        self._count = workers
        self._file = folder / "scheduler.json"
        self.workers: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def __enter__(self) -> Self:
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", self._file)
        until = time.monotonic() + WAIT_S
        while not self.address:
            assert time.monotonic() < until
            assert self.scheduler.poll() is None
            time.sleep(0.05)
            if self._file.exists() and (text := self._file.read_text()):
                self.address = json.loads(text)["address"]
        for number in range(self._count):
            options = ("--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--name", str(number))
            self.workers.append(self._start("worker", self.address, *options))
        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(self._count, timeout=WAIT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()

    def kill(self, worker: int) -> None:
        """Kill a worker, without any chance to clean up."""
        os.kill(self.workers[worker].pid, signal.SIGKILL)
        self.workers[worker].wait()

    def _start(self, what: str, *options: object) -> subprocess.Popen[bytes]:
        host = ("--host", "127.0.0.1", "--no-dashboard")
        with (self._folder / f"{what}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", what, *host, *map(str, options)],
                cwd=self._folder,
                env={**os.environ, **ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )


def die_with_parent() -> None:
    """Have the system kill this process when the tests are killed, which leaves them no time to do it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
