"""Bounds of memory: what is read ahead, what is refused, and that the bound is kept."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import psutil
import pytest

from tests.pipeline.sources import PictureSource, picture
from wsicomp.errors import ConfigError
from wsicomp.pipeline.encode import header_of
from wsicomp.pipeline.resources import Resources, parse_bytes
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.slides.process import READER_BYTES
from wsicomp.store.schema import StoreHeader

TILE = 32


@pytest.fixture(scope="module")
def header(codec_at: Callable[[int], TileCodec]) -> StoreHeader:
    source = PictureSource(picture(64, 64), TILE)
    return header_of(source, source.tissue(), codec_at(3))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("800M", 800 * 2**20), ("2G", 2 * 2**30), ("1.5 GiB", 3 * 2**29), ("64kb", 2**16), ("12", 12), ("1T", 2**40)],
)
def test_an_amount_of_memory_is_read(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "much", "2 GB of it", "-1G", "2P", "1,5G"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no amount of memory"):
        parse_bytes(text)


def test_without_a_bound_two_batches_are_read_ahead(codec_at: Callable[[int], TileCodec], header: StoreHeader) -> None:
    codec = codec_at(3)
    assert Resources(3).window(codec, header) == 2 * codec.batch_size + 3
    assert Resources(3, 2**50).window(codec, header) == 2 * codec.batch_size + 3


def test_what_the_refusal_asks_for_is_enough(codec_at: Callable[[int], TileCodec], header: StoreHeader) -> None:
    codec = codec_at(3)
    with pytest.raises(ConfigError, match="too few") as refusal:
        Resources(3, 2**20).window(codec, header)
    found = re.search(r"give (\d+) MB", str(refusal.value))
    assert found is not None
    assert int(found[1]) * 2**20 > psutil.Process().memory_info().rss
    # A little more, as this process may have grown since.
    window = Resources(3, (int(found[1]) + 20) * 2**20).window(codec, header)
    assert codec.batch_size <= window <= 2 * codec.batch_size + 3


def test_a_tight_bound_reads_less_ahead(
    codec_at: Callable[[int], TileCodec], header: StoreHeader, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = codec_at(3)
    resident = psutil.Process().memory_info()._replace(rss=0)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda _: resident)
    windows = np.array(
        [_window(Resources(3, bound), codec, header) for bound in range(READER_BYTES, READER_BYTES + 2**26, 1024)]
    )
    assert set(windows) == {0, *range(codec.batch_size, 2 * codec.batch_size + 4)}
    assert (np.diff(windows) >= 0).all()


def _window(resources: Resources, codec: TileCodec, header: StoreHeader) -> int:
    try:
        return resources.window(codec, header)
    except ConfigError:
        return 0
