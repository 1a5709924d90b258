"""The device that networks run on, and how the threads of a CPU share work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
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


def in_threads(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Results in order, of as many threads as torch has, each with one thread of torch: of any number, the same."""
    items = list(items)
    before = torch.get_num_threads()
    try:
        if before == 1 or len(items) < 2:
            torch.set_num_threads(1)
            return [function(item) for item in items]
        # The number of torch's threads is each thread's own, but new ones take over what was set last.
        with ThreadPoolExecutor(before, "torch", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, items))
    finally:
        torch.set_num_threads(before)
