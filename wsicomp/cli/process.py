"""Settings of the process itself, made before the libraries that they concern are loaded."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["settle"]

M_ARENA_MAX = -8
ARENAS = 2


def settle() -> None:
    """Let waiting threads sleep, and let threads share their heaps.

    torch's idle threads would spin, and take the cores from those that work where a machine is shared. And glibc gives
    each thread a heap of its own, none of which shrinks: with readers, writers and zarr's threads the memory of an
    encoding crept up with the size of the slide.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
        if mallopt is not None:
            mallopt(M_ARENA_MAX, ARENAS)
