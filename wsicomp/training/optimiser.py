"""The codec's optimiser, Muon for the matrices of its convolutions and AdamW for everything else; and an average.

Muon makes the step of a matrix orthogonal, so that directions whose gradients are small learn as fast as the others
(Jordan et al., 2024), and scales it to the size of AdamW's steps (Liu et al., 2025), so that both share one learning
rate. A convolution (C', C, h, w) counts as a matrix (C', C h w).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["MuonAdamW", "moving_average"]

LEAST_SIDE = 8
"""Smaller matrices, and depthwise convolutions, are left to AdamW."""

AVERAGE_DECAY = 0.999
"""Share of itself that the moving average keeps per step."""

MUON_DECAY, ADAMW_DECAY = 1e-2, 1e-4
"""Weight decay, times the learning rate, per step."""


class MuonAdamW:
    """Both optimisers behind the interface of one.

    Parameters
    ----------
    parameters
        Weights to train. They may move between devices and layouts before, not after.
    learning_rate
        In AdamW's terms; a schedule changes it in `param_groups`.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> None:
        everything = list(parameters)
        self._weights = [parameter for parameter in everything if is_matrix(parameter)]
        # Muon takes matrices alone: these share the memory of the weights, and so their updates.
        self._matrices = [nn.Parameter(as_matrix(weight.detach(), weight)) for weight in self._weights]
        rest = [parameter for parameter in everything if not is_matrix(parameter)]
        self._adamw = torch.optim.AdamW(rest, lr=learning_rate, weight_decay=ADAMW_DECAY, fused=True)
        self._muon = torch.optim.Muon(
            self._matrices, lr=learning_rate, weight_decay=MUON_DECAY, adjust_lr_fn="match_rms_adamw"
        )

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Settings and parameters of both, AdamW's first."""
        return [*self._adamw.param_groups, *self._muon.param_groups]

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for matrix, weight in zip(self._matrices, self._weights, strict=True):
            matrix.grad = None if weight.grad is None else as_matrix(weight.grad, weight)
        self._adamw.step()
        self._muon.step()  # type: ignore[no-untyped-call]

    def state_dict(self) -> dict[str, Any]:
        """Moments by the parameter's number, in the order of `param_groups`, and the groups."""
        first, second = self._adamw.state_dict(), self._muon.state_dict()
        before = len(self._adamw.param_groups[0]["params"])
        state = first["state"] | {before + number: moments for number, moments in second["state"].items()}
        return {"state": state, "param_groups": self.param_groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the moments that `state_dict` gave; the groups' settings stay as they are."""
        before = len(self._adamw.param_groups[0]["params"])
        moments = state_dict["state"]
        first = {number: values for number, values in moments.items() if number < before}
        second = {number - before: values for number, values in moments.items() if number >= before}
        for optimizer, state in ((self._adamw, first), (self._muon, second)):
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def moving_average(module: nn.Module) -> AveragedModel:
    """Exponential moving average of a module's weights, updated by `update_parameters` after each step.

    After n steps it keeps (1 + n) / (10 + n) of itself, and never more than 0.999: a short training forgets its start
    as a long one does.
    """

    def average(averaged: Any, current: Any, count: Any) -> None:
        steps = int(count)
        get_ema_multi_avg_fn(min(AVERAGE_DECAY, (1 + steps) / (10 + steps)))(averaged, current, count)  # type: ignore[no-untyped-call]

    return AveragedModel(module, multi_avg_fn=average)


def is_matrix(weight: Tensor) -> bool:
    """Tell whether a weight is a convolution that mixes channels, and not a small one."""
    return weight.dim() == 4 and weight.shape[1] > 1 and min(weight.shape[0], weight[0].numel()) >= LEAST_SIDE


def as_matrix(tensor: Tensor, weight: Tensor) -> Tensor:
    """See a tensor of a weight's shape (C', C, h, w) as a matrix, in the order in which the weight lies in memory."""
    return tensor.flatten(1) if weight.is_contiguous() else tensor.permute(0, 2, 3, 1).flatten(1)
