"""A quality is written in whole steps of 1/16, and comes back as it was."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsicomp.store.quality import HIGHEST_QUALITY, check_quality, from_steps, to_steps


@given(st.integers(0, 16 * HIGHEST_QUALITY))
def test_steps_come_back_and_are_qualities(steps: int) -> None:
    quality = from_steps(steps)
    check_quality(quality)
    assert to_steps(quality) == steps == 16 * quality


@given(st.floats(0, HIGHEST_QUALITY))
def test_a_quality_is_written_as_the_nearest_step(quality: float) -> None:
    assert abs(from_steps(to_steps(quality)) - quality) <= 1 / 32


def test_a_codec_without_qualities_has_no_steps() -> None:
    assert to_steps(None) == 0


@pytest.mark.parametrize("quality", [-1, 15.0625, 4.03, math.nan, math.inf, "4", None, True])
def test_what_cannot_be_written_is_refused(quality: Any) -> None:
    with pytest.raises(ValueError, match=r"not a number in 0\.\.15 in steps of 1/16"):
        check_quality(quality)
