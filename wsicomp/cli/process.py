"""Settings of the process itself, made before the libraries that they concern are loaded."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["settle"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
MALLOC = {M_ARENA_MAX: 2, M_TRIM_THRESHOLD: 64 * 2**20, M_MMAP_THRESHOLD: 32 * 2**20}


def settle() -> None:
    """Let waiting threads sleep, let threads share their heaps, and keep memory that is soon needed again.

    torch's idle threads would spin, and take the cores from those that work where a machine is shared. glibc gives each
    thread a heap of its own, none of which shrinks: with readers, writers and zarr's threads the memory of an encoding
    crept up with the size of the slide. And it gives the system back what a network's layers are done with, only to be
    given it anew, a page at a time, for the next tile, which is slow where the machine has other work.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
        if mallopt is not None:
            for parameter, value in MALLOC.items():
                mallopt(parameter, value)
