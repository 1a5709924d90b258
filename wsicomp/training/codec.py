"""The recipe of `wsic`: its depths and qualities together, on rate plus distortion.

    crops -> a depth, and a quality for each crop, at random
          -> y -> y + noise          -> bits per pixel, by a stand-in for the entropy coder   (Balle et al., 2018)
               -> round(y), straight through -> x_hat -> squared error

    loss = bits per pixel + lmbda(depth, quality) * 255^2 * MSE

The weights that are kept are an exponential moving average. When training ends, the integer tables of the entropy coder
are fitted to the latents of training crops, for each depth and quality. A batch is a function of the seed and the step,
so an interrupted run goes on as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from wsicomp.codec.entropy_model import EntropyModel
from wsicomp.datasets.crops import CropSampler
from wsicomp.datasets.patches import PatchTable
from wsicomp.models.registry import WSIC, save_model
from wsicomp.models.wsic import LATENT_CHANNELS, QUALITIES, Wsic
from wsicomp.progress import Progress, silent
from wsicomp.training.checkpoint import load_checkpoint, restore_moments, save_checkpoint
from wsicomp.training.rate import CausalRate
from wsicomp.training.run import Run, cosine, recipe_key

__all__ = ["LMBDA", "CodecRecipe", "lmbda", "train_codec"]

LMBDA = {1: (0.02, 0.4), 2: (0.005, 0.12), 3: (0.002, 0.05), 4: (0.0008, 0.02)}
"""Weight of the distortion at the lowest and the highest quality of each depth."""

CHECKPOINT_STEPS = 500

FIT_CROP_PX = 192
FIT_CROPS = 96
"""Crops, in their own colours, that the tables of the entropy coder are fitted to."""


@dataclass(frozen=True)
class CodecRecipe:
    """Settings of the training.

    Parameters
    ----------
    depths
        Depths to train, ascending.
    steps
        Optimiser steps over all depths.
    batch_size
        Crops per step.
    crop_px
        Side of a crop in pixels, a multiple of 16.
    learning_rate
        Peak learning rate of AdamW.
    ema
        Decay of the moving average of the weights, per step.
    seed
        Seed of the weights and of every random choice.
    """

    depths: tuple[int, ...] = (1, 2, 3, 4)
    steps: int = 20_000
    batch_size: int = 8
    crop_px: int = 128
    learning_rate: float = 1.5e-3
    ema: float = 0.999
    seed: int = 0

    def __post_init__(self) -> None:
        if self.crop_px < 32 or self.crop_px % 16:
            raise ValueError(f"crop_px is a multiple of 16 and at least 32, not {self.crop_px}")
        if min(self.steps, self.batch_size) < 1:
            raise ValueError("steps and batch_size are at least 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema lies in [0, 1), not {self.ema}")


def lmbda(depth: int, quality: Tensor) -> Tensor:
    """Weight of the distortion at qualities in [0, 7], geometric between the ends of the depth's range."""
    low, high = LMBDA[depth]
    return low * torch.exp(quality / (QUALITIES - 1) * math.log(high / low))


def train_codec(
    tables: Sequence[PatchTable],
    recipe: CodecRecipe,
    run: Run,
    *,
    device: torch.device,
    progress: Progress = silent,
) -> Wsic:
    """Train every depth and quality and write the weights, tables included, into the run's folder.

    Parameters
    ----------
    tables
        Training patches; labels are not used, organs are drawn evenly.

    Raises
    ------
    DataError
        If an image cannot be read or is smaller than a crop.
    ConfigError
        If the folder's checkpoint belongs to other settings.
    """
    sampler = CropSampler.load(tables, crop_px=recipe.crop_px)
    key = recipe_key(recipe, [table.name for table in tables])
    torch.manual_seed(recipe.seed)
    model = Wsic(recipe.depths).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rates = nn.ModuleDict({str(depth): CausalRate(LATENT_CHANNELS[depth - 1]) for depth in recipe.depths}).to(device)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))  # type: ignore[no-untyped-call]
    everything = nn.ModuleDict({"model": model, "rates": rates, "average": average})
    trained = [*model.parameters(), *rates.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=1e-4)
    first = 0
    if run.checkpoint.exists():
        state, moments, position = load_checkpoint(run.checkpoint, recipe=key)
        everything.load_state_dict(state)
        restore_moments(optimizer, moments)
        first = position["step"]
    for step in range(first, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * cosine(step, recipe.steps, warmup=min(200, recipe.steps))
        rng = np.random.default_rng([recipe.seed, step, 1])
        depth = int(rng.choice(recipe.depths))
        quality = torch.from_numpy(rng.uniform(0, QUALITIES - 1, recipe.batch_size)).float().to(device)
        noise = torch.from_numpy(rng.random((recipe.batch_size, *latent_shape(depth, recipe.crop_px)), np.float32))
        batch = sampler.batch(recipe.batch_size, seed=recipe.seed, step=step)
        x = torch.from_numpy(batch).to(device, memory_format=torch.channels_last).float().div_(255)
        bits, mse = bits_and_error(model, rates[str(depth)], x, depth, quality, noise.to(device) - 0.5)
        loss = (bits + lmbda(depth, quality) * 255**2 * mse).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        average.update_parameters(model)
        done = step + 1
        if done % 50 == 0 or done == recipe.steps:
            bpp, psnr = bits.detach().mean().item(), -10 * math.log10(mse.detach().mean().item())
            run.log(step=done, depth=depth, loss=loss.item(), bits_per_pixel=bpp, psnr_db=psnr)
            progress(done, recipe.steps, f"depth {depth}, {bpp:.3f} bits per pixel, {psnr:.2f} dB")
        if done % CHECKPOINT_STEPS == 0 or done == recipe.steps:
            save_checkpoint(run.checkpoint, everything, optimizer, recipe=key, position={"step": done})
    kept = cast(Wsic, average.module).eval()
    save_model(
        run.weights,
        kept,
        key=WSIC,
        settings={"depths": list(recipe.depths)},
        notes={"data": ", ".join(table.name for table in tables), "steps": str(recipe.steps)},
        arrays=fit_tables(kept, CropSampler(sampler.images, FIT_CROP_PX, 0.0), recipe, device),
    )
    return kept


def latent_shape(depth: int, crop_px: int) -> tuple[int, int, int]:
    """Shape (M, h, w) of the latent of a crop."""
    return LATENT_CHANNELS[depth - 1], crop_px >> depth, crop_px >> depth


def bits_and_error(
    model: Wsic, rate: nn.Module, x: Tensor, depth: int, quality: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Bits per pixel (N,) under the stand-in, and mean squared error (N,) of x_hat, for x (N, 3, H, W) in [0, 1]."""
    with torch.autocast(x.device.type, torch.bfloat16):
        y = model.encode(x, depth, quality)
    y = y.float()
    bits = rate(y + noise).sum(dim=(1, 2, 3)) / (x.shape[2] * x.shape[3])
    y_hat = y + (y.round() - y).detach()
    with torch.autocast(x.device.type, torch.bfloat16):
        x_hat = model.decode(y_hat, depth, quality)
    return bits, (x_hat.float() - x).square().mean(dim=(1, 2, 3))


@torch.inference_mode()
def fit_tables(
    model: Wsic, sampler: CropSampler, recipe: CodecRecipe, device: torch.device
) -> dict[str, NDArray[np.generic]]:
    """Fit the entropy coder's contexts and tables, per depth and quality, on the latents of training crops.

    Returns
    -------
    dict
        Integer arrays under the names "DEPTH/QUALITY/ARRAY".
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    crops = torch.from_numpy(sampler.batch(FIT_CROPS, seed=recipe.seed, step=0)).to(device)
    for depth in recipe.depths:
        for quality in range(QUALITIES):
            y = [
                model.encode(part.float().div(255), depth, torch.full((len(part),), float(quality), device=device))
                for part in torch.split(crops, recipe.batch_size)
            ]
            latents = torch.cat(y).round().clamp(-32768, 32767).to(torch.int16).cpu().numpy()
            fitted = EntropyModel.fit(list(latents))
            arrays |= {f"{depth}/{quality}/{name}": array for name, array in fitted.arrays().items()}
    return arrays
