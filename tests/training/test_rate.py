"""The stand-in for the entropy coder: causal, a distribution, learnable, and the same in whole numbers."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.wsic_weights import random_scales, stir
from wsicomp.codec.entropy_model import EntropyModel
from wsicomp.codec.kernels import TABLES, UNITS
from wsicomp.codec.tables import COLUMNS
from wsicomp.models.context import SLICES, checkerboard, passes
from wsicomp.training.rate import CLASSES, HIGHEST, LOWEST, ScaleNetwork, floats, integers, logistic_bits

SMALL = (1, 2)
M, HEIGHT, WIDTH = sum(SMALL), 5, 6
ORDER = torch.zeros(M, HEIGHT, WIDTH, dtype=torch.long)
for number, (start, end, colour) in enumerate(passes(SMALL)):
    ORDER[start:end, checkerboard(HEIGHT, WIDTH, colour, torch.device("cpu"))] = number


def rate() -> ScaleNetwork:
    """A stand-in whose every parameter has been moved off its start."""
    torch.manual_seed(1)
    network = ScaleNetwork(SMALL)
    stir(network, 0.3)
    return network


def busy(count: int = 12, side: int = 16, seed: int = 0) -> Tensor:
    """Residuals (count, M, side, side), quiet on the left and busy on the right."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.where(torch.arange(side) < side // 2, 0.2, 6.0)
    return torch.randn(count, M, side, side, generator=generator) * scale


def fit(network: ScaleNetwork, steps: int = 120) -> list[float]:
    """Train on busy residuals; bits per symbol before each step."""
    optimizer, bits = torch.optim.Adam(network.parameters(), lr=0.02), []
    for step in range(steps):
        residuals = busy(seed=step)
        noise = torch.rand(residuals.shape, generator=torch.Generator().manual_seed(step)) - 0.5
        loss = network(residuals, noise).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bits.append(loss.item())
    return bits


@cache
def learned() -> tuple[ScaleNetwork, tuple[float, ...]]:
    torch.manual_seed(0)
    network = ScaleNetwork(SMALL)
    bits = fit(network)
    return network.requires_grad_(False), tuple(bits)


@settings(max_examples=60, deadline=None)
@given(
    channel=st.integers(0, M - 1),
    row=st.integers(0, HEIGHT - 1),
    col=st.integers(0, WIDTH - 1),
    value=st.integers(-20, 20),
)
def test_a_symbol_moves_scales_of_later_passes_around_it_alone(channel: int, row: int, col: int, value: int) -> None:
    network, classes = rate(), torch.tensor([3])
    y = torch.randint(-4, 5, (1, M, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0)).float()
    changed = y.clone()
    changed[0, channel, row, col] = value
    with torch.no_grad():
        moved = ((network.scales(y, classes) - network.scales(changed, classes)).abs() > 1e-5)[0]
    rows, cols = torch.arange(HEIGHT)[:, None], torch.arange(WIDTH)
    near = ((rows - row).abs() <= 1) & ((cols - col).abs() <= 1)
    later = (ORDER[channel, row, col] < ORDER) & near
    assert not moved[~later].any()
    if abs(value) != y[0, channel, row, col].abs():
        number = int(ORDER[channel, row, col])
        assert set(ORDER[moved].tolist()) == set(range(number + 1, 2 * len(SMALL)))


def test_noise_moves_the_bits_and_not_what_is_seen() -> None:
    network, residuals = rate(), busy(2, 8)
    noise = torch.rand_like(residuals) - 0.5
    with torch.no_grad():
        black = checkerboard(8, 8, 0, torch.device("cpu"))
        classes = network.classify((residuals + noise)[:, :1], black)
        expected = logistic_bits(residuals + noise, network.scales(residuals.round(), classes))
        torch.testing.assert_close(network(residuals, noise), expected)
        torch.testing.assert_close(network(residuals), network(residuals.round()))


def test_the_cheapest_class_is_chosen() -> None:
    network, residuals = rate(), torch.cat([busy(4, 8) * 10**k for k in (-1, 0, 1)])
    black = checkerboard(8, 8, 0, torch.device("cpu"))
    with torch.no_grad():
        chosen = network.classify(residuals[:, :1], black)
        costs = torch.stack(
            [
                logistic_bits(residuals, network.scales(residuals, torch.full((12,), k)))[:, :1, black].sum(dim=(1, 2))
                for k in range(CLASSES)
            ]
        )
    torch.testing.assert_close(costs.gather(0, chosen[None])[0], costs.min(dim=0).values)
    assert chosen[:4].max() < chosen[8:].min()


@pytest.mark.parametrize("log2_scale", [LOWEST - 3, LOWEST, -1.3, 0.0, 2.0, 4.0, 5.5])
def test_probabilities_sum_to_one(log2_scale: float) -> None:
    values = torch.arange(-2000, 2001).double()
    bits = logistic_bits(values, torch.tensor(log2_scale).double())
    assert torch.exp2(-bits).sum().item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(bits, bits.flip(0))
    assert bits[2000] == bits.min()


def test_bits_and_gradients_are_finite_for_any_symbol() -> None:
    network = ScaleNetwork((1,))
    y = torch.tensor([-32768.0, 32767, 0, 500]).view(1, 1, 2, 2).requires_grad_()
    bits = network(y)
    bits.sum().backward()
    assert torch.isfinite(bits).all()
    assert (bits >= 0).all()
    for tensor in (y, *network.parameters()):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()


def test_training_finds_what_there_is_to_know() -> None:
    network, bits = learned()
    assert np.mean(bits[-10:]) < 0.8 * bits[0]
    unseen = busy(seed=10_000)
    with torch.no_grad():
        scales = network.scales(unseen.round(), torch.full((12,), 8))[:, 1:]  # all that the first pass tells is known
        assert (scales[..., 9:].mean() - scales[..., :7].mean()).item() > 2
        shuffled = unseen.flatten(2)[..., torch.randperm(16 * 16)].view(unseen.shape)
        assert network(unseen).mean() < 0.9 * network(shuffled).mean()


# In whole numbers.


def tables_of(network: ScaleNetwork, symbols: Tensor, tile_class: int) -> NDArray[np.int64]:
    with torch.no_grad():
        scales = network.scales(symbols, torch.full((len(symbols),), tile_class)).double()
    tables: NDArray[np.int64] = (4 * (scales - LOWEST)).round().clamp(0, TABLES - 1).long().numpy()
    return tables


def assert_the_same(network: ScaleNetwork, symbols: Tensor, least: float) -> None:
    model = integers(network)
    latents, differences = symbols.numpy().astype(np.int16), []
    for tile_class in (0, 7, 15):
        tables = np.stack([model.tables(latent, tile_class) for latent in latents])
        differences.append(tables.astype(int) - tables_of(network, symbols, tile_class))
    found = np.abs(np.stack(differences))
    assert found.max() <= 1
    assert (found == 0).mean() >= least


def test_a_learned_networks_tables_are_those_of_the_floats() -> None:
    network, _ = learned()
    symbols = busy(4, seed=77).round()
    assert len(np.unique(tables_of(network, symbols, 7))) > 15
    assert_the_same(network, symbols, 0.98)


@pytest.mark.parametrize("depth", SLICES)
def test_tables_of_the_real_slices_are_those_of_the_floats(depth: int) -> None:
    torch.manual_seed(depth)
    network = random_scales(depth)
    symbols = (torch.randn(2, sum(SLICES[depth]), 9, 12) * torch.linspace(0, 5, 12)).round()
    assert len(np.unique(tables_of(network, symbols, 7))) > 15
    # Steeper than what is learned; and the wider a context, the more rounded weights are in a sum.
    assert_the_same(network, symbols, 0.96)


def test_all_that_was_learned_is_kept() -> None:
    network = rate()
    model = integers(network)
    assert model.slices.tolist() == list(SMALL)
    assert (model.classes, model.channels) == (CLASSES, M)
    assert model.inner.shape == (2 * len(SMALL) - 1, CLASSES, UNITS)
    first, last = (cast(nn.Conv2d, layer).weight.detach() for layer in (network.spatial[0], network.mixing[-1]))
    assert model.spatial[1] == round(first[1, 0, 0, 0].item() * 2**10)  # unit 1 of the first tap
    assert model.spatial[UNITS] == round(first[0, 0, 0, 1].item() * 2**10)  # the next tap
    assert model.mixing[-2 * UNITS :].reshape(UNITS, 2)[3, 1] == round(last[1, 3, 0, 0].item() * 2**10)
    np.testing.assert_allclose(model.inner[2, 5] / 2**14 - 2**-7, network.inner[2][5].detach(), atol=2**-14)
    np.testing.assert_allclose(model.outer[4, -2:] / 2**16 + LOWEST, network.outer[-1][4].detach(), atol=2**-16)


@pytest.mark.parametrize("depth", SLICES)
def test_what_was_rounded_comes_back(depth: int) -> None:
    model = integers(random_scales(depth))
    again = integers(floats(model)).arrays()
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(again[name], array)


def test_scales_of_other_classes_are_refused() -> None:
    model = integers(rate())
    with pytest.raises(ValueError, match="5 classes"):
        floats(dataclasses.replace(model, inner=model.inner[:, :5], outer=model.outer[:5]))


def test_numbers_that_do_not_fit_are_clamped_or_refused_and_never_wrap() -> None:
    network = ScaleNetwork((1,))
    with torch.no_grad():
        cast(nn.Conv2d, network.spatial[0]).weight[0, 0, 1, 1] = 1e3
        network.outer[0][0, 0] = 1e9
        network.outer[0][1, 0] = -1e9
    model = integers(network)
    assert model.spatial.max() == 32767
    assert model.first_tables()[:2, 0].tolist() == [TABLES - 1, 0]
    with torch.no_grad():
        cast(nn.Conv2d, network.mixing[0]).weight.fill_(31.0)
    with pytest.raises(ValueError, match="the second layer's sums may leave int32"):
        integers(network)


def test_the_coders_cost_is_what_training_measured() -> None:
    network, _ = learned()
    symbols = busy(24, seed=5).round()
    latents = list(symbols.numpy().astype(np.int16))
    model = EntropyModel.fit(integers(network), latents)
    total = 0.0
    for latent in latents:
        table = model.scales.tables(latent, model.classify(latent)).astype(int)
        column = latent.astype(int) - model.tables.lowest[table] + 1
        assert ((column > 0) & (column < COLUMNS)).all()
        total -= np.log2(model.tables.frequencies[table, column] / 2**model.tables.bits).sum()
    with torch.no_grad():
        measured = network(symbols).sum().item()
    assert 0.93 * measured < total < 1.01 * measured  # the tables have learned that these are Gaussian


def test_scales_reach_as_far_as_there_are_tables() -> None:
    assert (LOWEST, HIGHEST) == (-5, LOWEST + TABLES / 4)
