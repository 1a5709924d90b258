"""What shipped codecs give on H&E tissue, as files beside their cards that a program reads.

    WSICOMP_DATA=... python -m benchmarks.rd.references        some minutes; after `benchmarks.rd`, or after a training

    benchmarks/results/rd.json, open/rd.json -> lowest mean PSNR of the H&E test sets -+
    patches of the val split through the codec -> highest mean drift of colours -------+-> models/weights/NAME.json

Encoding compares a sample of a slide's tiles with these numbers (`wsicomp.pipeline.fidelity`, which says what drift
is). What this does not do: it measures no rate.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rd.tiles import load_set
from wsicomp.disk import write_file
from wsicomp.models.shipped import shipped_path
from wsicomp.pipeline.fidelity import drift
from wsicomp.pipeline.tile_codec import TileCodec

RESULTS = Path(__file__).parents[1] / "results"

CODECS = {
    "perticarari2023": ("rd.json", "perticarari2023 int8"),
    "wsic": ("rd.json", "wsic"),
    "wsic-open": ("open/rd.json", "wsic"),
}
"""For each shipped codec, the file of its results and how it is called there."""

TISSUE = ("lung", "prostate", "slide")
"""Sets of H&E tissue in the results; the immunostain is none."""

PATCHES = ("lung", "prostate")
EVERY = 24


def lowest_psnr(document: dict[str, Any], codec: str) -> dict[tuple[int, float | None], float]:
    """Lowest mean PSNR in dB of any H&E set, by depth and quality."""
    lowest: dict[tuple[int, float | None], float] = {}
    for point in (p for found in document["sets"] if found["name"] in TISSUE for p in found["points"]):
        if point["codec"] == codec:
            key = point["depth"], point["quality"]
            lowest[key] = min(lowest.get(key, float("inf")), round(point["psnr_db"], 2))
    return lowest


def highest_drift(name: str, depth: int, quality: float | None, data: Path) -> float:
    """Highest mean drift of any set of patches at one setting."""
    codec = TileCodec.load(name, depth, quality=quality)
    means = []
    for patches in PATCHES:
        tiles = load_set(patches, data, split="val", every=EVERY).tiles
        pairs = zip(tiles, codec.decode(codec.encode(tiles)), strict=True)
        means.append(float(np.mean([drift(x, x_hat) for x, x_hat in pairs])))
    return round(max(means), 3)


def main() -> None:
    """Write the files."""
    data = Path(os.environ["WSICOMP_DATA"])
    for name, (results, codec) in CODECS.items():
        document = json.loads((RESULTS / results).read_bytes())
        rows = [
            {"depth": depth, "quality": quality, "psnr_db": psnr, "drift": highest_drift(name, depth, quality, data)}
            for (depth, quality), psnr in lowest_psnr(document, codec).items()
        ]
        rows.sort(key=lambda row: (row["depth"], row["quality"] or 0))
        content = {
            "about": "H&E tissue: lowest mean PSNR of the test sets, highest mean drift of val patches",
            "commands": [document["command"], "python -m benchmarks.rd.references"],
        }
        lines = ",\n".join(json.dumps(row) for row in rows)
        text = json.dumps(content)[:-1] + f', "settings": [\n{lines}\n]}}\n'
        write_file(shipped_path(name).with_suffix(".json"), text.encode())


if __name__ == "__main__":
    main()
