"""Depth by depth: every depth has its share of the steps in one piece, a schedule of its own, and a frozen trunk."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.recipes import DEPTHS, DepthByDepth, plateau_in_turn, section
from wsicomp.models.context import SLICES
from wsicomp.training.codec import depth_shares, latent_shape


@pytest.mark.parametrize("steps", [10, 2500])
def test_depths_come_in_turn_for_their_shares(steps: int) -> None:
    depths = [section(step, steps)[0] for step in range(steps)]
    assert depths == sorted(depths)
    shares = [depths.count(depth) / steps for depth in DEPTHS]
    assert shares == pytest.approx(depth_shares(DEPTHS), abs=1 / steps)


def test_each_depth_has_a_schedule_of_its_own() -> None:
    factors = np.array([plateau_in_turn(step, 2500, warmup=200) for step in range(2500)])
    begins = [section(step, 2500)[1] for step in (0, 2499)]
    assert begins == [0, 900]
    for begin, end in ((0, 900), (900, 2500)):
        assert factors[begin] < 0.02
        assert factors[(begin + end) // 2] == 1
        assert factors[end - 1] < 0.02


@pytest.mark.parametrize("depth", DEPTHS)
def test_only_the_stage_that_a_depth_adds_is_trained_with_it(depth: int) -> None:
    objective = DepthByDepth(DEPTHS)
    noise = torch.zeros(1, *latent_shape(depth, 32))
    loss, _, _ = objective(torch.rand(1, 3, 32, 32), depth, torch.full((1,), 4.0), noise)
    loss.sum().backward()
    moved = [any(p.grad is not None for p in stage.parameters()) for stage in objective.model.trunk]
    assert moved == [number == depth for number in range(1, max(SLICES) + 1)]
