"""Write a latent store so that it is either whole or not there at all.

    enter      NAME.zarr.partial is made under a lock; leftovers of a killed run are cleared
    write_*    tissue masks, then shards of latents, then the colour profile
    commit     sync every file -> manifest last -> rename to NAME.zarr -> sync the parent folder
    leave      without commit: the partial store is removed

The unit of parallel work is the shard: threads may write different shards at once, and no two may write the same one.
A glass tile has no chunk. A tissue tile of zeros has none either; that is safe because a shard's index carries crc32c
and the manifest knows each shard, so a chunk cannot go missing unnoticed.

How tiles are coded inside a shard is `coding`'s business. The header must be complete when writing begins, and its
entropy model registered.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from wsicomp.disk import explain, sync_folder, write_file
from wsicomp.errors import ConfigError, StoreError
from wsicomp.store.coding import check_model, coding, zstd
from wsicomp.store.container import PARTIAL, REPLACED, is_store_folder
from wsicomp.store.files import sibling
from wsicomp.store.lock import StoreLock
from wsicomp.store.manifest import MANIFEST, Manifest, canonical
from wsicomp.store.schema import StoreHeader

__all__ = ["StoreWriter"]

OWN_NAMES = ("zarr.", "latents", "tissue", "icc_profile", MANIFEST, ".manifest.partial-")
"""How everything at the top of a partial store begins."""


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
        self.path = Path(path)
        self.header = header
        self._overwrite = overwrite
        self._partial = sibling(self.path, PARTIAL)
        self._replaced = sibling(self.path, REPLACED)
        self._lock = StoreLock(sibling(self.path, PARTIAL + ".lock"), str(path))
        self._root: zarr.Group | None = None
        self._latents: list[zarr.Array[Any]] = []
        self._tissue: dict[int, NDArray[np.bool_]] = {}
        self._written: set[tuple[int, int, int]] = set()
        self._guard = Lock()
        self._made = False

    def __enter__(self) -> Self:
        """Begin to write.

        Raises
        ------
        ConfigError
            If the target exists and may not be replaced, or is not a store.
        StoreError
            If another process writes this store, its entropy model is not registered, or the disk refuses.
        ValueError
            If the entropy model is for other channels than the header's.
        """
        check_model(self.header, str(self.path))
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

    def write_shard(self, level: int, rows: range, cols: range, block: NDArray[Any]) -> None:
        """Store the latents of one shard, once; a shard of glass alone may be left out.

        Parameters
        ----------
        level
            Index of the level; its tissue must have been written.
        rows, cols
            Tiles of the shard, as `TileGrid.shards` gives them.
        block
            (C, h, w) in the header's dtype: the shard's tiles, cropped at the image's edge, zeros where glass.

        Raises
        ------
        ValueError
            If the block is not of that shard, or is not zero on glass.
        StoreError
            If the disk refuses.
        """
        step = self.header.chunk_px
        channels, height, width = self.header.latent_shape(level)
        if (rows, cols) not in self.header.grid(level).shards():
            raise ValueError(f"level {level} has no shard of rows {rows} and cols {cols}")
        bottom, right = min(rows.stop * step, height), min(cols.stop * step, width)
        shape = (channels, bottom - rows.start * step, right - cols.start * step)
        if block.shape != shape or block.dtype != np.dtype(self.header.latent_dtype):
            raise ValueError(f"shard needs {self.header.latent_dtype} {shape}, not {block.dtype} {block.shape}")
        if level not in self._tissue:
            raise ValueError(f"tissue of level {level} must be written before its shards")
        for row, col in np.argwhere(~self._tissue[level][rows.start : rows.stop, cols.start : cols.stop]):
            if block[:, row * step : (row + 1) * step, col * step : (col + 1) * step].any():
                raise ValueError(f"glass tile {rows.start + row}, {cols.start + col} of level {level} is not zero")
        with self._disk():
            self._latents[level][:, rows.start * step : bottom, cols.start * step : right] = block
        with self._guard:
            self._written.add((level, rows.start, cols.start))

    def commit(self) -> int:
        """Make the store complete and put it in its place, together with all that was written before.

        Returns
        -------
        int
            Bytes of the store on disk: every file, index, metadata and manifest.

        Raises
        ------
        ValueError
            If a tissue mask or a shard with tissue has not been written, or the header counts other tiles.
        StoreError
            If the disk refuses; what stood at the path before still stands there.
        """
        self._check_complete()
        with self._disk():
            manifest = Manifest.of_folder(self._partial)
            for folder, _, _ in os.walk(self._partial):
                sync_folder(Path(folder))
            raw = manifest.to_bytes()
            write_file(self._partial / MANIFEST, raw)
            self._check_target()
            self._publish()
        return sum(entry.bytes for entry in manifest.files.values()) + len(raw)

    def _create(self) -> None:
        header = self.header
        self._root = zarr.create_group(LocalStore(self._partial), zarr_format=3, attributes=header.to_attributes())
        latents = self._root.create_group("latents")
        self._root.create_group("tissue")
        for level in header.levels:
            array = latents.create_array(
                str(level.index),
                shape=header.latent_shape(level.index),
                dtype=header.latent_dtype,
                chunks=(header.channels, header.chunk_px, header.chunk_px),
                shards=header.shard_shape(level.index),
                fill_value=0,
                dimension_names=("c", "y", "x"),
                config={"write_empty_chunks": False},
                **coding(header),
            )
            self._latents.append(array)
        for metadata in self._partial.rglob("zarr.json"):
            compact(metadata)

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
            if any(not entry.name.startswith(OWN_NAMES) for entry in leftover.iterdir()):
                raise StoreError(f"{leftover} is in the way and holds other files than a store's; move it away")
            shutil.rmtree(leftover)

    def _check_target(self) -> None:
        if not os.path.lexists(self.path):
            return
        if not self._overwrite:
            raise ConfigError(f"{self.path} exists; pass --overwrite to replace it, or choose another output")
        if not is_store_folder(self.path):
            raise ConfigError(f"{self.path} exists and is not a latent store, so it is not replaced; move it away")

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
            shutil.rmtree(self._partial, ignore_errors=True)
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
