"""The device that networks run on, and the pool of threads that shares work on a CPU.

torch keeps the number of threads that it computes with per thread: a thread takes over what any thread set last when it
first computes, and then keeps its own. The pool's threads compute with one thread each, so that a result does not
depend on how many there are; no other thread's number is changed.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from wsicomp.errors import ConfigError

__all__ = ["in_threads", "resolve_device"]

T = TypeVar("T")
R = TypeVar("R")


def resolve_device(name: str = "auto") -> torch.device:
    """Turn the name of a device into a device; "auto" takes CUDA when there is one.

    Raises
    ------
    ConfigError
        If the name is no device, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device '{name}' is unknown; use auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device '{name}' is not supported; use auto, cpu or cuda")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise ConfigError(f"device '{name}' is not on this machine; use --device cpu")
    return device


class _Pool:
    """Threads that last as long as the process and compute with one thread each; as many as were ever asked for."""

    def __init__(self) -> None:
        # Held while threads start: until they have, other threads would take over their number.
        self._lock = threading.Lock()
        self._size = 1
        self._executor = ThreadPoolExecutor(self._size)

    def torch_threads(self) -> int:
        """How many threads torch computes with in the thread that asks."""
        with self._lock:
            return torch.get_num_threads()

    def submit(self, work: Callable[[], None], threads: int, times: int) -> list[Future[None]]:
        """Begin `work` a number of times, in a pool of at least `threads` threads."""
        with self._lock:
            if threads > self._size:
                # What the smaller pool has begun, it ends.
                self._executor.shutdown(wait=False)
                self._size, self._executor = threads, started(threads)
            return [self._executor.submit(work) for _ in range(times)]


def started(count: int) -> ThreadPoolExecutor:
    """Start a pool whose threads compute with one thread each, and leave the number that new threads take over."""
    all_set = threading.Barrier(count + 1)

    def compute_alone() -> None:
        # Asking comes first: a number that is set before a thread's first question is overwritten by it.
        torch.get_num_threads()
        torch.set_num_threads(1)
        all_set.wait()

    pool = ThreadPoolExecutor(count, "torch", compute_alone)
    with ThreadPoolExecutor(1) as another:
        common = another.submit(torch.get_num_threads).result()
        try:
            for _ in range(count):
                pool.submit(int)
            all_set.wait()
        except BaseException:
            all_set.abort()
            raise
        finally:
            another.submit(torch.set_num_threads, common).result()
    return pool


_pool = _Pool()


def _forget_pool() -> None:
    # A forked child has none of its parent's threads.
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def in_threads(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Apply a function to items, in as many threads as torch has, and return the results in the items' order.

    The threads are those of one pool, which all callers share, and each computes with one thread of torch, so the
    results do not depend on their number. Calls may overlap; one from within a function that runs here, or from a
    thread for which torch has one thread, runs where it is. An error ends the call as soon as what has begun is done.
    """
    pending = deque(enumerate(items))
    results: dict[int, R] = {}

    def work() -> None:
        while True:
            try:
                index, item = pending.popleft()
            except IndexError:
                return
            results[index] = function(item)

    threads = _pool.torch_threads()
    if threads == 1:
        work()
    else:
        workers = _pool.submit(work, threads, min(threads, len(pending)))
        try:
            for worker in workers:
                worker.result()
        finally:
            pending.clear()
            wait(workers)
    return [results[index] for index in range(len(results))]
