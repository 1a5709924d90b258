"""Write a latent store so that it is either whole or not there at all.

    enter      NAME.zarr.partial is made under a lock; leftovers of a killed run are cleared
    write_*    tissue masks, then shards of latents, then the colour profile
    commit     sync every file -> manifest last -> rename to NAME.zarr -> sync the parent folder
    leave      without commit: the partial store is removed

The unit of parallel work is the shard: threads may write different shards at once, and no two may write the same one.
A glass tile has no chunk, nor a tile that is JPEG XL instead. A tissue tile of zeros has none either; that is safe
because a shard's index carries crc32c and the manifest knows each shard, so a chunk cannot go missing unnoticed.

Other processes may help: they write shards into the partial store through `remote`, and tell here what they wrote.

How tiles are coded inside a shard is `coding`'s business. The header must be complete when writing begins, and its
entropy model registered.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from wsicomp.disk import explain, sync_folder, write_file
from wsicomp.errors import ConfigError, StoreCorrupt, StoreError, StoreTooLarge
from wsicomp.store.coding import check_model, zstd
from wsicomp.store.container import PARTIAL, REPLACED, is_store_folder
from wsicomp.store.files import sibling
from wsicomp.store.lock import StoreLock
from wsicomp.store.manifest import MANIFEST, Entry, Manifest, canonical
from wsicomp.store.partial import remove_partial, turn_helpers_away
from wsicomp.store.place import INCOMING, check_place, foreign_file
from wsicomp.store.records import ShardRecord
from wsicomp.store.remote import RemoteStore, WrittenShard
from wsicomp.store.schema import FORMAT_VERSION, StoreHeader
from wsicomp.store.shards import ShardArrays
from wsicomp.store.tiles import TileCounts

__all__ = ["StoreWriter"]


class StoreWriter:
    """Context manager that writes one store.

    Parameters
    ----------
    path
        Where the store will stand, by custom `NAME.zarr`; its folder must exist.
    header
        What the store holds.
    overwrite
        Whether an existing store may be replaced; it stays until the new one is complete.
    """

    def __init__(self, path: str | Path, header: StoreHeader, *, overwrite: bool = False) -> None:
        if header.format_version != FORMAT_VERSION:
            raise ValueError(f"stores are written in format version {FORMAT_VERSION}, not {header.format_version}")
        self.path = Path(path)
        self.header = header
        self._overwrite = overwrite
        self._partial = sibling(self.path, PARTIAL)
        self._replaced = sibling(self.path, REPLACED)
        self._lock = StoreLock(sibling(self.path, PARTIAL + ".lock"), str(path))
        self._root: zarr.Group | None = None
        self._tissue: dict[int, NDArray[np.bool_]] = {}
        self._shards: ShardArrays | None = None
        self._incoming: Path | None = None
        self._adopted: dict[str, Entry] = {}
        self._written: set[tuple[int, int, int]] = set()
        self._guard = Lock()
        self._made = False

    def __enter__(self) -> Self:
        """Begin to write.

        Raises
        ------
        ConfigError
            If the target lies inside a store, or exists and may not be replaced, or is not a store alone.
        StoreError
            If another process writes this store, its entropy model is not registered, or the disk refuses.
        ValueError
            If the entropy model is for other channels than the header's.
        """
        check_model(self.header, str(self.path))
        check_place(self.path)
        if not self.path.parent.is_dir():
            raise StoreError(f"{self.path}: its folder does not exist; create {self.path.parent} first")
        with self._disk():
            self._lock.acquire()
        try:
            with self._disk():
                self._settle()
                self._check_target()
                self._partial.mkdir()
                self._made = True
                self._create()
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    def write_tissue(self, level: int, mask: NDArray[np.bool_]) -> None:
        """Store which tiles of a level hold tissue; before any shard of that level.

        Parameters
        ----------
        mask
            (rows, cols) bool; True is tissue, and False is glass.

        Raises
        ------
        ValueError
            If the mask is not of the level's tiles.
        StoreError
            If the disk refuses.
        """
        grid = self.header.grid(level)
        if mask.shape != (grid.rows, grid.cols) or mask.dtype != np.bool_:
            raise ValueError(
                f"tissue of level {level} needs bool ({grid.rows}, {grid.cols}), not {mask.dtype} {mask.shape}"
            )
        with self._disk():
            self._small_array(f"tissue/{level}", mask, ("y", "x"))
        self._tissue[level] = mask.copy()

    def write_icc(self, profile: bytes) -> None:
        """Store the colour profile of the decoded pixels, at least one byte.

        Raises
        ------
        StoreError
            If the disk refuses.
        """
        with self._disk():
            self._small_array("icc_profile", np.frombuffer(profile, dtype=np.uint8), None)

    def write_damaged(self, tiles: Sequence[tuple[int, int, int]]) -> None:
        """Store which tiles, at least one, the slide could not give: each is a plain marked tile in this store.

        Parameters
        ----------
        tiles
            Level, row and column of each.

        Raises
        ------
        StoreError
            If the disk refuses.
        """
        with self._disk():
            self._small_array("damaged", np.array(tiles, np.uint32), ("tile", "level_row_col"))

    def write_shard(
        self, level: int, rows: range, cols: range, block: NDArray[Any], record: ShardRecord | None = None
    ) -> None:
        """Store the latents of one shard, once; a shard of glass alone may be left out.

        Parameters
        ----------
        level
            Index of the level; its tissue must have been written.
        rows, cols
            Tiles of the shard, as `TileGrid.shards` gives them.
        block
            (C, h, w) in the header's dtype: the shard's tiles, cropped at the image's edge, zeros where glass.
        record
            Quality, fidelity and JPEG XL streams of the shard's tiles, if and only if the store may have pictures.

        Raises
        ------
        ValueError
            If the block is not of that shard, is not zero on glass, or a tile is not in exactly one place.
        StoreError
            If the disk refuses.
        """
        if self._shards is None or level not in self._tissue:
            raise ValueError(f"tissue of level {level} must be written before its shards")
        with self._disk():
            self._shards.write(level, rows, cols, block, self._tissue[level], record)
        with self._guard:
            self._written.add((level, rows.start, cols.start))

    def tile_counts(self) -> TileCounts:
        """Count the tiles of each kind, once every shard is written."""
        header, records = self.header, None if self._shards is None else self._shards.records
        steps = () if records is None else records.quality
        return TileCounts.of(header.total_tiles, header.tissue_tiles, header.quality, steps)

    def remote(self) -> RemoteStore:
        """Let other processes write shards, through `remote.RemoteShards`; what they wrote is for `adopt`.

        Raises
        ------
        StoreError
            If the disk refuses.
        """
        if self._incoming is None:
            incoming = self._partial / f"{INCOMING}{uuid.uuid4().hex}"
            with self._disk():
                incoming.mkdir()
            self._incoming = incoming
        return RemoteStore(str(self.path), self._partial, self._incoming, self.header)

    def adopt(self, shard: WrittenShard) -> None:
        """Take over a shard that a helper wrote; `commit` compares its files with what the helper said.

        Raises
        ------
        ValueError
            If the level has no such shard, or it has no record where the store may have pictures.
        """
        level, rows, cols = shard.level, shard.rows, shard.cols
        if self._shards is None or (rows, cols) not in self.header.grid(level).shards():
            raise ValueError(f"level {level} has no shard of rows {rows} and cols {cols}")
        if self._shards.records is not None:
            if shard.record is None:
                raise ValueError("a shard has a record if and only if the store may have pictures")
            self._shards.records.record(level, rows, cols, shard.record)
        with self._guard:
            self._adopted.update(shard.files)
            self._written.add((level, rows.start, cols.start))

    def commit(self, *, limit_bytes: int | None = None, file_overhead: int = 0) -> int:
        """Make the store complete and put it in its place, together with all that was written before.

        Parameters
        ----------
        limit_bytes
            Bytes that the store may have at most; a larger one is not put in place.
        file_overhead
            Bytes that each file will take on top where the store is to go next, counted against the limit.

        Returns
        -------
        int
            Bytes of the store on disk: every file, index, metadata and manifest.

        Raises
        ------
        ValueError
            If a tissue mask or a shard with tissue has not been written, or the header counts other tiles.
        StoreTooLarge
            If it has more bytes than it may.
        StoreCorrupt
            If a file is not as the helper wrote it that wrote it.
        StoreError
            If the disk refuses; what stood at the path before still stands there.
        """
        self._check_complete()
        with self._disk():
            self._write_records()
            turn_helpers_away(self._partial)
            manifest = Manifest.of_folder(self._partial)
            for name, entry in self._adopted.items():
                if manifest.files.get(name) != entry:
                    raise StoreCorrupt(f"{self.path}: {name} is not as a worker wrote it; check the shared storage")
            for folder, _, _ in os.walk(self._partial):
                sync_folder(Path(folder))
            raw = manifest.to_bytes()
            store_bytes = sum(entry.bytes for entry in manifest.files.values()) + len(raw)
            made_bytes = store_bytes + file_overhead * (len(manifest.files) + 1)
            if limit_bytes is not None and made_bytes > limit_bytes:
                raise StoreTooLarge(
                    f"{self.path}: would have {made_bytes:,} bytes, where {limit_bytes:,} are allowed; allow more",
                    made_bytes,
                )
            write_file(self._partial / MANIFEST, raw)
            self._check_target()
            self._publish()
        return store_bytes

    def _create(self) -> None:
        header = self.header
        self._root = zarr.create_group(LocalStore(self._partial), zarr_format=3, attributes=header.to_attributes())
        self._shards = ShardArrays(self._root, header)
        self._root.create_group("tissue")
        for metadata in self._partial.rglob("zarr.json"):
            compact(metadata)

    def _write_records(self) -> None:
        records = None if self._shards is None else self._shards.records
        if records is not None:
            for level, (quality, fidelity) in enumerate(zip(records.quality, records.fidelity, strict=True)):
                self._small_array(f"quality/{level}", quality, ("y", "x"))
                if self.header.floor is not None:
                    self._small_array(f"fidelity/{level}", fidelity, ("y", "x", "measure"))

    def _small_array(self, name: str, values: NDArray[Any], dimension_names: tuple[str, ...] | None) -> None:
        if self._root is None:
            raise ValueError("the writer has not been entered")
        array = self._root.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=values.shape,
            compressors=zstd(),
            fill_value=0,
            dimension_names=dimension_names,
            # the only chunk is written even if all glass, so that its loss would show
            config={"write_empty_chunks": True},
        )
        array[...] = values
        compact(self._partial / name / "zarr.json")

    def _check_complete(self) -> None:
        for level in self.header.levels:
            if level.index not in self._tissue:
                raise ValueError(f"tissue of level {level.index} has not been written")
            for rows, cols in self.header.grid(level.index).shards():
                tissue = self._tissue[level.index][rows.start : rows.stop, cols.start : cols.stop].any()
                if tissue and (level.index, rows.start, cols.start) not in self._written:
                    raise ValueError(f"shard {rows.start}, {cols.start} of level {level.index} has not been written")
        tissue_tiles = sum(int(mask.sum()) for mask in self._tissue.values())
        if tissue_tiles != self.header.tissue_tiles:
            raise ValueError(f"the masks hold {tissue_tiles} tissue tiles, the header {self.header.tissue_tiles}")

    def _settle(self) -> None:
        """Undo what a killed run of this store left; only called under the lock."""
        if is_store_folder(self._replaced) and not os.path.lexists(self.path):
            os.rename(self._replaced, self.path)
        for leftover in (self._replaced, self._partial):
            if not os.path.lexists(leftover):
                continue
            if leftover.is_symlink() or not leftover.is_dir():
                raise StoreError(f"{leftover} is in the way and is no unfinished store; move it away")
            if (foreign := foreign_file(leftover)) is not None:
                raise StoreError(f"{leftover} is in the way and holds {foreign}, no file of a store; move it away")
            remove_partial(leftover)

    def _check_target(self) -> None:
        if not os.path.lexists(self.path):
            return
        if not self._overwrite:
            raise ConfigError(f"{self.path} exists; pass --overwrite to replace it, or choose another output")
        if not is_store_folder(self.path):
            raise ConfigError(f"{self.path} exists and is not a latent store, so it is not replaced; move it away")
        if (foreign := foreign_file(self.path)) is not None:
            raise ConfigError(f"{self.path} exists and holds {foreign}, no file of a store; move that away first")

    def _publish(self) -> None:
        """Rename the complete partial store into place, an old store aside first; nothing is lost at any moment."""
        parent = self.path.parent
        if not os.path.lexists(self.path):
            os.rename(self._partial, self.path)
            sync_folder(parent)
            return
        os.rename(self.path, self._replaced)
        try:
            os.rename(self._partial, self.path)
        except BaseException:
            os.rename(self._replaced, self.path)
            raise
        sync_folder(parent)
        shutil.rmtree(self._replaced, ignore_errors=True)

    def _discard(self) -> None:
        if self._made:
            remove_partial(self._partial, ignore_errors=True)
        self._lock.release()

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        """Turn what the disk refuses into one line."""
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written: {explain(error)}") from error


def compact(metadata: Path) -> None:
    """Rewrite a zarr.json without the indentation, which is half of its bytes."""
    metadata.write_bytes(canonical(json.loads(metadata.read_bytes())))
