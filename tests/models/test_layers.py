"""The depthwise convolution: torch's own in what it gives and in its gradients, whichever way it is computed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from wsicomp.models.layers import DepthwiseConv, ResidualBlock

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SHAPES = [(1, 1, 1, 1), (2, 3, 1, 7), (1, 5, 2, 2), (2, 8, 9, 6), (3, 24, 16, 16)]


def both(channels: int, seed: int = 0) -> tuple[DepthwiseConv, nn.Conv2d]:
    """Ours, and torch's with the same weights."""
    torch.manual_seed(seed)
    ours = DepthwiseConv(channels)
    peer = nn.Conv2d(channels, channels, 5, padding=2, padding_mode="replicate", groups=channels)
    peer.load_state_dict(ours.state_dict())
    return ours, peer


def gradients(layer: nn.Module, x: Tensor, up: Tensor, *, half: bool = False) -> list[Tensor]:
    """Output, and the gradients of the input, the weight and the bias."""
    x = x.detach().clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = layer(x)
    y.backward(up.to(y.dtype))
    found = [y.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())]
    layer.zero_grad()
    return [tensor for tensor in found if tensor is not None]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients_are_torchs_own(shape: tuple[int, int, int, int], channels_last: bool) -> None:
    ours, peer = both(shape[1])
    x, up = torch.randn(shape), torch.randn(shape)
    if channels_last:
        x, up = (t.contiguous(memory_format=torch.channels_last) for t in (x, up))
    found, expected = gradients(ours, x, up), gradients(peer, x, up)
    assert len(found) == len(expected) == 4
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-4)


def test_gradients_are_those_of_finite_differences() -> None:
    ours = both(2)[0].double()
    x = torch.randn(1, 2, 4, 3, dtype=torch.double, requires_grad=True)

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(ours, {"weight": weight, "bias": bias}, (x,))
        return y

    assert torch.autograd.gradcheck(run, (x, *ours.parameters()))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_are_torchs_own_in_half_precision(shape: tuple[int, int, int, int]) -> None:
    ours, peer = both(shape[1])
    x, up = torch.randn(shape), torch.randn(shape)
    exact = gradients(peer, x, up)
    found, expected = (gradients(layer, x, up, half=True) for layer in (ours, peer))
    assert [t.dtype for t in found] == [t.dtype for t in expected]
    assert found[0].dtype == torch.bfloat16
    for ours_half, peer_half, full in zip(found, expected, exact, strict=True):
        # bfloat16 has eight bits: ours is as near to float32 as theirs.
        error, allowed = (t.float() - full for t in (ours_half, peer_half))
        scale = full.abs().max()
        assert error.abs().max() <= 2 * allowed.abs().max() + 2**-8 * scale


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("half", [False, True])
def test_without_gradients_it_is_the_same(shape: tuple[int, int, int, int], half: bool) -> None:
    ours, _ = both(shape[1])
    x = torch.randn(shape)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        trained = ours(x)
        with torch.no_grad():
            used = ours(x)
    assert used.dtype == trained.dtype
    assert trained.requires_grad
    torch.testing.assert_close(used, trained.detach(), rtol=2**-7 if half else 1e-5, atol=1e-2 if half else 1e-5)


def test_channels_do_not_mix() -> None:
    ours, _ = both(3)
    x = torch.randn(1, 3, 6, 6)
    other = x.clone()
    other[:, 1] += 1
    changed = (ours(x) != ours(other)).flatten(2).any(dim=2)[0]
    assert changed.tolist() == [False, True, False]


def test_a_block_adds_to_its_input() -> None:
    block = ResidualBlock(6, 9)
    x = torch.randn(1, 6, 5, 4)
    assert [tuple(p.shape) for p in block.body[1].parameters()] == [(9, 6, 1, 1), (9,)]
    strength = torch.rand(len(x), 6, 1, 1)
    torch.testing.assert_close(block(x, strength), x + strength * block.body(x))
    assert torch.equal(block(x, torch.zeros_like(strength)), x)
