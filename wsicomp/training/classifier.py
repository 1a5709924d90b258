"""The recipe of the frozen classifier: original training patches only, best epoch by validation AUC.

    train patches -> flips, rotations, tint -> StudyClassifier -> binary cross-entropy
    val patches   -> AUC after each epoch   -> the best epoch is kept -> threshold calibrated on the same patches

The classifier never sees a reconstruction: what it scores later is compression alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsicomp.datasets.patches import PatchTable
from wsicomp.datasets.phantom import PHANTOM_COUNTS, phantom_patches
from wsicomp.errors import DataError
from wsicomp.metrics.classification import auc, youden_threshold
from wsicomp.models.classifier import StudyClassifier
from wsicomp.models.registry import CLASSIFIER, save_model
from wsicomp.progress import Progress, silent
from wsicomp.training.checkpoint import load_checkpoint, restore_moments, save_checkpoint
from wsicomp.training.run import Run, cosine, recipe_key

__all__ = ["ClassifierRecipe", "LabelledTiles", "train_classifier"]


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


@dataclass(frozen=True)
class LabelledTiles:
    """Patches of one size with their binary labels.

    Parameters
    ----------
    tiles
        (N, H, W, 3) uint8.
    labels
        (N,) int64, 1 for the positive class.
    """

    tiles: NDArray[np.uint8]
    labels: NDArray[np.int64]

    @classmethod
    def phantom(cls, split: str) -> LabelledTiles:
        """Draw one split of the procedural phantom."""
        patches = phantom_patches(PHANTOM_COUNTS[split], seed=0, split=split)
        return cls(patches.tiles, patches.labels)

    @classmethod
    def load(cls, table: PatchTable, positive: str) -> LabelledTiles:
        """Read the patches of a table.

        Raises
        ------
        DataError
            If patches differ in size, or one class is missing.
        """
        images, labels = table.images(), table.labels(positive)
        if len({image.shape for image in images}) > 1:
            raise DataError(f"{table.name}: patches differ in size; a classifier needs one size")
        if len(set(labels.tolist())) < 2:
            raise DataError(f"{table.name}: patches of one class only; training needs both")
        return cls(np.stack(images), labels)


def train_classifier(
    train: LabelledTiles,
    val: LabelledTiles,
    recipe: ClassifierRecipe,
    run: Run,
    *,
    classes: tuple[str, str],
    data: str,
    device: torch.device,
    progress: Progress = silent,
) -> float:
    """Train on the original patches, keep the best epoch, write its weights into the run's folder.

    Parameters
    ----------
    classes
        Names of the negative and the positive class, recorded in the weights.
    data
        Name of the patches, recorded in the weights.

    Returns
    -------
    float
        Validation AUC of the epoch that was kept.

    Raises
    ------
    ConfigError
        If the folder's checkpoint belongs to other settings.
    """
    key = recipe_key(recipe, [data, *classes, str(train.tiles.shape), str(val.tiles.shape)])
    torch.manual_seed(recipe.seed)
    model = StudyClassifier(recipe.width).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    first, best_auc = 0, -1.0
    if run.checkpoint.exists():
        state, moments, position = load_checkpoint(run.checkpoint, recipe=key)
        model.load_state_dict(state)
        restore_moments(optimizer, moments)
        first, best_auc = position["epoch"], position["best_auc"]
    pos_weight = torch.tensor((train.labels == 0).sum() / (train.labels == 1).sum(), device=device)
    steps = len(train.labels) // recipe.batch_size or 1
    for epoch in range(first, recipe.epochs):
        rng = np.random.default_rng([recipe.seed, epoch])
        torch.manual_seed(recipe.seed + epoch)  # dropout of a resumed epoch is that of an uninterrupted run
        order = rng.permutation(len(train.labels))
        model.train()
        for step in range(steps):
            chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            x = augment(train.tiles[chosen], rng, recipe.tint, device)
            labels = torch.from_numpy(train.labels[chosen]).to(device).float()
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * cosine(epoch * steps + step, recipe.epochs * steps, warmup=steps)
            with torch.autocast(device.type, torch.bfloat16):
                logits = model(x)
            loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), labels, pos_weight=pos_weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if not step % 5:
                progress(epoch * steps + step, recipe.epochs * steps, f"epoch {epoch + 1}, loss {loss:.4f}")
        logits_val = score(rounded(model, recipe), val.tiles, device)
        val_auc = auc(logits_val, val.labels)
        if val_auc is None:
            raise DataError(f"{data}: validation patches of one class only; training needs both")
        run.log(epoch=epoch + 1, loss=round(loss.item(), 6), val_auc=round(val_auc, 6))
        if val_auc > best_auc:
            best_auc = val_auc
            save_model(
                run.weights,
                model,
                key=CLASSIFIER,
                settings={"width": recipe.width},
                notes={
                    "data": data,
                    "negative": classes[0],
                    "positive": classes[1],
                    "threshold": repr(youden_threshold(logits_val, val.labels)),
                    "val_auc": f"{val_auc:.4f}",
                    "epoch": str(epoch + 1),
                },
                dtype=torch.float16 if recipe.half else torch.float32,
            )
        position = {"epoch": epoch + 1, "best_auc": best_auc}
        save_checkpoint(run.checkpoint, model, optimizer, recipe=key, position=position)
        run.draw()
    progress(recipe.epochs * steps, recipe.epochs * steps, f"best validation AUC {best_auc:.4f}")
    return best_auc


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
