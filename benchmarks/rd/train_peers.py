"""Train the learned peers on the patches, the sampler and the number of steps that `wsic` is trained with.

    python -m benchmarks.rd.train_peers --device cuda --steps 20000 --processes 8 --out runs/peers
    python -m benchmarks.rd --peers runs/peers

    crops -> y, z + noise -> bits per pixel by the model's own densities, squared error
    loss = bits per pixel + lmbda * 255^2 * MSE      AdamW, warm-up and cosine, moving average of the weights

One command for both models at four lmbdas; each is a file OUT/NAME-LMBDA.safetensors. What is finished is not trained
again, and an interrupted training goes on from its last checkpoint in OUT/checkpoints. It is meant for a GPU: on one
CPU core with bfloat16 a step of the default batch takes a quarter of a second. The papers train for millions of steps;
the comparison here is at equal steps, batches and crops, so give the same ones as `wsicomp train codec` was given.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.rd.peers import PEERS, Hyperprior, peer
from wsicomp.datasets.crops import CropSampler
from wsicomp.datasets.patches import PatchTable
from wsicomp.disk import replacing
from wsicomp.models.device import resolve_device
from wsicomp.training.checkpoint import load_checkpoint, restore_moments, save_checkpoint
from wsicomp.training.optimiser import moving_average
from wsicomp.training.run import cosine, recipe_key

__all__ = ["LMBDAS", "PeerRecipe", "rate_distortion", "train_peer"]

LMBDAS = ("0.0012", "0.0040", "0.0130", "0.0450")
"""As text, because they are part of file names; they span about 0.15 to 1.3 bits per pixel on prostate."""
DATA = ("prostate", "lung", "more", "lymphoma")
CHECKPOINT_STEPS = 500
LOG_STEPS = 100


@dataclass(frozen=True)
class PeerRecipe:
    """Settings of the training of one peer.

    Parameters
    ----------
    name
        Key of `peers.PEERS`.
    lmbda
        Weight of the distortion.
    steps
        Optimiser steps.
    batch_size
        Crops per step.
    crop_px
        Side of a crop in pixels, a multiple of 64.
    learning_rate
        Peak learning rate. The papers' 1e-4 is meant for a hundred times the steps.
    seed
        Seed of the weights and of every random choice.
    """

    name: str
    lmbda: str
    steps: int
    batch_size: int = 8
    crop_px: int = 128
    learning_rate: float = 5e-4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in PEERS:
            raise ValueError(f"{self.name} is none of {', '.join(PEERS)}")
        if self.crop_px < 64 or self.crop_px % 64:
            raise ValueError(f"crop_px is a multiple of 64, not {self.crop_px}")
        if min(self.steps, self.batch_size) < 1:
            raise ValueError("steps and batch_size are at least 1")

    @property
    def file_name(self) -> str:
        """Name of the weights file, which `learned.peer_codecs` reads the setting from."""
        return f"{self.name}-{self.lmbda}.safetensors"


def rate_distortion(model: Hyperprior, x: Tensor, lmbda: float) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, bits per pixel and squared error of pictures x (N, 3, H, W) in [0, 1], means over the batch."""
    x_hat, bits = model(x)
    bits_per_pixel = bits.mean() / (x.shape[2] * x.shape[3])
    mse = (x_hat - x).square().mean()
    return bits_per_pixel + lmbda * 255**2 * mse, bits_per_pixel, mse


def train_peer(sampler: CropSampler, recipe: PeerRecipe, out: Path, device: torch.device) -> Path:
    """Train one peer, or go on with it, and write its weights; return their file."""
    weights = out / recipe.file_name
    if weights.exists():
        return weights
    (out / "checkpoints").mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoints" / recipe.file_name
    key = recipe_key(recipe, list(sampler.sources))
    torch.manual_seed(recipe.seed)
    model = peer(recipe.name).to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    average = moving_average(model)
    both = nn.ModuleDict({"model": model, "average": average})
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=0.0, fused=True)
    first, started = 0, time.perf_counter()
    if checkpoint.exists():
        state, moments, position = load_checkpoint(checkpoint, recipe=key)
        both.load_state_dict(state)
        restore_moments(optimizer, moments)
        first = position["step"]
    for step in range(first, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * cosine(step, recipe.steps, warmup=min(200, recipe.steps))
        torch.manual_seed(recipe.seed + step)  # the noise of a step, also after an interruption
        batch = torch.from_numpy(sampler.batch(recipe.batch_size, seed=recipe.seed, step=step))
        x = batch.to(device, non_blocking=True).float().div_(255)
        loss, bits_per_pixel, mse = rate_distortion(model, x, float(recipe.lmbda))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(model)
        done = step + 1
        if done % LOG_STEPS == 0 or done == recipe.steps:
            psnr_db = -10 * mse.detach().log10().item()
            seconds = time.perf_counter() - started
            report = f"{done}/{recipe.steps}  {bits_per_pixel.item():.3f} bits per pixel, {psnr_db:.2f} dB"
            print(f"{weights.stem}  {report}  {seconds:.0f} s", flush=True)
        if done % CHECKPOINT_STEPS == 0 and done < recipe.steps:
            save_checkpoint(checkpoint, both, optimizer, recipe=key, position={"step": done})
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in average.module.state_dict().items()}
    with replacing(weights) as partial:
        save_file(kept, partial, metadata={"recipe": json.dumps(key)})
    checkpoint.unlink(missing_ok=True)
    return weights


def main(words: Sequence[str] | None = None) -> int:
    """Train every peer at every lmbda; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rd.train_peers", description="Train the learned peers.")
    parser.add_argument("--data", type=Path, action="append", help="table of patches; may be given several times")
    parser.add_argument("--out", type=Path, default=Path("runs/peers"), help="folder of the weights")
    parser.add_argument("--steps", type=int, required=True, help="optimiser steps of each model")
    parser.add_argument("--batch-size", type=int, default=8, help="crops per step")
    parser.add_argument("--crop", type=int, default=128, help="side of a crop in pixels")
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="peak learning rate")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--processes", type=int, default=1, help="models that train side by side")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of every random choice")
    options = parser.parse_args(words)
    folders: list[Path] = options.data or [Path(os.environ.get("WSICOMP_DATA", "")) / name for name in DATA]
    if not options.data and not os.environ.get("WSICOMP_DATA"):
        print("train_peers: set WSICOMP_DATA, or give --data", file=sys.stderr)
        return 2
    recipes = [
        PeerRecipe(
            *(name, lmbda, options.steps, options.batch_size, options.crop, options.learning_rate), seed=options.seed
        )
        for name in PEERS
        for lmbda in LMBDAS
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    if options.processes == 1:
        train_all(recipes, folders, options.out, options.device)
        return 0
    # Spawned: a forked process cannot use CUDA.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, context) as pool:
        futures = [pool.submit(train_all, [recipe], folders, options.out, options.device) for recipe in recipes]
        for future in futures:
            future.result()
    return 0


def train_all(recipes: Sequence[PeerRecipe], folders: Sequence[Path], out: Path, device: str) -> None:
    """Load the train splits once and train some peers on them, one after the other."""
    if all((out / recipe.file_name).exists() for recipe in recipes):
        return
    tables = [PatchTable.load(folder) for folder in folders]
    tables = [table.select(split="train") if table.has_splits else table for table in tables]
    sampler = CropSampler.load(tables, crop_px=recipes[0].crop_px)
    for recipe in recipes:
        print(train_peer(sampler, recipe, out, resolve_device(device)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
