"""What a worker does with a row, and that every way in which one can fail is one line; the rest is with the command."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from tests.factories import tissue_slide
from tests.pipeline.sources import files_of
from wsicomp.errors import ConfigError, SlideError, StoreError, WeightsMismatch, WsicompError
from wsicomp.pipeline.cluster import Cluster, ClusterEngine, Kept, RowDone, RowTask, encode_row
from wsicomp.pipeline.encode import ShardRow, encode_source, header_of, rows_of
from wsicomp.pipeline.floor import Floor
from wsicomp.pipeline.resources import Resources
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.progress import Progress
from wsicomp.slides import SourceSettings, open_source
from wsicomp.store.writer import StoreWriter

CodecAt = Callable[[int], TileCodec]
SETTINGS = EncodeSettings(
    "perticarari2023", source=SourceSettings(tile_size=32, max_levels=2), resources=Resources(2), device="cpu"
)
ROW = ShardRow(0, range(16), np.ones((16, 13), np.bool_))


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """A slide of 18 x 13 tiles, so that level 0 has two rows of shards."""
    return tissue_slide(tmp_path / "slide.svs", 400, 560)


class Here:
    """An engine that does what workers do, in this process, the last row first and, without a floor, each row twice."""

    def __init__(
        self, slide: Path, settings: EncodeSettings, change: Callable[[RowTask], RowTask] = lambda task: task
    ) -> None:
        self._slide = slide
        self._settings = settings
        self._change = change

    def encode(self, rows: list[ShardRow], writer: StoreWriter, progress: Progress) -> None:
        for row in reversed(rows):
            task = self._change(RowTask(self._slide, 1, self._settings, writer.remote(), row))
            if self._settings.floor is None:
                encode_row(task)
            done: RowDone = pickle.loads(pickle.dumps(encode_row(pickle.loads(pickle.dumps(task)))))  # noqa: S301
            if done.error is not None:
                raise done.error
            for shard in done.shards:
                writer.adopt(shard)


def encode(slide: Path, store: Path, codec: TileCodec, floor: Floor | None = None, engine: Any = None) -> Any:
    with open_source(slide, SETTINGS.source) as source:
        return encode_source(source, store, codec, EncodeSettings(floor=floor), engine=engine)


@pytest.mark.parametrize("with_floor", [False, True])
def test_rows_that_are_done_twice_and_in_another_order_make_the_same_store(
    slide: Path, codec_at: CodecAt, tmp_path: Path, with_floor: bool
) -> None:
    floor = Floor(min_psnr_db=22) if with_floor else None
    settings = replace(SETTINGS, floor=floor)
    alone = encode(slide, tmp_path / "alone.zarr", codec_at(3), floor)
    helped = encode(slide, tmp_path / "helped.zarr", codec_at(3), floor, Here(slide, settings))
    assert files_of(tmp_path / "alone.zarr") == files_of(tmp_path / "helped.zarr")
    assert replace(helped, store=alone.store, seconds=0) == replace(alone, seconds=0)
    assert (alone.jpegxl_tiles > 0) == with_floor


def of_header(**changes: Any) -> Callable[[RowTask], RowTask]:
    return lambda task: replace(task, store=replace(task.store, header=replace(task.store.header, **changes)))


def elsewhere(task: RowTask) -> RowTask:
    return replace(task, store=replace(task.store, incoming=Path("/none/such")))


def without_slide(task: RowTask) -> RowTask:
    return replace(task, slide=task.slide.with_name("gone.svs"))


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (of_header(created_by="wsicomp 0.0.1"), ConfigError, "install one everywhere"),
        (of_header(source_bytes=7), SlideError, "another file on a worker"),
        (of_header(weights_sha256="0" * 64), WeightsMismatch, "are not those"),
        (elsewhere, StoreError, "not seen by a worker"),
        (without_slide, SlideError, "no such file"),
        (of_header(floor={"min_psnr_db": 1.0}, features=("pictures",)), ConfigError, "another floor"),
    ],
    ids=["version", "file", "weights", "storage", "slide", "floor"],
)
def test_a_worker_that_differs_is_found_out(
    slide: Path,
    codec_at: CodecAt,
    change: Callable[[RowTask], RowTask],
    kind: type[WsicompError],
    words: str,
) -> None:
    with pytest.raises(kind, match=words):
        encode(slide, slide.with_suffix(".zarr"), codec_at(3), engine=Here(slide, SETTINGS, change))
    assert [path.name for path in slide.parent.iterdir()] == ["slide.svs"]


class Ended:
    """A future that has an end."""

    def __init__(self, end: object) -> None:
        self._end = end

    def result(self) -> object:
        if isinstance(self._end, BaseException):
            raise self._end
        return self._end


def ends() -> list[tuple[object, type[WsicompError], str]]:
    from distributed import CancelledError, KilledWorker

    return [
        (CancelledError(), StoreError, "scheduler is gone"),
        (KilledWorker("row", MagicMock(), 3), StoreError, "slide.svs: level 0 tile rows 0 to 15: workers died over it"),
        (OSError(28, "full"), StoreError, "tile rows 0 to 15: a worker could not read or write: the disk is full"),
        (MemoryError(), StoreError, "a worker failed: MemoryError"),
        (SlideError("x.svs: level 1 tile (2, 3)"), SlideError, "tile"),
        (RowDone(error=SlideError("x.svs: level 1 tile (2, 3)")), SlideError, "level 1 tile"),
        ("done", StoreError, "another version"),
    ]


@pytest.mark.parametrize(("end", "kind", "words"), ends())
def test_every_end_of_a_row_is_one_line(end: object, kind: type[WsicompError], words: str) -> None:
    engine = ClusterEngine(None, Path("slide.svs"), SETTINGS)  # type: ignore[arg-type]
    with pytest.raises(kind, match=words) as caught:
        engine._result(Ended(end), ROW)
    assert "\n" not in str(caught.value)


def test_without_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"wsicomp\[cluster\]"):
        Cluster("tcp://127.0.0.1:9").__enter__()


def test_the_last_few_are_kept() -> None:
    made: list[int] = []

    def make(key: int) -> int:
        made.append(key)
        return key

    kept = Kept(2)
    for key in (1, 2, 1, 3, 1, 2):
        assert kept.get(key, partial(make, key)) == key
    assert made == [1, 2, 3, 2]


def test_rows_cover_the_tissue_and_no_row_is_glass(slide: Path, codec_at: CodecAt) -> None:
    with open_source(slide, SETTINGS.source) as source:
        mask = source.tissue()
        rows = list(rows_of(source, mask))
        header = header_of(source, mask, codec_at(3))
    assert sum(row.tissue_tiles for row in rows) == header.tissue_tiles
    assert all(row.tissue_tiles for row in rows)
    assert len({(row.level, row.rows.start) for row in rows}) == len(rows)
    assert {row.level for row in rows} == {0, 1}
