"""Compiled loops: one signature each, and no need of a place to keep the machine code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba.core.caching import CacheImpl

from wsicomp.codec import kernels
from wsicomp.codec.compiled import compiled


def test_where_nothing_can_be_written_loops_are_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])

    @compiled("i8(i8)")
    def doubled(number: int) -> int:
        return 2 * number

    assert doubled(21) == 42


@pytest.mark.parametrize("name", ["find_tables", "cheapest_class", "find_spans", "push_spans", "decode_latent"])
def test_each_loop_is_compiled_once_and_for_no_other_types(name: str) -> None:
    loop: Any = getattr(kernels, name)
    assert len(loop.signatures) == 1
    with pytest.raises(TypeError, match="No matching definition"):
        loop(*(np.zeros((1, 1), np.float32) for _ in loop.signatures[0]))
    assert len(loop.signatures) == 1
