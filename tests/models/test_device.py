"""Names of devices: what auto takes, and what is refused before anything runs on it."""

from __future__ import annotations

import pytest
import torch

from wsicomp.errors import ConfigError
from wsicomp.models.device import resolve_device


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
