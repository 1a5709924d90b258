"""Laws of the int8 quantiser: how far it may be off, and where it ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wsicomp.codec.quantiser import LATENT_DTYPES, LatentQuantiser
from wsicomp.errors import ConfigError

scales = st.floats(2**-10, 2**10, width=32)
offsets = st.floats(-1000, 1000, width=32)
# Places in units of the range: within -1 and 1 nothing is clipped.
inside = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=16)
outside = st.lists(st.floats(1.0625, 2**20, width=32), min_size=1, max_size=16)


def latents(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1)


def int8(scale: float, offset: float) -> LatentQuantiser:
    return LatentQuantiser("int8", torch.tensor([scale]), torch.tensor([offset]))


@given(inside, scales, offsets)
def test_inside_the_range_the_error_is_at_most_half_a_step(places: list[float], scale: float, offset: float) -> None:
    z = latents(places) * 127 * scale + offset
    quantiser = int8(scale, offset)
    error = (quantiser.dequantise(quantiser.quantise(z)).double() - z.double()).abs()
    rounding = 4 * torch.finfo(torch.float32).eps * (127 * scale + abs(offset))  # of float32 itself
    assert float(error.max()) <= scale / 2 + rounding


@given(outside, scales, offsets, st.sampled_from([-1, 1]))
def test_outside_the_range_the_value_is_the_end_of_the_range(
    places: list[float], scale: float, offset: float, sign: int
) -> None:
    z = sign * latents(places) * (128 * scale + 1e-3 * abs(offset)) + offset
    assert (int8(scale, offset).quantise(z) == sign * 127).all()


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1), scales, offsets)
def test_the_range_is_symmetric(values: list[float], scale: float, offset: float) -> None:
    q = int8(scale, offset).quantise(latents(values))
    assert q.dtype == torch.int8
    assert int(q.min()) >= -127
    assert int(q.max()) <= 127


@given(st.lists(st.integers(-127, 127), min_size=1), scales, st.sampled_from([0.0, 0.5, -3.0]))
def test_what_was_quantised_once_is_a_fixed_point(symbols: list[int], scale: float, offset: float) -> None:
    q = torch.tensor(symbols, dtype=torch.int8).view(1, 1, 1, -1)
    quantiser = int8(scale, offset)
    assert torch.equal(quantiser.quantise(quantiser.dequantise(q)), q)


def test_each_channel_has_its_own_scale_and_offset() -> None:
    quantiser = LatentQuantiser("int8", torch.tensor([1.0, 0.5, 2.0]), torch.tensor([0.0, 10.0, -4.0]))
    z = torch.full((2, 3, 1, 2), 12.0)
    q = quantiser.quantise(z)
    assert q.shape == z.shape
    assert q[0, :, 0, 0].tolist() == [12, 4, 8]
    assert torch.equal(quantiser.dequantise(q), z)


@pytest.mark.parametrize("dtype", LATENT_DTYPES)
def test_latents_are_left_as_they_were_and_come_back_as_float32(dtype: str) -> None:
    z = torch.linspace(-3, 3, 24).view(1, 2, 3, 4)
    before = z.clone()
    quantiser = LatentQuantiser(dtype, torch.full((2,), 0.1), torch.zeros(2))
    q = quantiser.quantise(z)
    z_hat = quantiser.dequantise(q)
    assert torch.equal(z, before)
    assert q.numpy().dtype == np.dtype(dtype)
    assert z_hat.dtype == torch.float32
    assert z_hat.shape == z.shape


@given(st.lists(st.floats(width=32), min_size=1), scales, offsets)
def test_float32_is_exact(values: list[float], scale: float, offset: float) -> None:
    z = latents(values)
    quantiser = LatentQuantiser("float32", torch.tensor([scale]), torch.tensor([offset]))
    assert torch.equal(quantiser.dequantise(quantiser.quantise(z)).nan_to_num(), z.nan_to_num())


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1))
def test_float16_is_rounded_and_never_infinite(values: list[float]) -> None:
    z = latents(values)
    quantiser = LatentQuantiser("float16", torch.ones(1), torch.zeros(1))
    z_hat = quantiser.dequantise(quantiser.quantise(z))
    assert z_hat.isfinite().all()
    limited = z.clamp(-65504, 65504)
    assert torch.equal(z_hat, limited.half().float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("stored", LATENT_DTYPES)
def test_latents_of_autocast_are_taken_in_float32(stored: str, dtype: torch.dtype) -> None:
    z = torch.linspace(-2, 2, 64).view(1, 1, 8, 8).to(dtype)
    quantiser = LatentQuantiser(stored, torch.full((1,), 2 / 127), torch.zeros(1))
    assert torch.equal(quantiser.quantise(z), quantiser.quantise(z.float()))


@pytest.mark.parametrize("dtype", ["", "int4", "uint8", "float64", "INT8"])
def test_an_unknown_type_is_refused_with_the_known_ones(dtype: str) -> None:
    with pytest.raises(
        ConfigError, match=f"latent type '{dtype}' is unknown; use one of int8, int16, float16, float32"
    ):
        LatentQuantiser(dtype, torch.ones(1), torch.zeros(1))
