"""Describes the machine that figures were measured on, as far as it explains them: no host name, no user, no paths."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["describe_machine"]

_PACKAGES = {"torch": "torch", "numpy": "numpy", "zarr": "zarr", "openslide": "openslide-bin"}


def describe_machine() -> dict[str, str | int | None]:
    """CPU model, number of cores, operating system, and versions of what the figures depend on.

    Returns
    -------
    JSON values under the keys cpu, cores, system, python, torch, numpy, zarr, openslide; None for what is not
    installed. `openslide` is the C library's own version as packaged.
    """
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{key: _version(package) for key, package in _PACKAGES.items()},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
