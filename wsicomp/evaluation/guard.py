"""A frozen classifier as the guard of a floor: its predictions on the originals are those that a store must keep."""

from __future__ import annotations

import numpy as np
import torch

from wsicomp.evaluation.data import choose_classifier
from wsicomp.evaluation.diagnosis import predict
from wsicomp.pipeline.floor import Guard

__all__ = ["load_guard"]

THRESHOLD = 0.5
"""Probability from which a tile is positive, where the classifier's file names none."""


def load_guard(source: str, device: torch.device, *, tile_size: int, max_shift: float | None = None) -> Guard:
    """Load a classifier by shipped name, safetensors file or ONNX file, to guard tiles of one size.

    Parameters
    ----------
    tile_size
        Side in pixels of the tiles that it will see; whether it takes them is found out here, on a black one.
    max_shift
        Largest allowed distance between the logit of a tile and that of its original; None allows any.

    Raises
    ------
    ModelError
        If it cannot be loaded, or does not take the tiles.
    ConfigError
        If the shift cannot be.
    """
    chosen = choose_classifier(source, device)
    threshold = THRESHOLD if chosen.threshold is None else chosen.threshold
    guard = Guard(
        sha256=chosen.sha256,
        threshold=threshold,
        logits=chosen.classifier.logits,
        predict=lambda logits: predict(logits, threshold),
        max_shift=max_shift,
    )
    guard.logits(np.zeros((1, tile_size, tile_size, 3), np.uint8))
    return guard
