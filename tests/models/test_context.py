"""Passes over a latent: each symbol once, predicted from what a decoder has, and restored to what training saw."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.wsic_weights import stir
from wsicomp.models.context import SLICES, ContextModel, checkerboard, passes, straight_round

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SMALL = (2, 1, 3)
M = sum(SMALL)
CPU = torch.device("cpu")


def predictor(slices: tuple[int, ...] = SMALL, deviation: float = 0.2) -> ContextModel:
    """A predictor whose every number has been moved off its start."""
    torch.manual_seed(3)
    network = ContextModel(slices, 24).eval()
    stir(network, deviation)
    return network


def drawn(height: int = 7, width: int = 6, seed: int = 0, spread: float = 3.0, count: int = 2) -> tuple[Tensor, Tensor]:
    """Scaled latents and gains."""
    generator = torch.Generator().manual_seed(seed)
    gain = torch.rand(count, M, 1, 1, generator=generator) * 3 + 0.2
    return torch.randn(count, M, height, width, generator=generator) * spread * gain, gain


def whole(y: Tensor) -> Tensor:
    return torch.ones_like(y[:, :1])


def order(height: int, width: int, slices: tuple[int, ...] = SMALL) -> Tensor:
    """Pass of each symbol, (M, h, w)."""
    numbers = torch.full((sum(slices), height, width), -1)
    for number, (start, end, colour) in enumerate(passes(slices)):
        here = checkerboard(height, width, colour, CPU).expand(end - start, -1, -1)
        assert (numbers[start:end][here] == -1).all(), "a symbol is coded twice"
        numbers[start:end][here] = number
    return numbers


@pytest.mark.parametrize("slices", [*SLICES.values(), (1,), SMALL])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (5, 4), (3, 3)])
def test_passes_part_a_latent_exactly(slices: tuple[int, ...], size: tuple[int, int]) -> None:
    numbers = order(*size, slices)
    assert (numbers >= 0).all(), "a symbol is never coded"
    assert numbers[0, 0, 0] == 0
    assert numbers.max() == 2 * len(slices) - (2 if size == (1, 1) else 1)


def test_the_checkerboard_begins_black() -> None:
    assert checkerboard(2, 3, 0, CPU).tolist() == [[True, False, True], [False, True, False]]
    assert torch.equal(checkerboard(4, 5, 1, CPU), ~checkerboard(4, 5, 0, CPU))


def test_the_gradient_of_rounding_is_one() -> None:
    x = torch.tensor([0.2, 1.7, -2.6, 0.5], requires_grad=True)
    y = straight_round(x)
    assert y.tolist() == [0, 2, -3, 0]
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == [1, 1, 1, 1]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000), st.sampled_from([0.1, 3.0, 50.0]))
def test_a_decoder_restores_what_training_saw(height: int, width: int, seed: int, spread: float) -> None:
    network, (y, gain) = predictor(), drawn(height, width, seed, spread)
    with torch.no_grad():
        residuals, y_hat = network(y, gain)
    symbols = network.residuals(y, gain, whole(y))
    # A residual that lies halfway may be rounded to either side by the last bit of a mean, and all that follows by it.
    if not ((residuals - residuals.floor() - 0.5).abs() < 2e-4).any():
        assert torch.equal(symbols, residuals.round())
        torch.testing.assert_close(network.restore(symbols, gain), y_hat, rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000))
def test_what_is_restored_is_half_a_step_away_at_most(height: int, width: int, seed: int) -> None:
    network, (y, gain) = predictor(), drawn(height, width, seed)
    y_hat = network.restore(network.residuals(y, gain, whole(y)), gain)
    assert (y_hat - y).abs().max() <= 0.5 + 1e-4


def test_means_are_in_use() -> None:
    network, (y, gain) = predictor(), drawn()
    symbols = network.residuals(y, gain, whole(y))
    assert (symbols != y.round()).float().mean() > 0.3
    assert torch.equal(
        symbols[:, :2][:, :, checkerboard(7, 6, 0, CPU)], y[:, :2][:, :, checkerboard(7, 6, 0, CPU)].round()
    )


def test_before_training_means_are_zero() -> None:
    network, (y, gain) = ContextModel(SMALL, 24), drawn()
    assert torch.equal(network.residuals(y, gain, whole(y)), y.round())


@pytest.mark.parametrize("value", [1e6, -1e6])
def test_symbols_are_whole_and_within_int16(value: float) -> None:
    network, (y, gain) = predictor(), drawn(spread=20.0)
    y[0, :, 2, 2] = value
    symbols = network.residuals(y, gain, whole(y))
    assert torch.equal(symbols, symbols.round())
    assert symbols.abs().max() == 32767
    assert torch.isfinite(network.restore(symbols, gain)).all()


def test_a_symbol_moves_the_means_of_later_passes_around_it_alone() -> None:
    network, (_, gain) = predictor(), drawn(count=1)
    numbers, symbols = order(7, 6), torch.randint(-4, 5, (1, M, 7, 6)).float()
    before = network.restore(symbols, gain) - symbols
    seen = set()
    for channel, row, col in [(0, 3, 3), (1, 3, 2), (2, 2, 2), (2, 0, 1), (4, 6, 0), (5, 6, 1)]:
        changed = symbols.clone()
        changed[0, channel, row, col] += 9
        moved = ((network.restore(changed, gain) - changed - before).abs() > 1e-4)[0]
        number = numbers[channel, row, col]
        assert not moved[numbers <= number].any()
        seen |= {(int(number), int(later)) for later in numbers[moved]}
    assert {later for number, later in seen if number == 0} == {1, 2, 3, 4, 5}
    assert {later for number, later in seen if number == 3} == {4, 5}
    assert {later for number, later in seen if number == 5} == set()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 7), st.integers(0, 6), st.integers(0, 1000))
def test_beyond_the_edge_symbols_are_zero_and_predicted_from_as_such(rows: int, cols: int, seed: int) -> None:
    network, (y, gain) = predictor(), drawn(seed=seed)
    inside = torch.zeros_like(y[:, :1])
    inside[:, :, :rows, :cols] = 1
    symbols = network.residuals(y, gain, inside)
    assert not symbols[(inside == 0).expand_as(symbols)].any()
    y_hat = network.restore(symbols, gain)
    kept = (inside == 1).expand_as(y)
    assert not kept.any() or (y_hat - y)[kept].abs().max() <= 0.5 + 1e-4


def test_cutting_off_symbols_after_they_were_predicted_from_is_another_thing() -> None:
    network, (y, gain) = predictor(), drawn()
    inside = torch.zeros_like(y[:, :1])
    inside[:, :, :5, :4] = 1
    cut = network.residuals(y, gain, whole(y)) * inside
    error = (network.restore(cut, gain) - y)[:, :, :5, :4].abs()
    assert error.max() > 1


def test_each_picture_of_a_batch_has_its_own_inside() -> None:
    network, (y, gain) = predictor(), drawn()
    inside = torch.ones_like(y[:, :1])
    inside[1, :, 4:] = 0
    together = network.residuals(y, gain, inside)
    for k in range(2):
        torch.testing.assert_close(
            together[k : k + 1], network.residuals(y[k : k + 1], gain[k : k + 1], inside[k : k + 1])
        )


def test_noise_in_the_weights_moves_what_is_restored_by_as_little() -> None:
    network, (y, gain) = predictor(), drawn(16, 16)
    symbols = network.residuals(y, gain, whole(y))
    y_hat = network.restore(symbols, gain)
    stir(network, 1e-6)
    difference = network.restore(symbols, gain) - y_hat
    assert difference.any()
    assert difference.abs().max() < 1e-2


def test_training_reaches_every_number() -> None:
    network, (y, gain) = predictor(), drawn()
    y.requires_grad_()
    gain.requires_grad_()
    residuals, y_hat = network(y, gain)
    (residuals.square().sum() + y_hat.square().sum()).backward()
    for tensor in (y, gain, *network.parameters()):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.any()
