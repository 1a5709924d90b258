"""What a latent loses before rounding: principal components as the ruler, and channels that say nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.channels import components_psnr, measure, to_markdown
from wsicomp.models.wsic import Wsic


def two_components() -> NDArray[np.uint8]:
    """Tiles whose blocks of 4 px are all mixtures of two patterns."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(-40, 41, (2, 4, 4, 3))
    weights = rng.random((3, 8, 8, 2)).round(1)
    blocks = 128 + np.einsum("nijk,kyxc->niyjxc", weights, patterns)
    tiles: NDArray[np.uint8] = blocks.reshape(3, 32, 32, 3).round().astype(np.uint8)
    return tiles


def test_two_patterns_are_two_components() -> None:
    tiles = two_components()
    one, two, every = (components_psnr(tiles, 2, count) for count in (1, 2, 1000))
    assert one < 40
    assert 55 < two < 65  # what rounding to whole numbers leaves
    assert every > 100


def test_silent_channels_are_not_live_and_exact_latents_lose_no_less_than_rounding() -> None:
    torch.manual_seed(0)
    model = Wsic((2,)).eval()
    head = model.heads["2"]
    assert isinstance(head, torch.nn.Conv2d)
    head.weight.data.mul_(100)
    head.weight.data[5:].zero_()
    assert head.bias is not None
    head.bias.data.zero_()
    found = measure(model, two_components(), 2, 7.0)
    assert (found["channels"], found["live"]) == (24, 5)
    assert found["exact_db"] == pytest.approx(found["rounded_db"], abs=0.5)


def test_the_page_has_a_line_for_each_row() -> None:
    row = {"set": "lung", "depth": 4, "quality": 2.0, "channels": 9, "live": 7, "rounded_db": 1.234, "exact_db": 5.0}
    page = to_markdown({"command": "c", "patches": {"lung": 3}, "rows": [row | {"components_db": 6.789}]})
    assert page.endswith("| lung | 4 | 2 | 9 | 7 | 1.23 | 5.00 | 6.79 |\n")
    assert "3 of the lung" in page
