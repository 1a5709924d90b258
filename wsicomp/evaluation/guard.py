"""A frozen classifier as the guard of a floor: its predictions on the originals are those that a store must keep."""

from __future__ import annotations

import numpy as np
import torch

from wsicomp.errors import ConfigError
from wsicomp.models.device import resolve_device
from wsicomp.pipeline.floor import Floor, Guard

__all__ = ["load_guard", "make_floor"]

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
    # Tables of data and scores take a while to load, and most floors have no classifier.
    from wsicomp.evaluation.data import choose_classifier
    from wsicomp.evaluation.diagnosis import predict

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
