"""Peak memory of encoding and of decoding against the size of the slide, each in a process of its own.

    python -m benchmarks.memory [GIGAPIXELS ...]      writes benchmarks/results/memory.json; 0.1, 1 and 4 by default

The slides are tissue by half and glass by half, and their files small: the tile table points many times at the same few
JPEG tiles. Decoding is of a whole level to a pyramid for the smallest slide only, and of 200 random regions for each.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.factories import huge_slide
from wsicomp.evaluation.machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "memory.json"
ENTRY = "from wsicomp.cli.main import run; run()"
REGIONS = """
import sys, numpy as np, wsicomp
rng = np.random.default_rng(0)
with wsicomp.open(sys.argv[1]) as slide:
    for x, y in zip(*(rng.integers(side - 512, size=200) for side in slide.dimensions)):
        slide.read_region((int(x), int(y)), 0, (512, 512))
"""

# Linux counts what a process was before it became another program, so a child's peak is its parent's at least.
MEASURED_FROM_A_SMALL_PROCESS = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, end="")
sys.exit(code)
"""


def main() -> None:
    """Measure and write the results."""
    sizes = [float(word) for word in sys.argv[1:]] or [0.1, 1.0, 4.0]
    rows = []
    for gigapixels in sizes:
        with tempfile.TemporaryDirectory() as folder:
            slide, store = Path(folder) / "slide.svs", Path(folder) / "slide.zarr"
            huge_slide(slide, gigapixels)
            encoding = ["-c", ENTRY, "encode", str(slide), "-o", str(store), "--depth", "3", "--json"]
            encode_rss, output = peak_rss(encoding)
            result = json.loads(output)["results"][0]
            regions_rss, _ = peak_rss(["-c", REGIONS, str(store)])
        rows.append(
            {
                "gigapixels": gigapixels,
                "encode_peak_rss_bytes": encode_rss,
                "regions_peak_rss_bytes": regions_rss,
                "tissue_tiles": result["tissue_tiles"],
                "encode_tiles_per_s": round(result["tissue_tiles"] / result["seconds"], 1),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    spread = {
        key: round(max(row[key] for row in rows) / min(row[key] for row in rows), 3)
        for key in ("encode_peak_rss_bytes", "regions_peak_rss_bytes")
    }
    print("largest over smallest:", spread)
    document = {
        "command": shlex.join(["python", "-m", "benchmarks.memory", *sys.argv[1:]]),
        "rows": rows,
        "largest_over_smallest": spread,
        "machine": describe_machine(),
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def peak_rss(words: list[str]) -> tuple[int, bytes]:
    """Run Python with these words; return the peak resident set of that process in bytes, and what it printed.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails.
    """
    between = [sys.executable, "-c", MEASURED_FROM_A_SMALL_PROCESS]
    done = subprocess.run([*between, sys.executable, *words], stdout=subprocess.PIPE, check=True)
    output, _, peak = done.stdout.rpartition(b"\n")
    return int(peak) * (1 if sys.platform == "darwin" else 1024), output


if __name__ == "__main__":
    main()
