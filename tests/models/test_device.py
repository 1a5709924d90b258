"""Names of devices: what auto takes, and what is refused before anything runs on it; work shared among threads."""

from __future__ import annotations

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
