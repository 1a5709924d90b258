"""The recipe of the frozen classifier: original training patches only, best epoch by validation AUC.

    train patches -> flips, rotations, tint -> StudyClassifier -> binary cross-entropy
    val patches   -> AUC after each epoch   -> the best epoch is kept -> threshold calibrated on the same patches

The classifier never sees a reconstruction: what it scores later is compression alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsicomp.datasets.labelled import LabelledTiles
from wsicomp.errors import DataError
from wsicomp.metrics.classification import auc, youden_threshold
from wsicomp.models.classifier import StudyClassifier
from wsicomp.models.registry import CLASSIFIER, save_model
from wsicomp.progress import Progress, silent
from wsicomp.training.distributed import Processes
from wsicomp.training.loop import Training, train
from wsicomp.training.run import Run, cosine, recipe_key

__all__ = ["ClassifierRecipe", "train_classifier"]


@dataclass(frozen=True)
class ClassifierRecipe:
    """Settings of the classifier's training.

    Parameters
    ----------
    width
        Factor on the network's channels; 1.0 is the study's.
    epochs
        Passes over the training patches.
    batch_size
        Patches per step, at least 2: batch normalisation has no statistics of a single pixel.
    learning_rate
        Peak learning rate of AdamW.
    weight_decay
        Weight decay of AdamW.
    tint
        Half width of the random gain of each colour channel.
    half
        Store the weights as float16, which halves the file; validation is then done on the rounded weights.
    seed
        Seed of the weights, the order and the augmentation.
    """

    width: float = 1.0
    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    tint: float = 0.1
    half: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.width <= 4:
            raise ValueError(f"width lies in (0, 4], not {self.width}")
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError("epochs is at least 1 and batch_size at least 2")


def train_classifier(
    train_tiles: LabelledTiles,
    val: LabelledTiles,
    recipe: ClassifierRecipe,
    run: Run,
    *,
    device: torch.device,
    progress: Progress = silent,
) -> float:
    """Train on the original patches, keep the best epoch, write its weights into the run's folder.

    Parameters
    ----------
    train_tiles, val
        Patches to train on and to choose the epoch by; their name and classes are recorded in the weights.

    Returns
    -------
    float
        Validation AUC of the epoch that was kept.

    Raises
    ------
    ConfigError
        If the folder's checkpoint belongs to other settings.
    DataError
        If one class is missing.
    """
    training = ClassifierTraining(train_tiles, val, recipe, run, device)
    train(training, run, Processes(0, 1, device), progress)
    return training.best_auc.item()


class ClassifierTraining(Training):
    """Epochs over the training patches; after each, the validation AUC decides whether its weights are kept."""

    objective: StudyClassifier

    def __init__(
        self, tiles: LabelledTiles, val: LabelledTiles, recipe: ClassifierRecipe, run: Run, device: torch.device
    ) -> None:
        if any(len(np.unique(part.labels)) < 2 for part in (tiles, val)):
            raise DataError(f"{tiles.name}: patches of one class only; training needs both")
        self.key = recipe_key(recipe, [tiles.name, *tiles.classes, str(tiles.tiles.shape), str(val.tiles.shape)])
        self._epoch_steps = self.log_steps = self.checkpoint_steps = len(tiles.labels) // recipe.batch_size or 1
        self.steps = self.stage_steps = recipe.epochs * self._epoch_steps
        self._auc = -1.0
        self.best_auc = torch.tensor(-1.0, dtype=torch.float64)
        self._tiles, self._val, self._recipe, self._run, self._device = tiles, val, recipe, run, device
        torch.manual_seed(recipe.seed)
        self.objective = StudyClassifier(recipe.width).to(device)
        self.objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.state = nn.ModuleDict({"model": self.objective})
        self.state.register_buffer("best_auc", self.best_auc)
        self._pos_weight = torch.tensor((tiles.labels == 0).sum() / (tiles.labels == 1).sum(), device=device)

    def begin(self, step: int) -> torch.optim.AdamW:
        """AdamW over everything."""
        return torch.optim.AdamW(self.objective.parameters(), weight_decay=self._recipe.weight_decay)

    def batches(self, first: int, last: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Pictures (N, 3, H, W) float32 in [0, 1] and labels (N,) float32; `first` begins an epoch."""
        size = self._recipe.batch_size
        for epoch in range(first // self._epoch_steps, last // self._epoch_steps):
            rng = np.random.default_rng([self._recipe.seed, epoch])
            torch.manual_seed(self._recipe.seed + epoch)  # dropout of a resumed epoch is that of an uninterrupted run
            order = rng.permutation(len(self._tiles.labels))
            self.objective.train()
            for step in range(self._epoch_steps):
                chosen = order[step * size : (step + 1) * size]
                x = augment(self._tiles.tiles[chosen], rng, self._recipe.tint, self._device)
                yield x, torch.from_numpy(self._tiles.labels[chosen]).to(self._device).float()

    def learning_rate(self, step: int) -> float:
        """Half a cosine over all epochs, after one epoch of warm-up."""
        return self._recipe.learning_rate * cosine(step, self.steps, warmup=self._epoch_steps)

    def measures(self, objective: nn.Module, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        """Binary cross-entropy, both classes weighing the same."""
        x, labels = batch
        with torch.autocast(self._device.type, torch.bfloat16):
            logits = objective(x)
        loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), labels, pos_weight=self._pos_weight)
        return {"loss": loss}

    def stepped(self, done: int) -> None:
        """Validate at the end of an epoch, and keep the best weights."""
        if done % self._epoch_steps:
            return
        recipe, labels = self._recipe, self._val.labels
        logits = score(rounded(self.objective, recipe), self._val.tiles, self._device)
        self._auc = cast(float, auc(logits, labels))  # of two classes, so it is not None
        if self._auc <= self.best_auc:
            return
        self.best_auc.fill_(self._auc)
        save_model(
            self._run.weights,
            self.objective,
            key=CLASSIFIER,
            settings={"width": recipe.width},
            notes={
                "data": self._tiles.name,
                "negative": self._tiles.classes[0],
                "positive": self._tiles.classes[1],
                "threshold": repr(youden_threshold(logits, labels)),
                "val_auc": f"{self._auc:.4f}",
                "epoch": str(done // self._epoch_steps),
            },
            dtype=torch.float16 if recipe.half else torch.float32,
        )

    def report(self, done: int, measures: dict[str, float]) -> tuple[dict[str, Any], str]:
        """Epoch, loss of its last batch, and validation AUC."""
        epoch, loss = done // self._epoch_steps, measures["loss"]
        entry = {"epoch": epoch, "loss": round(loss, 6), "val_auc": round(self._auc, 6)}
        return entry, f"epoch {epoch}, loss {loss:.4f}, validation AUC {self._auc:.4f}"


def augment(tiles: NDArray[np.uint8], rng: np.random.Generator, tint: float, device: torch.device) -> Tensor:
    """Flip, rotate and tint a batch (N, H, W, 3) uint8 to (N, 3, H, W) float in [0, 1]; only squares turn by 90."""
    square = tiles.shape[1] == tiles.shape[2]
    turned = [
        np.rot90(
            tile if rng.integers(2) else tile[:, ::-1], int(rng.integers(4)) if square else 2 * int(rng.integers(2))
        )
        for tile in tiles
    ]
    x = torch.from_numpy(np.stack(turned)).to(device).permute(0, 3, 1, 2).float().div_(255)  # -> (N, 3, H, W)
    gains = torch.from_numpy(rng.uniform(1 - tint, 1 + tint, (len(tiles), 3, 1, 1))).to(device).float()
    return (x * gains).clamp_(0, 1).contiguous(memory_format=torch.channels_last)


def rounded(model: StudyClassifier, recipe: ClassifierRecipe) -> StudyClassifier:
    """Model as it will be read back: with float16 weights where the recipe stores them so."""
    if not recipe.half:
        return model
    copy = StudyClassifier(recipe.width).to(next(model.parameters()).device)
    copy.load_state_dict({name: t.half().to(t.dtype) for name, t in model.state_dict().items()})
    return copy


@torch.inference_mode()
def score(
    model: StudyClassifier, tiles: NDArray[np.uint8], device: torch.device, batch_size: int = 32
) -> NDArray[np.float64]:
    """Logits (N,) float64 of tiles (N, H, W, 3) uint8, in float32."""
    model.eval()
    logits = [
        model(torch.from_numpy(tiles[k : k + batch_size]).to(device).permute(0, 3, 1, 2).float() / 255)
        for k in range(0, len(tiles), batch_size)
    ]
    return torch.cat(logits).double().cpu().numpy()
