"""Where the time goes: CPU time per tissue tile of every step of encoding and of decoding.

Stages run one after the other, so that the process's CPU time is the stage's. Steps inside them are timed where they
are called, by CPU time of the calling thread; what is left of a stage is named for what it consists of. All is compiled
and loaded before. Nothing here is wall time: stages overlap, and the slowest one alone says how fast encoding is.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from benchmarks.pipeline.decoding import decode_store
from benchmarks.pipeline.report import table
from benchmarks.pipeline.stages import Bench, encode_whole, load_latents, load_tiles, read_slide, run_network
from wsicomp.codec import rans
from wsicomp.codec.entropy_model import EntropyModel
from wsicomp.codec.scales import ScaleModel
from wsicomp.models.autoencoder import StudyAutoencoder
from wsicomp.models.context import ContextModel
from wsicomp.models.wsic import Wsic
from wsicomp.store.reader import StoreReader
from wsicomp.store.tiles import Latent
from wsicomp.store.writer import StoreWriter

__all__ = ["Profile", "profile", "to_markdown"]

Profile = dict[str, dict[str, float]]
"""CPU milliseconds per tile, by direction and step."""

Step = tuple[Any, str, str, Callable[[], float]]
"""Owner and name of a function, what its time is counted as, and by which clock."""

ENCODING: tuple[Step, ...] = (
    (Wsic, "analyse", "network", time.thread_time),
    (StudyAutoencoder, "encode", "network", time.thread_time),
    (ContextModel, "residuals", "mean prediction", time.thread_time),
    (EntropyModel, "classify", "entropy tables", time.thread_time),
    (ScaleModel, "tables", "entropy tables", time.thread_time),
    (rans, "find_spans", "rANS", time.thread_time),
    (rans, "push_spans", "rANS", time.thread_time),
    (StoreWriter, "commit", "commit: checksums, sync", time.process_time),
)
ENTROPY_DECODING: tuple[Step, ...] = ((rans, "decode_latent", "entropy decoding", time.thread_time),)
DECODING: tuple[Step, ...] = (
    (ContextModel, "restore", "mean prediction", time.thread_time),
    (Wsic, "synthesise", "network", time.thread_time),
    (StudyAutoencoder, "decode", "network", time.thread_time),
)


def profile(bench: Bench, slide: Path) -> Profile:
    """Measure every step, on one slide."""
    store = bench.scratch / "profile.zarr"
    encode_whole(bench, slide, store)
    decode_store(bench, store)
    tiles, latents = load_tiles(slide), load_latents(store)
    again = bench.scratch / "profile-again.zarr"
    with steps(ENCODING) as spent:
        read = cpu(lambda: read_slide(slide, bench.readers))
        network = cpu(lambda: run_network(bench.codec, tiles))
        write = cpu(lambda: latents.write(again))
    inner = dict(spent)
    coding = inner.get("entropy tables", 0.0) + inner.get("rANS", 0.0)
    commit = inner.pop("commit: checksums, sync", 0.0)
    encoding = {
        "read": read,
        **inner,
        "tensors in and out": network - inner.get("network", 0.0) - inner.get("mean prediction", 0.0),
        "zarr, and hand-overs between threads": write - coding - commit,
        "commit: checksums, sync": commit,
        "all stages": read + network + write,
        "end to end, overlapped": cpu(lambda: encode_whole(bench, slide, store)),
    }
    with steps(ENTROPY_DECODING) as spent:
        from_store = cpu(lambda: read_latents(store))
    entropy = spent.get("entropy decoding", 0.0)
    tables = find_tables(bench, read_latents(store)) if entropy else 0.0
    with steps(DECODING) as spent:
        whole = cpu(lambda: decode_store(bench, store))
    decoding = {
        "zarr, and hand-overs between threads": from_store - entropy,
        **({"entropy tables": tables, "rANS": entropy - tables} if entropy else {}),
        **spent,
        "tensors in and out": whole - from_store - sum(spent.values()),
        "all stages": whole,
    }
    return {
        direction: {step: 1e3 * seconds / len(tiles) for step, seconds in found.items()}
        for direction, found in {"encode": encoding, "decode": decoding}.items()
    }


def cpu(run: Callable[[], object]) -> float:
    """CPU seconds of all threads."""
    started = time.process_time()
    run()
    return time.process_time() - started


@contextmanager
def steps(functions: tuple[Step, ...]) -> Iterator[Mapping[str, float]]:
    """Collect the seconds of functions, wherever they are called from."""
    spent: dict[str, float] = defaultdict(float)
    lock = Lock()

    def counted(function: Callable[..., Any], name: str, clock: Callable[[], float]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            started = clock()
            try:
                return function(*args, **options)
            finally:
                seconds = clock() - started
                with lock:
                    spent[name] += seconds

        return call

    with ExitStack() as patches:
        for owner, attribute, name, clock in functions:
            function = counted(getattr(owner, attribute), name, clock)
            patches.enter_context(mock.patch.object(owner, attribute, function))
        yield spent


def read_latents(store: Path) -> list[NDArray[Any]]:
    """Every latent of a store, read by one thread."""
    with StoreReader(store) as reader:
        found = [
            reader.read_tile(level.index, int(row), int(col))
            for level in reader.header.levels
            for row, col in np.argwhere(reader.tissue(level.index))
        ]
    return [tile.values for tile in found if isinstance(tile, Latent)]


def find_tables(bench: Bench, latents: list[NDArray[Any]]) -> float:
    """CPU seconds of choosing the tables of every symbol, as a decoder does between the symbols."""
    entropy = bench.codec.entropy
    return 0.0 if entropy is None else cpu(lambda: [entropy.scales.tables(latent, 0) for latent in latents])


def to_markdown(found: Profile) -> str:
    """Write each direction as a table: share of all stages, and milliseconds of CPU per tile."""
    parts = []
    for direction, spent in found.items():
        lines = [[step, f"{100 * ms / spent['all stages']:.0f} %", f"{ms:.2f}"] for step, ms in spent.items()]
        parts.append(table([direction, "share of CPU time", "ms per tile"], lines))
    return "\n".join(parts)
