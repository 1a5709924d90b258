"""Settings of the process: memory that is needed again is kept."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from wsicomp.cli.process import settle

if sys.argv[1] == "settled":
    settle()

def layers():
    held = [np.ones(2**20, np.float32) for _ in range(8)]  # 4 MB each

for _ in range(4):
    layers()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    layers()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_memory_that_was_used_is_used_again() -> None:
    as_it_is, settled = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True, text=True).stdout)
        for how in ("as it is", "settled")
    )

    assert settled < as_it_is / 5  # a page may be large, so the counts themselves are the machine's
