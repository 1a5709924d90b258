"""The stand-in for the entropy coder: causal, a distribution, and cheap where there is nothing to tell."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsicomp.training.rate import CausalRate

CHANNELS, HEIGHT, WIDTH = 3, 5, 6


def rate() -> CausalRate:
    """A stand-in whose every parameter has been moved off its start."""
    torch.manual_seed(1)
    model = CausalRate(CHANNELS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
        model.across.add_(5)
    return model


@settings(max_examples=40, deadline=None)
@given(
    channel=st.integers(0, CHANNELS - 1),
    row=st.integers(0, HEIGHT - 1),
    col=st.integers(0, WIDTH - 1),
    value=st.integers(-20, 20),
)
def test_a_symbol_changes_the_bits_of_none_before_it(channel: int, row: int, col: int, value: int) -> None:
    model = rate()
    y = torch.randint(-4, 5, (1, CHANNELS, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0)).float()
    changed = y.clone()
    changed[0, channel, row, col] = value + 0.5
    with torch.no_grad():
        moved = (model(y) != model(changed))[0]
    # decoded channel by channel at each place, and the places row by row
    order = torch.arange(CHANNELS * HEIGHT * WIDTH).view(HEIGHT, WIDTH, CHANNELS).permute(2, 0, 1)
    earlier = order < order[channel, row, col]
    assert not moved[earlier].any()
    assert moved[channel, row, col]


def test_symbols_before_it_do_count() -> None:
    model = rate()
    quiet = torch.zeros(1, CHANNELS, HEIGHT, WIDTH)
    above, below = quiet.clone(), quiet.clone()
    above[0, 1, 1, 2] = 9
    below[0, 0, 3, 3] = 9
    with torch.no_grad():
        assert model(above)[0, 1, 2, 2] != model(quiet)[0, 1, 2, 2]
        assert model(below)[0, 2, 3, 3] != model(quiet)[0, 2, 3, 3]


@pytest.mark.parametrize("around", [0.0, 3.0, 12.0])
def test_probabilities_sum_to_one(around: float) -> None:
    model = rate()
    values = torch.arange(-400, 401).float()
    y = torch.full((len(values), CHANNELS, 4, 5), around)
    y[:, :, 3, 2] = values[:, None]  # the last row alone changes: its context is the same for every value
    with torch.no_grad():
        # one channel at a time, since channels see those before them
        for channel in range(CHANNELS):
            alone = torch.full_like(y, around)
            alone[:, channel] = y[:, channel]
            probability = torch.exp2(-model(alone)[:, channel, 3, 2].double())
            assert probability.sum().item() == pytest.approx(1, abs=2e-3)


def test_bits_are_finite_for_any_symbol() -> None:
    y = torch.tensor([-32768.0, 32767, 0, 500]).view(1, 1, 2, 2)
    bits = CausalRate(1)(y)
    bits.sum().backward()
    assert torch.isfinite(bits).all()
    assert (bits >= 0).all()


def test_a_latent_of_nothing_costs_little_once_fitted() -> None:
    model = CausalRate(2)
    y = torch.zeros(1, 2, 8, 8)
    noise = torch.rand(40, 1, 2, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    before = model(y).mean().item()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.2)
    for step in range(40):
        optimizer.zero_grad()
        model(y + 0.1 * noise[step]).mean().backward()
        optimizer.step()
    with torch.no_grad():
        assert model(y).mean().item() < min(0.1, before / 3)
