"""Measurements side by side, in processes of their own, or one after the other in this one.

They are spawned, because forked children would inherit the locks of torch's and the codecs' threads. A spawned child
cannot import a package's `__main__`, so what it runs stands here.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

import torch

from benchmarks.rd.measure import Bench, Point
from benchmarks.rd.tiles import TileSet
from wsicomp.cli.process import settle
from wsicomp.evaluation.classical import Codec

__all__ = ["measured"]

_bench: Bench | None = None
"""A worker's tiles, sent to it once."""


def measured(
    tile_set: TileSet, codecs: Sequence[Codec], classifier: str, workers: int
) -> Iterator[tuple[int, Point | None]]:
    """Yield the originals' scores as number -1, then points with their codec's number, in the order they get done."""
    if workers == 1:
        bench = Bench(tile_set, classifier)
        yield -1, bench.original()
        for index, codec in enumerate(codecs):
            yield index, bench.point(codec)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, start_worker, (tile_set, classifier)) as pool:
        yield -1, pool.submit(original_in_worker).result()
        futures = {pool.submit(point_in_worker, codec): index for index, codec in enumerate(codecs)}
        for future in as_completed(futures):
            yield futures[future], future.result()


def start_worker(tile_set: TileSet, classifier: str) -> None:
    """Prepare a worker's bench, on one thread, in a process like the command's."""
    global _bench
    settle()
    torch.set_num_threads(1)
    _bench = Bench(tile_set, classifier)


def original_in_worker() -> Point | None:
    """Scores on the originals."""
    assert _bench is not None  # noqa: S101
    return _bench.original()


def point_in_worker(codec: Codec) -> Point:
    """One point."""
    assert _bench is not None  # noqa: S101
    return _bench.point(codec)
