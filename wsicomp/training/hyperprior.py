"""The recipe of the learned peers, on the crops and for the steps that `wsic` is trained with.

    crops -> y, z + noise -> bits per pixel by the model's own densities, squared error
    loss = bits per pixel + lmbda * 255^2 * MSE      AdamW, warm-up and cosine, moving average of the weights

The papers train for millions of steps; a comparison with `wsic` is made at equal steps, batches and crops.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsicomp.datasets.crops import CropSampler
from wsicomp.metrics.distortion import psnr_db_of_mse
from wsicomp.models.hyperprior import PEERS, Hyperprior
from wsicomp.models.registry import save_model
from wsicomp.progress import Progress, silent
from wsicomp.training.distributed import Processes
from wsicomp.training.loop import Training, train
from wsicomp.training.optimiser import moving_average
from wsicomp.training.run import Run, cosine, recipe_key

__all__ = ["HyperpriorRecipe", "rate_distortion", "train_hyperprior"]


@dataclass(frozen=True)
class HyperpriorRecipe:
    """Settings of the training of one peer.

    Parameters
    ----------
    name
        Key of the model, one of `PEERS`.
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
    lmbda: float
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


def rate_distortion(model: nn.Module, x: Tensor, lmbda: float) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, bits per pixel and squared error of pictures x (N, 3, H, W) in [0, 1], means over the batch."""
    x_hat, bits = model(x)
    bits_per_pixel = bits.mean() / (x.shape[2] * x.shape[3])
    mse = (x_hat - x).square().mean()
    return bits_per_pixel + lmbda * 255**2 * mse, bits_per_pixel, mse


def train_hyperprior(
    sampler: CropSampler, recipe: HyperpriorRecipe, run: Run, *, device: torch.device, progress: Progress = silent
) -> None:
    """Train one peer, or go on with it, and write its weights into the run's folder.

    Raises
    ------
    ConfigError
        If the folder's checkpoint belongs to other settings.
    """
    training = HyperpriorTraining(sampler, recipe, device)
    train(training, run, Processes(0, 1, device), progress)
    save_model(
        run.weights,
        cast(Hyperprior, training.average.module),
        key=recipe.name,
        settings={},
        notes={"data": ", ".join(sampler.sources), "steps": str(recipe.steps), "lmbda": f"{recipe.lmbda:.4f}"},
    )


class HyperpriorTraining(Training):
    """One peer at one weight of the distortion."""

    clip = 1.0

    def __init__(self, sampler: CropSampler, recipe: HyperpriorRecipe, device: torch.device) -> None:
        self.key = recipe_key(recipe, list(sampler.sources))
        self.steps = self.stage_steps = recipe.steps
        self._sampler, self._recipe, self._device = sampler, recipe, device
        torch.manual_seed(recipe.seed)
        self.objective = PEERS[recipe.name]().to(device).train()
        self.objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = moving_average(self.objective)
        self.state = nn.ModuleDict({"model": self.objective, "average": self.average})

    def begin(self, step: int) -> torch.optim.AdamW:
        """AdamW over everything."""
        return torch.optim.AdamW(self.objective.parameters(), weight_decay=0.0, fused=True)

    def batches(self, first: int, last: int) -> Iterator[NDArray[np.uint8]]:
        """Crops (N, 3, H, W) uint8."""
        return self._sampler.batches(self._recipe.batch_size, seed=self._recipe.seed, first=first, last=last)

    def learning_rate(self, step: int) -> float:
        """Half a cosine."""
        return self._recipe.learning_rate * cosine(step, self.steps, warmup=min(200, self.steps))

    def measures(self, objective: nn.Module, batch: NDArray[np.uint8], step: int) -> dict[str, Tensor]:
        """Rate and distortion, with the step's own noise in place of rounding."""
        torch.manual_seed(self._recipe.seed + step)
        x = torch.from_numpy(batch).to(self._device).float().div_(255)
        loss, bits_per_pixel, mse = rate_distortion(objective, x, self._recipe.lmbda)
        return {"loss": loss, "bits_per_pixel": bits_per_pixel, "mse": mse}

    def stepped(self, done: int) -> None:
        """Move the average."""
        self.average.update_parameters(self.objective)

    def report(self, done: int, measures: dict[str, float]) -> tuple[dict[str, Any], str]:
        """Rate and distortion."""
        bpp, psnr_db = measures["bits_per_pixel"], psnr_db_of_mse(measures["mse"], peak=1.0)
        entry = {"step": done, "loss": measures["loss"], "bits_per_pixel": bpp, "psnr_db": psnr_db}
        return entry, f"{bpp:.3f} bits per pixel, {psnr_db:.2f} dB"
