"""The recipe of `perticarari2023`: depth after depth, everything shallower frozen.

    for depth j = 1..depths:
        train block j and decoder j on x_hat = decoder_j(block_j(... block_1(x)))   (blocks < j frozen, statistics too)
        fix the int8 range of the latent at depth j on training crops

Loss 0.5 MSE + 0.5 MAE + 0.5 (1 - SSIM), as in the study. Where this differs: Adam with a cosine schedule on random
crops of several organs drawn evenly; the study trained on whole prostate patches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_msssim import ssim
from torch import Tensor, nn

from wsicomp.datasets.crops import CropSampler
from wsicomp.datasets.patches import PatchTable
from wsicomp.models.autoencoder import StudyAutoencoder
from wsicomp.models.registry import STUDY_CODEC, save_model
from wsicomp.progress import Progress, silent
from wsicomp.training.distributed import Processes
from wsicomp.training.loop import Training, train
from wsicomp.training.run import Run, cosine, recipe_key

__all__ = ["AutoencoderRecipe", "study_loss", "train_autoencoder"]

CLIPPED_SHARE = 1e-4
"""Share of latent elements that may fall outside the int8 range on each side."""

RANGE_BATCHES = 16
"""Batches of crops that the int8 range is taken from."""


@dataclass(frozen=True)
class AutoencoderRecipe:
    """Settings of the sequential training.

    Parameters
    ----------
    depths
        Number of encoder blocks, 1 to 6.
    steps
        Optimiser steps per depth.
    batch_size
        Crops per step.
    crop_px
        Side of a crop in pixels, a multiple of 2**depths.
    learning_rate
        Peak learning rate of Adam.
    seed
        Seed of the weights and of the crops.
    """

    depths: int = 4
    steps: int = 3000
    batch_size: int = 16
    crop_px: int = 128
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.depths <= 6:
            raise ValueError(f"depths is 1 to 6, not {self.depths}")
        if self.crop_px % 2**self.depths or self.crop_px < 16:
            raise ValueError(f"crop_px is a multiple of {2**self.depths} and at least 16, not {self.crop_px}")
        if min(self.steps, self.batch_size) < 1:
            raise ValueError("steps and batch_size are at least 1")


def study_loss(x_hat: Tensor, x: Tensor) -> Tensor:
    """Loss of the founding study, 0.5 MSE + 0.5 MAE + 0.5 (1 - SSIM), of pictures (N, 3, H, W) in [0, 1]."""
    error = x_hat - x
    structure: Tensor = ssim(x_hat, x, data_range=1.0)
    return 0.5 * error.square().mean() + 0.5 * error.abs().mean() + 0.5 * (1 - structure)


def train_autoencoder(
    tables: Sequence[PatchTable],
    recipe: AutoencoderRecipe,
    run: Run,
    *,
    device: torch.device,
    progress: Progress = silent,
) -> StudyAutoencoder:
    """Train every depth in turn and write the weights into the run's folder.

    An interrupted run goes on from its checkpoint and ends with the weights of an uninterrupted one.

    Parameters
    ----------
    tables
        Training patches; labels are not used.

    Raises
    ------
    DataError
        If an image cannot be read or is smaller than a crop.
    ConfigError
        If the folder's checkpoint belongs to other settings.
    """
    training = AutoencoderTraining(tables, recipe, device)
    train(training, run, Processes(0, 1, device), progress)
    model = training.objective.model.eval()
    save_model(
        run.weights,
        model,
        key=STUDY_CODEC,
        settings={"depths": recipe.depths},
        notes={"data": ", ".join(table.source for table in tables), "steps": str(recipe.steps)},
    )
    return model


class Objective(nn.Module):
    """The autoencoder, and its loss at a depth."""

    def __init__(self, depths: int) -> None:
        super().__init__()
        self.model = StudyAutoencoder(depths)

    def forward(self, x: Tensor, depth: int) -> Tensor:
        """Loss of x (N, 3, H, W) float32 in [0, 1] at a depth; shallower blocks are frozen."""
        with torch.no_grad():
            z = self.model.encode(x, depth - 1) if depth > 1 else x
        return study_loss(self.model.decode(self.model.encoder[depth - 1](z), depth), x)


class AutoencoderTraining(Training):
    """A stage for each depth: its block and its decoder learn, then the range of its latent is fixed."""

    objective: Objective

    def __init__(self, tables: Sequence[PatchTable], recipe: AutoencoderRecipe, device: torch.device) -> None:
        self._sampler = CropSampler.load(tables, crop_px=recipe.crop_px)
        self.key = recipe_key(recipe, [table.source for table in tables])
        self.stage_steps, self.steps = recipe.steps, recipe.depths * recipe.steps
        self._recipe, self._device = recipe, device
        torch.manual_seed(recipe.seed)
        self.objective = Objective(recipe.depths).to(device)
        self.objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.state = self.objective.model

    def begin(self, step: int) -> torch.optim.Adam:
        """Adam over what the depth may move; a depth that begins is woken."""
        model, depth = self.objective.model, self._depth(step)
        trained = freeze_below(model, depth)
        if step % self.stage_steps == 0:
            x = self._crops(depth, self.stage_steps)
            wake(model, depth, model.encode(x, depth - 1) if depth > 1 else x)
        return torch.optim.Adam(trained)

    def batches(self, first: int, last: int) -> Iterator[NDArray[np.uint8]]:
        """Crops (N, 3, H, W) uint8, other ones for each depth."""
        recipe, before = self._recipe, last - self.stage_steps
        seed = recipe.seed + self._depth(first)
        return self._sampler.batches(recipe.batch_size, seed=seed, first=first - before, last=self.stage_steps)

    def learning_rate(self, step: int) -> float:
        """Half a cosine for each depth."""
        return self._recipe.learning_rate * cosine(
            step % self.stage_steps, self.stage_steps, warmup=min(100, self.stage_steps)
        )

    def measures(self, objective: nn.Module, batch: NDArray[np.uint8], step: int) -> dict[str, Tensor]:
        """Loss of the step's depth."""
        return {"loss": objective(self._pictures(batch), self._depth(step))}

    def stepped(self, done: int) -> None:
        """Fix the range of the latent when its depth is done."""
        if done % self.stage_steps == 0:
            depth = self._depth(done - 1)
            crops = [self._crops(depth, self.stage_steps + k) for k in range(RANGE_BATCHES)]
            fix_latent_range(self.objective.model, depth, crops)

    def report(self, done: int, measures: dict[str, float]) -> tuple[dict[str, Any], str]:
        """Depth, step within it, and loss."""
        depth, loss = self._depth(done - 1), measures["loss"]
        step = done - (depth - 1) * self.stage_steps
        return {"depth": depth, "step": step, "loss": round(loss, 6)}, f"depth {depth}, loss {loss:.4f}"

    def _depth(self, step: int) -> int:
        return step // self.stage_steps + 1

    def _crops(self, depth: int, step: int) -> Tensor:
        return self._pictures(self._sampler.batch(self._recipe.batch_size, seed=self._recipe.seed + depth, step=step))

    def _pictures(self, batch: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(batch).to(self._device, memory_format=torch.channels_last).float().div_(255)


def freeze_below(model: StudyAutoencoder, depth: int) -> list[nn.Parameter]:
    """Set block and decoder of one depth to training and everything else to rest, its statistics too.

    Returns
    -------
    list
        The parameters that training at this depth may move.
    """
    model.eval().requires_grad_(requires_grad=False)
    trained: list[nn.Parameter] = []
    for part in (model.encoder[depth - 1], model.decoders[depth - 1]):
        part.train().requires_grad_()
        trained += part.parameters()
    return trained


@torch.no_grad()
def wake(model: StudyAutoencoder, depth: int, z: Tensor) -> None:
    """Set the starting biases of a depth so that each channel is positive on 9 of 10 pixels of z, its input.

    Pictures are positive, so a convolution whose random weights sum to less than zero would start below zero everywhere
    and, behind a ReLU, never learn; of the six channels of depth 1 that costs two or three.
    """
    blocks = [model.encoder[depth - 1], *list(model.decoders[depth - 1].children())[:-1]]
    for layer in (layer for block in blocks for layer in block.children()):
        before, z = z, layer(z)
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            values = z.movedim(1, 0).flatten(1)  # (N, C, h, w) -> (C, n)
            layer.bias -= values.sort(dim=1).values[:, values.shape[1] // 10]
            z = layer(before)


@torch.no_grad()
def fix_latent_range(model: StudyAutoencoder, depth: int, batches: Sequence[Tensor]) -> None:
    """Set the int8 scale and offset of a depth's channels from training crops, with the statistics at rest."""
    model.eval()
    z = torch.cat([model.encode(x, depth).movedim(1, 0).flatten(1) for x in batches], dim=1)  # (N, C, h, w) -> (C, n)
    z, _ = z.sort(dim=1)
    outside = int(CLIPPED_SHARE * z.shape[1])
    low, high = z[:, outside], z[:, -1 - outside]
    channels = model.latent_channels(depth)
    model.latent_scale[depth - 1, :channels] = ((high - low) / 254).clamp_min(1e-6)
    model.latent_offset[depth - 1, :channels] = (high + low) / 2
