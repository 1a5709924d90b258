"""What it costs to keep every prediction, and whether that also keeps those of a classifier that was not asked.

python -m benchmarks.floors [MODEL] [--second WEIGHTS]    writes benchmarks/results/floors.json; needs WSICOMP_DATA

Test patches of the lung, adenocarcinoma against squamous, in real stores: at each plain quality, and with
`--keep-prediction` on top. `flipped` counts patches whose prediction differs from that of the original, by the
classifier that guards the store and by a second one that it does not know. Nothing is chosen on these patches.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wsicomp.classification.frozen import ChosenClassifier, choose_classifier
from wsicomp.classification.guard import THRESHOLD, load_guard
from wsicomp.datasets.labelled import LabelledTiles
from wsicomp.datasets.patches import PatchTable
from wsicomp.evaluation.machine import describe_machine
from wsicomp.evaluation.reconstruct import reconstruct
from wsicomp.metrics.classification import predict
from wsicomp.models.registry import WSIC
from wsicomp.pipeline.floor import Floor
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.transforms import load_codec

RESULTS = Path(__file__).parent / "results" / "floors.json"
CLASSIFIER = "perticarari2023-classifier-lung"
DEPTH = 4
PLAIN = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)
GUARDED = (0.0, 1.0, 2.0, 3.0, 4.0)
CPU = torch.device("cpu")


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floors")
    parser.add_argument("model", nargs="?", default=WSIC)
    parser.add_argument("--second", default=None, help="a classifier that the floor does not know")
    options = parser.parse_args()
    model = load_codec(options.model)
    chosen = choose_classifier(CLASSIFIER, CPU)
    second = choose_classifier(options.second, CPU) if options.second else None
    table = PatchTable.load(Path(os.environ["WSICOMP_DATA"]) / "lung", label_column="diagnosis")
    tiles = LabelledTiles.load(table, chosen.classes, "test").tiles
    guard = load_guard(CLASSIFIER, CPU, tile_size=tiles.shape[1])
    rows = []
    for floor, qualities in ((None, PLAIN), (Floor(guard=guard), GUARDED)):
        for quality in qualities:
            started = time.process_time()
            made = reconstruct("lung", tiles, TileCodec(model, DEPTH, quality=quality), floor=floor)
            rows.append(
                {
                    "depth": DEPTH,
                    "quality": quality,
                    "keep_prediction": floor is not None,
                    "bits_per_pixel": 8 * made.bytes / (tiles.size // 3),
                    "flipped": flips(chosen, tiles, made.x_hat),
                    "flipped_second": None if second is None else flips(second, tiles, made.x_hat),
                    "cpu_seconds_per_tile": (time.process_time() - started) / len(tiles),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    document: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "benchmarks.floors", *sys.argv[1:]]),
        "machine": describe_machine(),
        "model": model.name,
        "weights_sha256": model.sha256,
        "classifier": CLASSIFIER,
        "second_sha256": None if second is None else second.sha256,
        "patches": len(tiles),
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def flips(chosen: ChosenClassifier, x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> int:
    """Tiles whose prediction differs from that of their originals."""
    threshold = THRESHOLD if chosen.threshold is None else chosen.threshold
    before, after = (predict(chosen.classifier.logits(tiles), threshold) for tiles in (x, x_hat))
    return int(np.count_nonzero(before != after))


if __name__ == "__main__":
    main()
