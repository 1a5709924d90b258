"""Shards of a store that are written by another process, on storage that both see.

    writer   StoreWriter.remote -> RemoteStore (picklable): the partial store, a folder in it for arrivals, the header
    helper   RemoteShards.write_shard -> bytes in memory -> a file in that folder -> synced -> renamed into its place
                                      -> WrittenShard: files with size and SHA-256, and its record without streams
    writer   StoreWriter.adopt(WrittenShard) ... commit checks every file against what its helper said

A helper needs no lock, because it can only write whole shard files, and the same shard again is the same bytes: work
that was lost is simply done again. It makes no folder above its own array's. So once the writer has given up, or has
committed, nothing that a helper still does can bring the partial store back or get into another one: the folder for
what arrives has a name of its own in every run, and a rename out of it fails when it is gone.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from wsicomp.errors import StoreError
from wsicomp.store.coding import check_model
from wsicomp.store.manifest import Entry, is_chunk
from wsicomp.store.records import ShardRecord
from wsicomp.store.schema import StoreHeader
from wsicomp.store.shards import ShardArrays

__all__ = ["RemoteShards", "RemoteStore", "WrittenShard"]


@dataclass(frozen=True)
class RemoteStore:
    """What a helper must know of a store that is being written.

    Parameters
    ----------
    name
        How messages call the store.
    partial
        Absolute path of the partial store.
    incoming
        Absolute path of the folder in it for files on their way.
    header
        What the store holds.
    """

    name: str
    partial: Path
    incoming: Path
    header: StoreHeader


@dataclass(frozen=True)
class WrittenShard:
    """A shard that a helper wrote.

    Parameters
    ----------
    level, rows, cols
        Which it is.
    files
        Size and SHA-256 by path in the store; none for a shard of zeros.
    record
        Its record without the streams, where the store may have pictures.
    """

    level: int
    rows: range
    cols: range
    files: dict[str, Entry]
    record: ShardRecord | None


class RemoteShards:
    """Writes shards of one level into a store that another process writes.

    Parameters
    ----------
    store
        The store.
    tissue
        (rows, cols) bool, mask of the level; it need hold no more than the rows of the shards that are written here.

    Attributes
    ----------
    written
        The shards, in the order in which they were written.

    Raises
    ------
    StoreError
        If its entropy model is not registered.
    """

    def __init__(self, store: RemoteStore, tissue: NDArray[np.bool_]) -> None:
        check_model(store.header, store.name)
        self.header = store.header
        self.written: list[WrittenShard] = []
        self._store = store
        self._tissue = tissue
        self._made: dict[str, Buffer] = {}
        self._arrays = ShardArrays(zarr.create_group(MemoryStore(self._made), zarr_format=3), store.header)

    def write_shard(
        self, level: int, rows: range, cols: range, block: NDArray[Any], record: ShardRecord | None = None
    ) -> None:
        """Store the latents of one shard; the parameters and the ValueError are those of `StoreWriter.write_shard`.

        Raises
        ------
        StoreError
            If the partial store is not there.
        OSError
            If the disk refuses.
        """
        self._arrays.write(level, rows, cols, block, self._tissue, record)
        files = {}
        for name in filter(is_chunk, list(self._made)):
            data = self._made.pop(name).to_bytes()
            self._place(name, data)
            files[name] = Entry(len(data), hashlib.sha256(data).hexdigest())
        kept = None if record is None else ShardRecord(record.quality, record.fidelity)
        self.written.append(WrittenShard(level, rows, cols, files, kept))

    def _place(self, name: str, data: bytes) -> None:
        try:
            self._write(name, data)
        except FileNotFoundError as error:
            raise StoreError(
                f"{self._store.name}: the unfinished store is not seen by a worker; "
                "give an output on storage that all machines share"
            ) from error

    def _write(self, name: str, data: bytes) -> None:
        arrival = self._store.incoming / uuid.uuid4().hex
        with open(arrival, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        *folders, last = name.split("/")
        folder = self._store.partial.joinpath(*folders[:2])  # the array's own, which the writer made
        for part in folders[2:]:
            folder /= part
            folder.mkdir(exist_ok=True)
        os.replace(arrival, folder / last)
