"""Names of devices: what auto takes, and what is refused before anything runs on it; work shared among threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from wsicomp.errors import ConfigError
from wsicomp.models.device import in_threads, resolve_device


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)


@pytest.mark.parametrize(("count", "expected"), [(0, "cpu"), (1, "cuda"), (4, "cuda")])
def test_auto_takes_cuda_when_there_is_one(monkeypatch: pytest.MonkeyPatch, count: int, expected: str) -> None:
    gpus(monkeypatch, count)
    assert resolve_device("auto") == resolve_device() == torch.device(expected)


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:1"])
def test_a_device_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    gpus(monkeypatch, 2)
    assert resolve_device(name) == torch.device(name)


@pytest.mark.parametrize("name", ["", "gpu", "cuda:x", "tpu"])
def test_a_name_that_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device '{name}' is unknown"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["mps", "meta", "xpu"])
def test_a_device_that_is_not_supported_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device '{name}' is not supported"):
        resolve_device(name)


@pytest.mark.parametrize(("name", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_device_that_this_machine_lacks_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, count: int) -> None:
    gpus(monkeypatch, count)
    with pytest.raises(ConfigError, match=f"device '{name}' is not on this machine; use --device cpu"):
        resolve_device(name)


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def threads_here_and_of_a_new_thread() -> tuple[int, int]:
    with ThreadPoolExecutor(1) as pool:
        return torch.get_num_threads(), pool.submit(torch.get_num_threads).result()


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_work_is_shared_in_order_by_threads_that_have_one_each(count: int) -> None:
    assert in_threads(lambda item: (item, torch.get_num_threads()), range(count)) == [(k, 1) for k in range(count)]
    assert threads_here_and_of_a_new_thread() == (3, 3)


@pytest.mark.usefixtures("three_threads")
def test_as_many_threads_as_torch_has_work_at_once() -> None:
    together = threading.Barrier(3, timeout=20)
    assert in_threads(lambda item: together.wait() in range(3) and item, range(3)) == [0, 1, 2]


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("count", [1, 4])
def test_an_error_comes_out_and_the_number_of_threads_stays(count: int) -> None:
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda item: 1 // item, range(count))
    assert threads_here_and_of_a_new_thread() == (3, 3)


@pytest.mark.usefixtures("three_threads")
def test_calls_that_overlap_leave_the_number_of_threads_as_it_was() -> None:
    inside, ended = threading.Event(), threading.Event()
    found: list[list[int]] = []

    def second() -> None:
        found.append(in_threads(last, range(4)))
        found.append([torch.get_num_threads()])

    def last(_: int) -> int:
        inside.set()
        assert ended.wait(20)
        return torch.get_num_threads()

    other = threading.Thread(target=second)

    def first(_: int) -> int:
        # The second call begins while this one runs, and ends after it.
        if not other.ident:
            other.start()
        assert inside.wait(20)
        return torch.get_num_threads()

    assert in_threads(first, [0]) == [1]
    ended.set()
    other.join(20)
    assert found == [[1] * 4, [3]]
    assert threads_here_and_of_a_new_thread() == (3, 3)


@pytest.mark.usefixtures("three_threads")
def test_a_call_within_a_call_runs_where_it_is() -> None:
    def outer(item: int) -> list[tuple[int, int]]:
        return in_threads(lambda k: (item * k, threading.get_ident()), range(3))

    for item, row in enumerate(in_threads(outer, range(40))):
        assert [product for product, _ in row] == [0, item, 2 * item]
        assert len({thread for _, thread in row}) == 1
    assert threads_here_and_of_a_new_thread() == (3, 3)


@pytest.mark.usefixtures("three_threads")
def test_all_calls_share_one_lasting_pool() -> None:
    def call() -> set[int]:
        together = threading.Barrier(3, timeout=20)

        def ident(_: int) -> int:
            together.wait()
            return threading.get_ident()

        return set(in_threads(ident, range(3)))

    def pool() -> set[int | None]:
        return {thread.ident for thread in threading.enumerate() if thread.name.startswith("torch")}

    first, threads = call(), pool()
    assert len(first) == 3
    assert all(call() <= threads for _ in range(20))
    assert pool() == threads


def test_nothing_more_begins_after_an_error() -> None:
    begun: list[int] = []

    def fail(item: int) -> None:
        begun.append(item)
        raise ValueError("ended")

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="ended"):
            in_threads(fail, range(100))
        assert len(begun) <= 2
    finally:
        torch.set_num_threads(before)


USE = """
import torch
from wsicomp.models.device import in_threads
torch.set_num_threads(2)
use = lambda: in_threads(lambda k: (torch.ones(64, 64) @ torch.ones(64, 64)).sum().item() + k, range(6))
first = use()
"""


def ends(code: str) -> str:
    """What a fresh process prints that runs this after it has used the pool, and that it ends by itself."""
    done = subprocess.run([sys.executable, "-c", USE + code], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def test_the_pool_does_not_keep_a_process_alive() -> None:
    assert ends("print(first == use())") == "True\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_a_pool_of_its_own() -> None:
    code = """
import os, warnings
warnings.simplefilter("ignore")
child = os.fork()
if not child:
    os._exit(0 if use() == first else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), use() == first)
"""
    assert ends(code) == "0 True\n"


def test_a_spawned_process_has_a_pool_of_its_own() -> None:
    code = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import math
with ProcessPoolExecutor(1, get_context("spawn")) as pool:
    print(pool.submit(in_threads, math.sqrt, [4, 9]).result())
"""
    assert ends(code) == "[2.0, 3.0]\n"
