"""Muon and AdamW side by side: who trains what, that steps are orthogonal, and that layouts do not matter."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wsicomp.training.optimiser import AVERAGE_DECAY, MuonAdamW, as_matrix, is_matrix, moving_average

RATE = 1e-2


def network(layout: torch.memory_format = torch.contiguous_format) -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(8, 16, 3), nn.Conv2d(16, 16, 5, groups=16), nn.Conv2d(16, 8, 1), nn.Conv2d(8, 3, 1)
    module = nn.Sequential(*layers)
    module.to(memory_format=layout)  # type: ignore[call-overload]
    return module


def train(module: nn.Module, steps: int) -> MuonAdamW:
    optimizer = MuonAdamW(module.parameters(), RATE)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        module.zero_grad()
        module(torch.rand(2, 8, 9, 9, generator=generator)).square().mean().backward()
        optimizer.step()
    return optimizer


def test_dense_convolutions_are_matrices_and_nothing_else_is() -> None:
    module = network()
    assert [name for name, weight in module.named_parameters() if is_matrix(weight)] == ["0.weight", "2.weight"]
    groups = MuonAdamW(module.parameters(), RATE).param_groups
    assert sum(parameter.numel() for group in groups for parameter in group["params"]) == sum(
        parameter.numel() for parameter in module.parameters()
    )


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_weight_and_its_matrix_are_one_memory(layout: torch.memory_format) -> None:
    weight = network(layout).get_parameter("0.weight")
    matrix = as_matrix(weight.detach(), weight)
    assert (matrix.shape, matrix.data_ptr()) == ((16, 72), weight.data_ptr())


def test_a_step_of_a_matrix_is_orthogonal_and_as_large_as_one_of_adam() -> None:
    module = network()
    before = module.get_parameter("0.weight").detach().clone()
    train(module, 1)
    step = (before * (1 - RATE * 1e-2) - module.get_parameter("0.weight").detach()).flatten(1)
    values = torch.linalg.svdvals(step) / (0.2 * RATE * 72**0.5)
    # Five Newton-Schulz iterations bring the singular values near one, no closer; the gradient's differ a hundredfold.
    assert values.min() > 0.3
    assert values.max() < 1.5


def test_every_parameter_moves_and_the_layout_does_not_matter() -> None:
    start, plain, last = network(), network(), network(torch.channels_last)
    train(plain, 3)
    train(last, 3)
    for (name, a), b, c in zip(plain.named_parameters(), last.parameters(), start.parameters(), strict=True):
        assert not torch.equal(a, c), name
        # Newton-Schulz runs in bfloat16, and sums in another order.
        assert (a - b).norm() <= 0.05 * (a - c).norm(), name


def test_a_parameter_without_a_gradient_stays() -> None:
    module = network()
    optimizer = train(module, 1)
    before = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    module.zero_grad()
    module.get_parameter("2.weight").sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    moved = [name for name, weight in module.named_parameters() if not torch.equal(weight, before[name])]
    assert moved == ["2.weight"]


def test_a_schedule_changes_the_rate_of_both() -> None:
    module = network()
    optimizer = MuonAdamW(module.parameters(), RATE)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [weight.detach().clone() for weight in module.parameters()]
    module(torch.ones(1, 8, 9, 9)).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_the_average_forgets_its_start_soon_and_remembers_longer_later() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 100.0)
    average = moving_average(module)
    average.update_parameters(module)
    nn.init.zeros_(module.weight)
    kept, expected = [], 100.0
    for step in range(1, 12_000):
        average.update_parameters(module)
        expected *= min(AVERAGE_DECAY, (1 + step) / (10 + step))
        kept.append(average.module.get_parameter("weight").item())
        if step == 100:
            assert kept[-1] == pytest.approx(expected, rel=1e-4)
            assert kept[-1] < 1e-4
    nn.init.constant_(module.weight, 1.0)
    before = average.module.get_parameter("weight").item()
    average.update_parameters(module)
    assert average.module.get_parameter("weight").item() - before == pytest.approx(1 - AVERAGE_DECAY, rel=1e-3)
