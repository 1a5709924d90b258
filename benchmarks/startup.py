"""How fast the command starts, beside a bare Python: medians of interleaved runs.

python -m benchmarks.startup        writes benchmarks/results/startup.json
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from wsicomp.evaluation.machine import describe_machine
from wsicomp.slides.svs import write_svs

RUNS = 9
RESULTS = Path(__file__).parent / "results" / "startup.json"
ENTRY = "from wsicomp.cli.main import run; run()"


def main() -> None:
    """Measure and write the results."""
    with tempfile.TemporaryDirectory() as folder:
        slide = Path(folder) / "slide.svs"
        write_svs(slide, np.full((512, 512, 3), 200, np.uint8), mpp=0.5, downsamples=())
        commands = {
            "python": ["-c", "pass"],
            "wsicomp --help": ["-c", ENTRY, "--help"],
            "wsicomp info SLIDE": ["-c", ENTRY, "info", str(slide)],
            "import torch": ["-c", "import torch"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(RUNS):
            for name, words in commands.items():
                started = time.perf_counter()
                subprocess.run([sys.executable, *words], check=True, capture_output=True)
                seconds[name].append(time.perf_counter() - started)
    rows = [
        {
            "command": name,
            "median_s": round(statistics.median(s), 3),
            "min_s": round(min(s), 3),
            "max_s": round(max(s), 3),
        }
        for name, s in seconds.items()
    ]
    document = {"command": "python -m benchmarks.startup", "runs": RUNS, "rows": rows, "machine": describe_machine()}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(f"{row['command']:20} {row['median_s']:.3f} s  ({row['min_s']:.3f} to {row['max_s']:.3f})")


if __name__ == "__main__":
    main()
