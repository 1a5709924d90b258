"""Weights of `wsic` for tests: two depths, untrained, with an entropy model of each fitted to real tissue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from torch import nn

from wsicomp.codec.entropy_model import EntropyModel
from wsicomp.models.context import SLICES
from wsicomp.models.registry import WSIC, save_model
from wsicomp.models.wsic import QUALITIES, Wsic
from wsicomp.training.rate import ScaleNetwork, integers

DEPTHS = (3, 4)


def write_wsic(path: Path, *, seed: int = 0) -> Path:
    """Write the weights and return their path; equal seeds make equal bytes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Wsic(DEPTHS).eval()
        scales = {depth: random_scales(depth) for depth in DEPTHS}
        for depth in DEPTHS:
            model.heads[str(depth)].weight.data.mul_(20)  # type: ignore[operator]  # else all symbols were zero
            stir(model.means[str(depth)], 0.1)
    picture: NDArray[np.uint8] = skimage.data.immunohistochemistry()  # type: ignore[no-untyped-call]
    crops = np.stack([picture[y : y + 64, 64:128] for y in range(0, 512, 64)])
    x = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    qualities = torch.linspace(0, QUALITIES - 1, len(x))
    arrays: dict[str, NDArray[np.generic]] = {}
    with torch.inference_mode():
        for depth in DEPTHS:
            latents = model.encode(x, depth, qualities).to(torch.int16).numpy()
            fitted = EntropyModel.fit(integers(scales[depth]), list(latents))
            arrays |= {f"{depth}/{name}": array for name, array in fitted.arrays().items()}
    save_model(path, model, key=WSIC, settings={"depths": list(DEPTHS)}, notes={"data": "none"}, arrays=arrays)
    return path


def random_scales(depth: int) -> ScaleNetwork:
    """Scale network of a depth's latent with nothing left at zero."""
    network = ScaleNetwork(SLICES[depth])
    stir(network, 0.1)
    return network


def stir(module: nn.Module, deviation: float) -> None:
    """Add noise to every parameter: layers that start at zero hide what comes before them."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * deviation)
