"""Weights of `wsic` for tests: two depths, untrained, with entropy models of two qualities fitted to real tissue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray

from wsicomp.codec.entropy_model import EntropyModel
from wsicomp.models.registry import WSIC, save_model
from wsicomp.models.wsic import Wsic

DEPTHS = (3, 4)
QUALITIES = (4, 6)
"""Qualities that have an entropy model."""


def write_wsic(path: Path, *, seed: int = 0) -> Path:
    """Write the weights and return their path; equal seeds make equal bytes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Wsic(DEPTHS).eval()
    picture: NDArray[np.uint8] = skimage.data.immunohistochemistry()  # type: ignore[no-untyped-call]
    crops = np.stack([picture[y : y + 64, 64:128] for y in range(0, 512, 64)])
    x = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    arrays: dict[str, NDArray[np.generic]] = {}
    with torch.inference_mode():
        for depth in DEPTHS:
            model.heads[str(depth)].weight.mul_(20)  # type: ignore[operator]  # else all symbols were zero
            for quality in QUALITIES:
                latents = model.encode(x, depth, torch.tensor([float(quality)])).round().to(torch.int16).numpy()
                fitted = EntropyModel.fit(list(latents))
                arrays |= {f"{depth}/{quality}/{name}": array for name, array in fitted.arrays().items()}
    save_model(path, model, key=WSIC, settings={"depths": list(DEPTHS)}, notes={"data": "none"}, arrays=arrays)
    return path
