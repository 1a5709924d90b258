"""Whether a latent has channels enough: what a codec loses before anything is rounded.

python -m benchmarks.channels [MODEL]        writes benchmarks/results/channels.json and .md; needs WSICOMP_DATA

    rounded      PSNR of decoder(mean + round(y - mean)), the codec as it is
    exact        PSNR of decoder(y): what channels and network lose, whatever the rate
    components   PSNR of as many principal components of the same blocks of 2^depth px as the latent has channels
    live         channels of which at least one symbol in 200 is not zero

More bits lower the noise in the channels that a codec has. Where `exact` is hardly above `rounded`, they buy
nothing: at the best rate they would go to further channels (reverse water-filling: Cover & Thomas, Elements of
Information Theory, 10.3.3). Validation patches.
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
from torch import Tensor
from torch.nn import functional

from benchmarks.rd.report import table
from benchmarks.rd.tiles import load_set
from wsicomp.classification.pixels import to_float_nchw
from wsicomp.evaluation.machine import describe_machine
from wsicomp.models.registry import WSIC, load_model
from wsicomp.models.wsic import Wsic

RESULTS = Path(__file__).parent / "results"
SETS = ("prostate", "lung")
EVERY = 20
QUALITIES = (0.0, 2.0, 4.0, 6.0)
LIVE_SHARE = 0.005
BATCH = 8


def main() -> None:
    """Measure and write the results."""
    loaded = load_model(sys.argv[1] if sys.argv[1:] else WSIC)
    model = loaded.module
    assert isinstance(model, Wsic)  # noqa: S101
    rows: list[dict[str, Any]] = []
    patches = {}
    for name in SETS:
        tiles = load_set(name, Path(os.environ["WSICOMP_DATA"]), split="val", every=EVERY).tiles
        patches[name] = len(tiles)
        for depth in model.depths:
            bound = components_psnr(tiles, depth, model.latent_channels(depth))
            for quality in QUALITIES:
                measured = measure(model, tiles, depth, quality)
                rows.append({"set": name, "depth": depth, "quality": quality} | measured | {"components_db": bound})
                print(json.dumps(rows[-1]), flush=True)
    document = {
        "command": shlex.join(["python", "-m", "benchmarks.channels", *sys.argv[1:]]),
        "machine": describe_machine(),
        "model": loaded.name,
        "weights_sha256": loaded.sha256,
        "patches": patches,
        "rows": rows,
    }
    (RESULTS / "channels.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "channels.md").write_text(to_markdown(document), encoding="utf-8")


@torch.inference_mode()
def measure(model: Wsic, tiles: NDArray[np.uint8], depth: int, quality: float) -> dict[str, Any]:
    """Live channels of a latent, and PSNR in dB with it rounded and exact, means over tiles (N, H, W, 3) uint8."""
    live = torch.zeros(model.latent_channels(depth))
    rounded, exact = [], []
    for x in torch.split(torch.from_numpy(to_float_nchw(tiles)), BATCH):
        qualities = torch.full((len(x),), quality)
        symbols = model.encode(x, depth, qualities)
        live += (symbols != 0).float().mean(dim=(2, 3)).sum(dim=0)
        rounded.append(psnr(x, model.decode(symbols, depth, qualities)))
        exact.append(psnr(x, model.synthesise(model.analyse(x, depth, qualities), depth, qualities)))
    return {
        "channels": len(live),
        "live": int((live / len(tiles) >= LIVE_SHARE).sum()),
        "rounded_db": torch.cat(rounded).mean().item(),
        "exact_db": torch.cat(exact).mean().item(),
    }


def components_psnr(tiles: NDArray[np.uint8], depth: int, count: int) -> float:
    """PSNR in dB, mean over tiles, of the first `count` principal components of their blocks of 2^depth px."""
    x = torch.from_numpy(to_float_nchw(tiles))
    blocks = functional.pixel_unshuffle(x, 2**depth).permute(0, 2, 3, 1)  # (N, 3, H, W) -> (N, h, w, 3 * 4^depth)
    flat = blocks.flatten(0, 2)
    mean = flat.mean(dim=0)
    _, vectors = torch.linalg.eigh(torch.cov(flat.T))  # ascending
    kept = vectors[:, -min(count, len(vectors)) :]
    projected = (blocks - mean) @ kept @ kept.T + mean
    return psnr(x, functional.pixel_shuffle(projected.permute(0, 3, 1, 2), 2**depth)).mean().item()


def psnr(x: Tensor, x_hat: Tensor) -> Tensor:
    """PSNR (N,) in dB of pictures (N, 3, H, W) in [0, 1]."""
    return -10 * torch.log10((x_hat.clamp(0, 1) - x).square().mean(dim=(1, 2, 3)))


def to_markdown(document: dict[str, Any]) -> str:
    """Write the results as a page."""
    header = ["set", "depth", "quality", "channels", "live", "rounded dB", "exact dB", "components dB"]
    forms = dict(zip(header, ("", "", "g", "", "", ".2f", ".2f", ".2f"), strict=True))
    lines = [
        [format(value, form) for value, form in zip(row.values(), forms.values(), strict=True)]
        for row in document["rows"]
    ]
    patches = ", ".join(f"{count} of the {name}" for name, count in document["patches"].items())
    return (
        f"# Channels of the latents, `{document['command']}`\n\n"
        f"Validation patches, {patches}. What the columns say stands in benchmarks/channels.py.\n\n"
        + table(header, lines)
    )


if __name__ == "__main__":
    main()
