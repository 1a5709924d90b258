"""Checkpoints of a training run: tensors as safetensors, position and settings as JSON in its header; no pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from wsicomp.disk import replacing
from wsicomp.errors import ConfigError, DataError
from wsicomp.training.optimiser import MuonAdamW

__all__ = ["Optimiser", "load_checkpoint", "restore_moments", "save_checkpoint"]

Optimiser: TypeAlias = torch.optim.Optimizer | MuonAdamW


def save_checkpoint(
    path: Path, module: nn.Module, optimizer: Optimiser | None, *, recipe: str, position: dict[str, Any]
) -> None:
    """Write a module, its optimiser's moments if it has one, and the place in the recipe, whole or not at all."""
    tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    for index, moments in (optimizer.state_dict()["state"] if optimizer else {}).items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={"recipe": recipe, "position": json.dumps(position)})


def load_checkpoint(
    path: Path, *, recipe: str
) -> tuple[dict[str, Tensor], dict[int, dict[str, Tensor]], dict[str, Any]]:
    """Read a checkpoint: the module's tensors, the optimiser's moments per parameter, and the position.

    Raises
    ------
    ConfigError
        If the checkpoint belongs to a run with other settings.
    DataError
        If the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        stored, position = header["recipe"], json.loads(header["position"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: damaged checkpoint; remove it and start again without --resume") from error
    if stored != recipe:
        raise ConfigError(f"{path}: of a run with other settings; give those again, or another output folder")
    module = {name.removeprefix("module."): tensor for name, tensor in tensors.items() if name.startswith("module.")}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = tensor
    return module, moments, position


def restore_moments(optimizer: Optimiser, moments: dict[int, dict[str, Tensor]]) -> None:
    """Put the moments of a checkpoint into a fresh optimiser of the same parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    # A fused optimiser goes through memory as it lies, so a moment must lie as its parameter does.
    state = {
        index: {
            name: torch.empty_like(parameters[index]).copy_(value) if value.shape == parameters[index].shape else value
            for name, value in values.items()
        }
        for index, values in moments.items()
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
