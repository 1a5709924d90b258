"""The recipe of `wsic`: its depths and qualities together, on rate plus distortion.

    crops -> a depth, and a quality for each crop, at random
          -> y -> y - mean + noise -> bits per pixel, by a stand-in for the entropy coder     (Balle et al., 2018)
               -> mean + round(y - mean), straight through -> x_hat -> squared error, MS-SSIM

    loss = bits per pixel + lmbda(depth, quality) * 255^2 * (3/4 distortion + 1/4 (1 - MS-SSIM) / 20)

The distortion, 2 sqrt(usual MSE * MSE), grows with the root of a crop's squared error, and is as steep as it where that
error is usual for the quality: an error that would show on a quiet crop counts for more than the same one on a busy
crop, as it does for the eye and for every measure that is a mean of decibels. MS-SSIM keeps the texture (Wang et al.,
2003). The outermost pixels count for more in the squared error: no neighbour helps to predict them, MS-SSIM's windows
hardly see them, and a tile's border shows.

The weights that are kept are an exponential moving average, as float16. When training ends, each depth's stand-in is
rounded to whole numbers, and the tables of the entropy coder are fitted to the symbols of training crops of all
qualities. A batch is a function of the seed and the step, so an interrupted run goes on as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_msssim import ms_ssim
from torch import Tensor, nn

from wsicomp.codec.entropy_model import EntropyModel
from wsicomp.codec.scales import ScaleModel
from wsicomp.datasets.crops import NO_VARIATION, CropSampler
from wsicomp.datasets.patches import PatchTable
from wsicomp.errors import ModelError
from wsicomp.metrics.distortion import psnr_db_of_mse
from wsicomp.models.context import SLICES
from wsicomp.models.registry import WSIC, LoadedModel, save_model
from wsicomp.models.wsic import LATENT_CHANNELS, QUALITIES, Wsic
from wsicomp.progress import Progress, silent
from wsicomp.training.distributed import Processes
from wsicomp.training.loop import Training, train
from wsicomp.training.optimiser import MuonAdamW, moving_average
from wsicomp.training.rate import ScaleNetwork, floats, integers
from wsicomp.training.run import Run, plateau, recipe_key

__all__ = ["LMBDA", "CodecRecipe", "lmbda", "train_codec"]

LMBDA = {1: (0.02, 0.4), 2: (0.005, 0.12), 3: (0.002, 0.05), 4: (0.0005, 0.02)}
"""Weight of the distortion at the lowest and the highest quality of each depth."""

USUAL_MSE = 4e-4
"""Squared error of a crop times the cube root of lmbda, on validation crops after training on that error alone."""

LEAST_MSE = 1e-6
"""Below this error, -60 dB, a crop earns nothing more."""

RATE_WARMUP = 4000
"""Steps over which the weight of the bits rises to 1, at most a quarter of all: with the full weight from the start, a
depth would learn to send nothing before it can draw, and a channel that is always zero learns no more."""

MS_SSIM_SHARE = 0.25
"""Share of MS-SSIM in the distortion; the rest is squared error."""

MS_SSIM_MSE = 1 / 20
"""Squared error that counts as much as a loss of 1 in MS-SSIM, from what validation patches lose of both."""

BORDER_SHARE = 1 / 16
"""Share of the outermost pixels in the squared error: in a crop of 128, each counts for three others."""

FIT_CROP_PX = 192
FIT_CROPS = 192
"""Crops, in their own colours and scale, that the coder's tables are fitted to; smaller where an image is."""


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
        Peak learning rate, of both optimisers.
    seed
        Seed of the weights and of every random choice.
    """

    depths: tuple[int, ...] = (1, 2, 3, 4)
    steps: int = 20_000
    batch_size: int = 8
    crop_px: int = 128
    learning_rate: float = 1.5e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.depths or set(self.depths) - set(LMBDA) or list(self.depths) != sorted(set(self.depths)):
            raise ValueError(f"depths are some of {', '.join(map(str, LMBDA))}, ascending, not {self.depths}")
        if self.crop_px < 32 or self.crop_px % 16:
            raise ValueError(f"crop_px is a multiple of 16 and at least 32, not {self.crop_px}")
        if min(self.steps, self.batch_size) < 1:
            raise ValueError("steps and batch_size are at least 1")


def lmbda(depth: int, quality: Tensor) -> Tensor:
    """Weight of the distortion at qualities in [0, 7], geometric between the ends of the depth's range."""
    low, high = LMBDA[depth]
    return low * torch.exp(quality / (QUALITIES - 1) * math.log(high / low))


def distortion(mse: Tensor, weight: Tensor) -> Tensor:
    """Distortion (N,) of crops of mean squared error (N,), of pixels in [0, 1], at weights lmbda (N,)."""
    usual = USUAL_MSE * weight ** (-1 / 3)
    return 2 * (usual * mse + LEAST_MSE**2).sqrt()


def train_codec(
    tables: Sequence[PatchTable],
    recipe: CodecRecipe,
    run: Run,
    *,
    group: Processes,
    start: LoadedModel | None = None,
    progress: Progress = silent,
) -> Wsic:
    """Train every depth and quality and write the weights, tables included, into the run's folder.

    Parameters
    ----------
    tables
        Training patches; labels are not used. Organs are drawn evenly, but for tables that have a share.
    group
        The processes that share each batch, and the device of this one.
    start
        Weights of `wsic` to go on from; None begins from nothing.

    Raises
    ------
    DataError
        If an image cannot be read or is smaller than a crop.
    ConfigError
        If the folder's checkpoint belongs to other settings, or `start` lacks a depth.
    ModelError
        If the entropy model of `start` is damaged.
    """
    training = CodecTraining(tables, recipe, group, start)
    train(training, run, group, progress)
    kept = halved(cast(Wsic, training.average.module).eval())
    if group.writes:
        save_model(
            run.weights,
            kept,
            key=WSIC,
            settings={"depths": list(recipe.depths)},
            notes={
                "data": ", ".join(table.source for table in tables),
                "steps": str(recipe.steps),
                **origin_of(start),
            },
            dtype=torch.float16,
            arrays=fit_entropy(kept, training.objective.rates, fit_sampler(training.sampler), recipe, group.device),
        )
    group.wait()
    return kept


def origin_of(start: LoadedModel | None) -> dict[str, str]:
    """Name and SHA-256 of the weights that a training goes on from, as a note."""
    return {} if start is None else {"from": f"{start.name} {start.sha256}"}


class CodecTraining(Training):
    """All depths and qualities together, on rate plus distortion, with a moving average of the weights."""

    clip = 1.0
    objective: Objective

    def __init__(
        self, tables: Sequence[PatchTable], recipe: CodecRecipe, group: Processes, start: LoadedModel | None
    ) -> None:
        self.sampler = CropSampler.load(tables, crop_px=recipe.crop_px)
        self.key = recipe_key(recipe, [*(table.source for table in tables), *origin_of(start).values()])
        self.steps = self.stage_steps = recipe.steps
        self._recipe, self._device, self._own = recipe, group.device, group.share(recipe.batch_size)
        self._warm = start is not None
        torch.manual_seed(recipe.seed)
        self.objective = Objective(recipe.depths)
        if start is not None:
            self.objective.take(start)
        self.objective.to(group.device)
        self.objective.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = moving_average(self.objective.model)
        self.state = nn.ModuleDict(
            {"model": self.objective.model, "rates": self.objective.rates, "average": self.average}
        )

    def begin(self, step: int) -> MuonAdamW:
        """Both optimisers of the codec, over everything."""
        return MuonAdamW(self.objective.parameters(), self._recipe.learning_rate)

    def batches(self, first: int, last: int) -> Iterator[NDArray[np.uint8]]:
        """Crops (N, 3, H, W) uint8."""
        return self.sampler.batches(self._recipe.batch_size, seed=self._recipe.seed, first=first, last=last)

    def learning_rate(self, step: int) -> float:
        """Plateau, and a fall at the end."""
        return self._recipe.learning_rate * plateau(step, self.steps, warmup=min(200, self.steps))

    def measures(self, objective: nn.Module, batch: NDArray[np.uint8], step: int) -> dict[str, Tensor]:
        """Draw a depth, a quality for each crop, and the noise that stands for rounding."""
        recipe, device = self._recipe, self._device
        rng = np.random.default_rng([recipe.seed, step, 1])
        self._depth = int(rng.choice(recipe.depths, p=depth_shares(recipe.depths)))
        drawn = rng.uniform(0, QUALITIES - 1, recipe.batch_size)[self._own]
        noise = rng.random((recipe.batch_size, *latent_shape(self._depth, recipe.crop_px)), np.float32)[self._own] - 0.5
        quality = torch.from_numpy(drawn).float().to(device)
        x = torch.from_numpy(batch[self._own]).to(device, memory_format=torch.channels_last).float().div_(255)
        counted = 1.0 if self._warm else min((step + 1) / min(RATE_WARMUP, max(recipe.steps // 4, 1)), 1.0)
        losses, bits, mse = objective(x, self._depth, quality, torch.from_numpy(noise).to(device), counted)
        return {"loss": losses.mean(), "bits_per_pixel": bits.mean(), "mse": mse.mean()}

    def stepped(self, done: int) -> None:
        """Move the average."""
        self.average.update_parameters(self.objective.model)

    def report(self, done: int, measures: dict[str, float]) -> tuple[dict[str, Any], str]:
        """Depth of the step, rate and distortion."""
        bpp, psnr_db = measures["bits_per_pixel"], psnr_db_of_mse(measures["mse"], peak=1.0)
        entry = {"depth": self._depth, "loss": measures["loss"], "bits_per_pixel": bpp, "psnr_db": psnr_db}
        return {"step": done, **entry}, f"depth {self._depth}, {bpp:.3f} bits per pixel, {psnr_db:.2f} dB"


def halved(model: Wsic) -> Wsic:
    """Round a model's weights to what float16 holds of them, in place, so that they are those that will be read."""
    for weight in model.parameters():
        weight.data.copy_(weight.data.half())
    return model


class Objective(nn.Module):
    """The codec and its depths' stand-ins for the entropy coder, and what both make of a batch."""

    def __init__(self, depths: Sequence[int]) -> None:
        super().__init__()
        self.model = Wsic(depths)
        self.rates = nn.ModuleDict({str(depth): ScaleNetwork(SLICES[depth]) for depth in depths})

    def take(self, start: LoadedModel) -> None:
        """Begin with the weights of a trained model, and with what its entropy coder computes with.

        Raises
        ------
        ConfigError
            If the model lacks a depth.
        ModelError
            If its entropy model is missing or damaged.
        """
        theirs = cast(Wsic, start.module)
        for depth in self.model.depths:
            theirs.latent_channels(depth)
            try:
                self.rates[str(depth)] = floats(ScaleModel.from_arrays(start.arrays_of(depth)))
            except ValueError as error:
                raise ModelError(f"{start.name}: its entropy model of depth {depth} is damaged") from error
        state = theirs.state_dict()
        self.model.load_state_dict({name: state[name] for name in self.model.state_dict()})

    def forward(
        self, x: Tensor, depth: int, quality: Tensor, noise: Tensor, counted: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, bits per pixel, and mean squared error of x_hat, each (N,), for x (N, 3, H, W) in [0, 1].

        The share `counted` of the bits enters the loss.
        """
        with torch.autocast(x.device.type, torch.bfloat16):
            y = self.model.analyse(x, depth, quality)
        residuals, y_hat = self.model.quantise(y, depth, quality)
        bits = self.rates[str(depth)](residuals, noise).sum(dim=(1, 2, 3)) / (x.shape[2] * x.shape[3])
        with torch.autocast(x.device.type, torch.bfloat16):
            x_hat = self.model.synthesise(y_hat, depth, quality)
        squares = (x_hat.float() - x).square()
        mse = squares.mean(dim=(1, 2, 3))
        weight = lmbda(depth, quality)
        seen = torch.lerp(mse, border_mean(squares), BORDER_SHARE)
        loss = counted * bits + weight * 255**2 * self.error(x, x_hat.float(), seen, weight)
        # High qualities have large losses; dividing by the root keeps them from drowning the low ones.
        return loss * (weight / LMBDA[depth][0]).rsqrt(), bits, mse

    def error(self, x: Tensor, x_hat: Tensor, mse: Tensor, weight: Tensor) -> Tensor:
        """Measure what is lost of x, (N,), at weights lmbda (N,)."""
        window = ms_ssim_window_px(min(x.shape[2:]))
        similarity: Tensor = ms_ssim(x_hat, x, data_range=1.0, size_average=False, win_size=window)
        return torch.lerp(distortion(mse, weight), MS_SSIM_MSE * (1 - similarity), MS_SSIM_SHARE)


def border_mean(squares: Tensor) -> Tensor:
    """Mean (N,) of the outermost rows and columns of (N, 3, H, W)."""
    rows, columns = squares[:, :, [0, -1]], squares[:, :, :, [0, -1]]
    return (rows.mean(dim=(1, 2, 3)) + columns.mean(dim=(1, 2, 3))) / 2


def ms_ssim_window_px(side: int) -> int:
    """Side of the window of MS-SSIM whose five scales fit into a crop: the usual 11, or less below 161 pixels."""
    fits = min((side - 1) // 16 + 1, 11)
    return fits - 1 + fits % 2


def depth_shares(depths: Sequence[int]) -> NDArray[np.float64]:
    """Share of the steps of each depth, as its square: a deeper one has more to learn, and is what is used most."""
    powers = np.array(depths, np.float64) ** 2
    shares: NDArray[np.float64] = powers / powers.sum()
    return shares


def latent_shape(depth: int, crop_px: int) -> tuple[int, int, int]:
    """Shape (M, h, w) of the latent of a crop."""
    return LATENT_CHANNELS[depth - 1], crop_px >> depth, crop_px >> depth


def fit_sampler(sampler: CropSampler) -> CropSampler:
    """Sampler of crops as they are, as large as the smallest image allows."""
    smallest = min(min(image.shape[:2]) for images in sampler.images.values() for image in images)
    return replace(sampler, crop_px=min(FIT_CROP_PX, smallest // 16 * 16), variation=NO_VARIATION)


@torch.inference_mode()
def fit_entropy(
    model: Wsic, rates: nn.ModuleDict, sampler: CropSampler, recipe: CodecRecipe, device: torch.device
) -> dict[str, NDArray[np.generic]]:
    """Round each depth's scale network to whole numbers, and fit the coder's tables on symbols of training crops.

    Returns
    -------
    dict
        Integer arrays under the names "DEPTH/ARRAY".
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    crops = torch.from_numpy(sampler.batch(FIT_CROPS, seed=recipe.seed, step=0)).to(device)
    qualities = torch.linspace(0, QUALITIES - 1, FIT_CROPS, device=device)
    for depth in recipe.depths:
        symbols = [
            model.encode(x.float().div(255), depth, quality)
            for x, quality in zip(
                torch.split(crops, recipe.batch_size), torch.split(qualities, recipe.batch_size), strict=True
            )
        ]
        latents = torch.cat(symbols).to(torch.int16).cpu().numpy()
        fitted = EntropyModel.fit(integers(cast(ScaleNetwork, rates[str(depth)])), list(latents))
        arrays |= {f"{depth}/{name}": array for name, array in fitted.arrays().items()}
    return arrays
