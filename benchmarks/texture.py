"""Whether grain that a decoder adds brings back what a frozen classifier loses to smoothing.

python -m benchmarks.texture [MODEL]        writes benchmarks/results/texture.json; needs WSICOMP_DATA

    x_hat + strength * s * grain,   s = local root mean square of x - x_hat, grain = seeded Gaussian noise, blurred

As in AV1, grain is drawn by the decoder and only its strength would be transmitted. Here its strength is the best that
could be: the true energy of what was lost, at every place, for free. So what does not help here cannot help at all; and
what it costs is counted against it in PSNR alone. Validation patches of the lung, adenocarcinoma against squamous.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from wsicomp.classification.frozen import ChosenClassifier, choose_classifier
from wsicomp.datasets.patches import PatchTable
from wsicomp.evaluation.data import table_data
from wsicomp.evaluation.machine import describe_machine
from wsicomp.models.registry import WSIC
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.transforms import load_codec

RESULTS = Path(__file__).parent / "results" / "texture.json"
CLASSIFIER = "perticarari2023-classifier-lung"
DEPTH, QUALITIES = 4, (1.0, 3.0)
ENERGY_SIGMA_PX = 8.0
GRAIN_SIGMA_PX = 0.7
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    """Measure and write the results."""
    model = load_codec(sys.argv[1] if sys.argv[1:] else WSIC)
    chosen = choose_classifier(CLASSIFIER, torch.device("cpu"))
    table = PatchTable.load(Path(os.environ["WSICOMP_DATA"]) / "lung", label_column="diagnosis")
    data = table_data(table, chosen.classes, "val")
    rows = []
    for quality in QUALITIES:
        codec = TileCodec(model, DEPTH, quality=quality)
        x_hat = codec.decode(codec.encode(data.tiles))
        for strength in STRENGTHS:
            row = {"depth": DEPTH, "quality": quality, "strength": strength}
            rows.append(row | score(chosen, data.tiles, with_grain(data.tiles, x_hat, strength), data.labels))
            print(json.dumps(rows[-1]), flush=True)
    document = {
        "command": shlex.join(["python", "-m", "benchmarks.texture", *sys.argv[1:]]),
        "machine": describe_machine(),
        "model": model.name,
        "weights_sha256": model.sha256,
        "classifier": CLASSIFIER,
        "patches": len(data.tiles),
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def with_grain(x: NDArray[np.uint8], x_hat: NDArray[np.uint8], strength: float) -> NDArray[np.uint8]:
    """Add grain of the energy of x - x_hat to x_hat, both (N, H, W, 3) uint8."""
    rng = np.random.default_rng(0)
    grained = []
    for tile, decoded in zip(x.astype(np.float64), x_hat.astype(np.float64), strict=True):
        lost = (tile - decoded).mean(axis=2)  # of grey: chroma is lost evenly, and grain has no colour
        energy = np.sqrt(gaussian_filter(np.square(lost), ENERGY_SIGMA_PX))
        grain = gaussian_filter(rng.normal(size=lost.shape), GRAIN_SIGMA_PX)
        grained.append(decoded + (strength * energy * grain / grain.std())[..., None])
    pictures: NDArray[np.uint8] = np.clip(np.rint(np.stack(grained)), 0, 255).astype(np.uint8)
    return pictures


def score(
    chosen: ChosenClassifier, x: NDArray[np.uint8], x_hat: NDArray[np.uint8], labels: NDArray[np.int64]
) -> dict[str, Any]:
    """PSNR in dB, and accuracy, recall, flips and the mean change of the logit."""
    threshold = chosen.threshold or 0.5
    cut = np.log(threshold / (1 - threshold))
    before, after = chosen.classifier.logits(x), chosen.classifier.logits(x_hat)
    mse = np.square(x.astype(np.float64) - x_hat).mean(axis=(1, 2, 3))
    positive = after >= cut
    return {
        "psnr_db": float(np.mean(10 * np.log10(255**2 / mse))),
        "accuracy": float(np.mean(positive == labels)),
        "recall": float(np.mean(positive[labels == 1])),
        "flipped": float(np.mean(positive != (before >= cut))),
        "logit_shift": float(np.mean(after - before)),
    }


if __name__ == "__main__":
    main()
