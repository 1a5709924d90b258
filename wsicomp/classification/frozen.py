"""Frozen classifiers behind one face: tiles in, one logit per tile out, nothing learned and nothing adapted.

    tiles (N, H, W, 3) uint8 --> batches of one fixed size, float32 NCHW in [0, 1] --> torch | ONNX --> logits (N,)

The last batch is filled up by repeating its last tile, so that a network always sees the same shape, takes the same
kernels, and gives a tile the same logit whatever stands beside it. A network with two outputs counts as one logit,
their difference (second minus first: the second class is the positive one).

It does NOT normalise colours or resize: a network that needs that has it inside. It cannot tell logits from
probabilities: a network must end before its sigmoid or softmax.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from wsicomp.classification.pixels import check_tiles, to_float_nchw
from wsicomp.errors import ModelError
from wsicomp.models.registry import load_model

__all__ = ["ChosenClassifier", "FrozenClassifier", "OnnxClassifier", "TorchClassifier", "choose_classifier"]


class FrozenClassifier(Protocol):
    """What the study asks of a classifier."""

    @property
    def name(self) -> str:
        """How reports call it."""

    def logits(self, tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Logit of the positive class for each tile: (N, H, W, 3) uint8 -> (N,) float64, finite."""


class TorchClassifier:
    """A torch network as a frozen classifier.

    Parameters
    ----------
    module
        Maps (B, 3, H, W) float32 in [0, 1] to logits (B,), (B, 1) or (B, 2); it is moved to the device and put into
        evaluation mode.
    name
        How reports call it.
    device
        Where it runs, such as "cpu" or "cuda".
    batch_size
        Tiles per forward pass.
    """

    def __init__(
        self, module: torch.nn.Module, name: str, device: str | torch.device = "cpu", batch_size: int = 16
    ) -> None:
        self.name = name
        self._device = torch.device(device)
        self._module = module.to(self._device)
        self._batch_size = batch_size

    def logits(self, tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Logit of the positive class for each tile: (N, H, W, 3) uint8 -> (N,) float64.

        Raises
        ------
        ValueError
            If the tiles are not (N, H, W, 3) uint8.
        ModelError
            If the network's output is not one or two finite numbers per tile.
        """
        self._module.eval()  # here and not once: its owner may have trained it further
        return _batched_logits(tiles, self._batch_size, self._forward, self.name)

    def _forward(self, batch: NDArray[np.float32]) -> NDArray[Any]:
        with torch.inference_mode():
            output: NDArray[Any] = self._module(torch.from_numpy(batch).to(self._device)).float().cpu().numpy()
        return output


class OnnxClassifier:
    """An ONNX file as a frozen classifier, run on the CPU by onnxruntime.

    Parameters
    ----------
    path
        A network with one input (B, 3, H, W) float32 in [0, 1] and logits (B,), (B, 1) or (B, 2) as its first
        output. The batch may be free or fixed. Reports call it by the file's stem.
    batch_size
        Tiles per run where the network leaves the batch free.

    Raises
    ------
    ModelError
        If onnxruntime is missing, or the file is not such a network.
    """

    def __init__(self, path: str | Path, batch_size: int = 16) -> None:
        path = Path(path)
        self.name = path.stem
        try:
            import onnxruntime
        except ImportError as error:
            raise ModelError(f"{path}: an ONNX classifier needs onnxruntime: pip install wsicomp[onnx]") from error
        if not path.is_file():
            raise ModelError(f"{path}: there is no such file; give an ONNX classifier")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised below; printed too they would say it twice
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base
            raise ModelError(f"{path}: not an ONNX network that onnxruntime can load: {_first_line(error)}") from error

        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise ModelError(f"{path}: the network takes {len(inputs)} inputs; a classifier of tiles takes one")
        (tiles,) = inputs
        is_rgb = len(tiles.shape) == 4 and (tiles.shape[1] == 3 or not isinstance(tiles.shape[1], int))
        if tiles.type != "tensor(float)" or not is_rgb:
            raise ModelError(
                f"{path}: input '{tiles.name}' is {tiles.type} {tiles.shape}; it must be tensor(float) (B, 3, H, W)"
            )
        self._input = tiles.name
        self._output = self._session.get_outputs()[0].name
        self._sides = tuple(tiles.shape[2:])
        self._batch_size = tiles.shape[0] if isinstance(tiles.shape[0], int) else batch_size

    def logits(self, tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Logit of the positive class for each tile: (N, H, W, 3) uint8 -> (N,) float64.

        Raises
        ------
        ValueError
            If the tiles are not (N, H, W, 3) uint8.
        ModelError
            If the network takes tiles of another size, fails on them, or does not give one or two finite numbers
            per tile.
        """
        check_tiles(tiles, "tiles")
        for side, wanted in zip(tiles.shape[1:3], self._sides, strict=True):
            if isinstance(wanted, int) and side != wanted:
                raise ModelError(
                    f"classifier {self.name} takes tiles of {self._sides[0]} x {self._sides[1]} px, "
                    f"not {tiles.shape[1]} x {tiles.shape[2]}; export it with free sides or cut other tiles"
                )
        return _batched_logits(tiles, self._batch_size, self._forward, self.name)

    def _forward(self, batch: NDArray[np.float32]) -> NDArray[Any]:
        try:
            (output,) = self._session.run([self._output], {self._input: batch})
        except Exception as error:  # onnxruntime's exceptions share no base
            raise ModelError(f"classifier {self.name} failed on tiles: {_first_line(error)}") from error
        return np.asarray(output)


def _batched_logits(
    tiles: NDArray[np.uint8], batch_size: int, forward: Callable[[NDArray[np.float32]], NDArray[Any]], name: str
) -> NDArray[np.float64]:
    check_tiles(tiles, "tiles")
    logits = np.empty(len(tiles))
    for start in range(0, len(tiles), batch_size):
        batch = tiles[start : start + batch_size]
        fill = np.repeat(batch[-1:], batch_size - len(batch), axis=0)
        output = forward(to_float_nchw(np.concatenate([batch, fill])))
        logits[start : start + batch_size] = _one_logit(output, batch_size, name)[: len(batch)]
    return logits


def _one_logit(output: NDArray[Any], batch_size: int, name: str) -> NDArray[np.float64]:
    if output.shape not in {(batch_size,), (batch_size, 1), (batch_size, 2)}:
        raise ModelError(
            f"classifier {name} gives {output.shape} for {batch_size} tiles; it must give one or two logits per tile"
        )
    values = output.reshape(batch_size, -1).astype(np.float64)  # (B,) | (B, 1) | (B, 2) -> (B, 1 or 2)
    if not np.isfinite(values).all():
        raise ModelError(f"classifier {name} gives logits that are not finite; check its weights")
    logits: NDArray[np.float64] = values[:, -1] if values.shape[1] == 1 else values[:, 1] - values[:, 0]
    return logits


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@dataclass(frozen=True)
class ChosenClassifier:
    """A frozen classifier, and what its weights file says of it.

    Parameters
    ----------
    classes
        Names of the negative and the positive class; None where the file does not say.
    threshold
        Probability calibrated on validation patches when it was trained; None where the file does not say.
    sha256
        SHA-256 of the file, 64 lowercase hexadecimal digits.
    """

    classifier: FrozenClassifier
    classes: tuple[str, str] | None
    threshold: float | None
    sha256: str


def choose_classifier(source: str, device: torch.device) -> ChosenClassifier:
    """Load a classifier by shipped name, safetensors file or ONNX file.

    Raises
    ------
    ModelError
        If it cannot be loaded.
    """
    if source.lower().endswith(".onnx"):
        network = OnnxClassifier(Path(source))
        return ChosenClassifier(network, None, None, hashlib.sha256(Path(source).read_bytes()).hexdigest())
    model = load_model(source, family="classifier")
    notes = model.notes
    return ChosenClassifier(
        TorchClassifier(model.module, model.name, device),
        (notes["negative"], notes["positive"]) if {"negative", "positive"} <= notes.keys() else None,
        float(notes["threshold"]) if "threshold" in notes else None,
        model.sha256,
    )
