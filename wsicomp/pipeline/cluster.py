"""Encodes slides on a Dask cluster: each free worker takes a row of shards, and the client commits the store.

    client   StoreWriter: lock, partial store, tissue, colour profile --send--> one task for each row of shards
    worker   opens slide and codec (kept for the next task) -> encode_rows -> shard files into the partial store
             <- RowDone: size and SHA-256 of every file, quality and fidelity where there is a floor
    client   adopts the shards, checks that all are there and as they were written, commits

The scheduler and the workers are Dask's own, started by whatever starts processes on the cluster. Client and workers
need the same wsicomp, the slide under the same path, and the store's folder on storage that all of them share. When a
worker dies, another encodes its row again, to the same bytes. An error that another try cannot mend, such as a damaged
tile, ends the slide at once.

What it does not do: it starts no cluster, and it chooses no codec; the client encodes the sample that a target needs.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from wsicomp._version import __version__
from wsicomp.disk import explain
from wsicomp.errors import ConfigError, SlideError, StoreError, WsicompError
from wsicomp.models.device import resolve_device
from wsicomp.pipeline.batch import Job
from wsicomp.pipeline.encode import ShardRow, encode_rows
from wsicomp.pipeline.floor import FloorCoder
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.progress import Progress
from wsicomp.slides import open_source
from wsicomp.store.remote import RemoteShards, RemoteStore, WrittenShard
from wsicomp.store.writer import StoreWriter

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Cluster", "RowDone", "encode_row"]

CONNECT_S = 10.0
"""A scheduler has so many seconds to answer."""

POLL_S = 0.5
"""The client looks for a signal every so many seconds while no row is done."""

RETRIES = 3
"""A row is tried so many times again after an error that may pass, such as one of shared storage."""

KEPT = 2
"""A worker keeps so many slides open, and so many codecs."""

T = TypeVar("T")


@dataclass(frozen=True)
class RowTask:
    """Holds one row of shards of one slide, and all that a worker must know to encode it.

    Parameters
    ----------
    slide, modified_ns
        Absolute path of the slide, and when the file was last changed in nanoseconds since 1970, so that no worker
        takes it for an older one.
    settings
        What is asked of the encoding.
    store
        The partial store that the shards go into.
    row
        The row of shards, and where it holds tissue.
    """

    slide: Path
    modified_ns: int
    settings: EncodeSettings
    store: RemoteStore
    row: ShardRow


@dataclass(frozen=True)
class RowDone:
    """Says what became of a row: its shards, or an error that another try would meet again."""

    shards: tuple[WrittenShard, ...] = ()
    error: WsicompError | None = None


class Cluster:
    """Holds the connection to a scheduler; a context manager.

    Parameters
    ----------
    address
        Address of the scheduler, such as "tcp://10.0.0.1:8786".
    warn
        Is told when there is no worker yet.
    """

    def __init__(self, address: str, warn: Callable[[str], None] = lambda message: None) -> None:
        self._address = address
        self._warn = warn
        self._client: Client | None = None

    def __enter__(self) -> Self:
        """Connect.

        Raises
        ------
        ConfigError
            If Dask is not installed, or no scheduler answers.
        """
        try:
            from distributed import Client
        except ImportError as error:
            raise ConfigError("--scheduler needs Dask; install it with: pip install 'wsicomp[cluster]'") from error
        quiet()
        try:
            self._client = Client(self._address, timeout=CONNECT_S)
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            raise ConfigError(
                f"{self._address}: no Dask scheduler answers there; start one with `dask scheduler`, "
                "and give its address, such as tcp://HOST:8786"
            ) from error
        if not self._client.scheduler_info(n_workers=-1)["workers"]:
            self._warn(f"{self._address}: has no worker yet; waiting for one")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def engine(self, job: Job, settings: EncodeSettings) -> ClusterEngine:
        """Return what encodes one slide."""
        if self._client is None:
            raise ValueError("the cluster has not been entered")
        return ClusterEngine(self._client, job.slide, settings)


class ClusterEngine:
    """Encodes the rows of one slide on workers; an `encode.Engine`.

    Parameters
    ----------
    client
        Connection to the scheduler.
    slide
        The slide, under a path that workers see too.
    settings
        What is asked; a weights file is one that workers see too.
    """

    def __init__(self, client: Client, slide: Path, settings: EncodeSettings) -> None:
        self._client = client
        self._slide = slide.absolute()
        weights = Path(settings.model)
        self._settings = replace(settings, model=str(weights.absolute())) if weights.is_file() else settings

    def encode(self, rows: Sequence[ShardRow], writer: StoreWriter, progress: Progress) -> None:
        """Have every row encoded and written, and hand its shards to the writer.

        Raises
        ------
        WsicompError
            The first error that a worker met; the other rows are given up.
        StoreError
            If workers keep dying over a row, or the scheduler is lost.
        """
        if self._client.status != "running":
            raise self._gone()
        remote = writer.remote()
        modified_ns = self._slide.stat().st_mtime_ns
        tasks = [RowTask(self._slide, modified_ns, self._settings, remote, row) for row in rows]
        total, done = sum(row.tissue_tiles for row in rows), 0
        futures = self._client.map(encode_row, tasks, pure=False, retries=RETRIES)
        row_of = dict(zip(futures, rows, strict=True))
        pending = set(futures)
        try:
            while pending:
                finished = self._finished(pending)
                progress(done, total)
                for future in finished:
                    row = row_of[future]
                    for shard in self._result(future, row).shards:
                        writer.adopt(shard)
                    done += row.tissue_tiles
                    progress(done, total)
                pending -= finished
        finally:
            # Rows that are being encoded go on to their end, but find no store to write into.
            if pending and self._client.status == "running":
                self._client.cancel(list(pending), force=True)

    def _finished(self, pending: set[Any]) -> set[Any]:
        """Wait a moment for futures, and return those that have an end."""
        from distributed import CancelledError, wait

        try:
            return set(wait(pending, timeout=POLL_S, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            if self._client.status == "closed":
                raise self._gone() from None
            return set()
        except CancelledError:
            raise self._gone() from None

    def _gone(self) -> StoreError:
        return StoreError(f"{self._slide}: the Dask scheduler is gone; start it again, and encode again")

    def _result(self, future: Any, row: ShardRow) -> RowDone:
        """Return what became of a row; every way in which it can fail is one line."""
        from distributed import CancelledError, KilledWorker

        where = f"{self._slide}: level {row.level} tile rows {row.rows.start} to {row.rows.stop - 1}"
        try:
            result = future.result()
        except CancelledError:
            raise self._gone() from None
        except KilledWorker as error:
            raise StoreError(f"{where}: workers died over it again and again; give them more memory") from error
        except WsicompError:
            raise
        except OSError as error:
            raise StoreError(f"{where}: a worker could not read or write: {explain(error)}") from error
        except Exception as error:
            raise StoreError(f"{where}: a worker failed: {type(error).__name__}; look into the worker's log") from error
        if not isinstance(result, RowDone):
            raise StoreError(f"{where}: a worker of another version answered; install the same wsicomp everywhere")
        if result.error is not None:
            raise result.error
        return result


def quiet() -> None:
    """Keep Dask's own log lines and tracebacks off stderr: whatever goes wrong is one line of ours."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


class Kept:
    """Keeps the last few values of a kind, so that the next task of a process finds them made.

    Parameters
    ----------
    limit
        How many are kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value of a key, made when it is not there; one that is dropped closes itself when let go of."""
        with self._lock:
            if key not in self._values:
                self._values[key] = make()
                while len(self._values) > self._limit:
                    self._values.popitem(last=False)
            self._values.move_to_end(key)
            found: T = self._values[key]
            return found


_slides, _coders = Kept(KEPT), Kept(KEPT)


def encode_row(task: RowTask) -> RowDone:
    """Encode one row of shards on a worker and write its shards; may run several times, in any process.

    Raises
    ------
    OSError
        If storage refuses in a way that may pass.
    """
    header = task.store.header
    try:
        if header.created_by != f"wsicomp {__version__}":
            raise ConfigError(f"a worker has wsicomp {__version__}, not {header.created_by}; install one everywhere")
        key = task.slide, task.settings.source, task.modified_ns
        slide = _slides.get(key, lambda: open_source(task.slide, task.settings.source))
        if (slide.levels, slide.info.source_bytes) != (header.levels, header.source_bytes):
            raise SlideError(f"{task.slide}: is another file on a worker; give a path on storage that all share")
        codec, coder = _coders.get(coder_key(task), lambda: coder_of(task))
        grid = header.grid(task.row.level)
        tissue = np.zeros((grid.rows, grid.cols), np.bool_)
        tissue[task.row.rows.start : task.row.rows.stop] = task.row.tissue
        shards = RemoteShards(task.store, tissue)
        encode_rows(slide, [task.row], codec, coder, shards, resources=task.settings.resources)
    except WsicompError as error:
        return RowDone(error=error)
    return RowDone(tuple(shards.written))


def coder_key(task: RowTask) -> Hashable:
    """Return all that a codec and its floor depend on."""
    header = task.store.header
    floor = None if header.floor is None else tuple(sorted(header.floor.items()))
    codec = header.weights_sha256, header.depth, header.quality, header.latent_dtype
    return codec, floor, header.tile_size, task.settings.device


def coder_of(task: RowTask) -> tuple[TileCodec, FloorCoder | None]:
    """Load exactly the codec that the store's header names, and make its floor.

    Raises
    ------
    WsicompError
        If the weights are not those, the device is not there, or the floor is another.
    """
    header, settings, floor = task.store.header, task.settings, task.settings.floor
    codec = TileCodec.for_store(header, weights=settings.model, device=resolve_device(settings.device))
    if header.floor != (None if floor is None else floor.record):
        raise ConfigError("a worker has another floor; install the same wsicomp everywhere")
    return codec, None if floor is None else FloorCoder(codec, floor)
