"""A frozen classifier as the guard of a floor: its predictions on the originals are those that a store must keep."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsicomp.classification.frozen import ChosenClassifier, choose_classifier
from wsicomp.errors import ConfigError
from wsicomp.metrics.classification import predict
from wsicomp.models.device import resolve_device
from wsicomp.pipeline.floor import Floor, Guard

__all__ = ["load_guard", "make_floor"]

THRESHOLD = 0.5
"""Probability from which a tile is positive, where the classifier's file names none."""


@cache
def classifier_of(source: str, device: torch.device) -> ChosenClassifier:
    """Load a classifier once in this process."""
    return choose_classifier(source, device)


@dataclass(frozen=True)
class Logits:
    """The logits of a classifier that each process loads for itself; picklable, unlike the classifier.

    Parameters
    ----------
    source
        Shipped name, or absolute path of its file.
    device
        Where it runs.
    sha256
        SHA-256 of its weights.
    """

    source: str
    device: torch.device
    sha256: str

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Turn tiles (N, T, T, 3) uint8 into logits (N,); ConfigError if this process finds another classifier."""
        chosen = classifier_of(self.source, self.device)
        if chosen.sha256 != self.sha256:
            raise ConfigError(f"{self.source}: is another classifier on a worker; install the same one everywhere")
        return chosen.classifier.logits(tiles)


def load_guard(source: str, device: torch.device, *, tile_size: int, max_shift: float | None = None) -> Guard:
    """Load a classifier by shipped name, safetensors file or ONNX file, to guard tiles of one size.

    Parameters
    ----------
    tile_size
        Side in pixels of the tiles that it will see; a black one is tried here.
    max_shift
        Largest allowed distance between the logit of a tile and that of its original; None allows any.

    Raises
    ------
    ModelError
        If it cannot be loaded, or does not take the tiles.
    ConfigError
        If the shift cannot be.
    """
    chosen = classifier_of(source, device)
    threshold = THRESHOLD if chosen.threshold is None else chosen.threshold
    guard = Guard(
        sha256=chosen.sha256,
        threshold=threshold,
        logits=Logits(str(Path(source).absolute()) if Path(source).is_file() else source, device, chosen.sha256),
        predict=partial(predict, threshold=threshold),
        max_shift=max_shift,
    )
    guard.logits(np.zeros((1, tile_size, tile_size, 3), np.uint8))
    return guard


def make_floor(
    min_psnr_db: float | None,
    min_ms_ssim: float | None,
    classifier: str | None,
    max_logit_shift: float | None,
    tile_size: int,
    device: str,
) -> Floor | None:
    """Set up what was asked for, on this machine; None where nothing was.

    Parameters
    ----------
    classifier
        As `load_guard` takes it.
    device
        Name of the device that the classifier runs on: auto, cpu, cuda.

    Raises
    ------
    ConfigError
        If a bound cannot be.
    ModelError
        If the classifier cannot be loaded, or does not take the tiles.
    """
    if max_logit_shift is not None and classifier is None:
        raise ConfigError("--max-logit-shift needs a classifier whose logits it means; give --keep-prediction too")
    if min_psnr_db is None and min_ms_ssim is None and classifier is None:
        return None
    guard = None
    if classifier is not None:
        guard = load_guard(classifier, resolve_device(device), tile_size=tile_size, max_shift=max_logit_shift)
    return Floor(min_psnr_db, min_ms_ssim, guard)
