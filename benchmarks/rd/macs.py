"""Multiply-accumulates of a network as it runs, however its layers are called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.utils.flop_counter import FlopCounterMode

__all__ = ["MacCount", "count_macs"]


class MacCount:
    """What has been counted, once the block has ended."""

    macs = 0.0


@contextmanager
def count_macs() -> Iterator[MacCount]:
    """Count convolutions and matrix products of this thread inside the block; activations count nothing."""
    count = MacCount()
    with FlopCounterMode(display=False) as counter:
        yield count
    count.macs = counter.get_total_flops() / 2
