from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from wsicomp.pipeline.tile_codec import TileCodec


@pytest.fixture(scope="module", autouse=True)
def _no_sync_and_one_thread(one_torch_thread: None) -> Iterator[None]:
    """Skip fsync, which is of use in a power cut only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def codec_at() -> Callable[[int], TileCodec]:
    """The shipped codec at a depth, loaded once."""
    return cache(lambda depth: TileCodec.load("perticarari2023", depth))
