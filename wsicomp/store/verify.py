"""Check every byte of a store, and say which file and which tile is damaged.

    every file's size and SHA-256 against the manifest -> every tissue tile decoded, its checksum on the way -> damage
                                                       -> where there is a floor: every JPEG XL stream decoded, each
                                                          tile in one place alone, no recorded fidelity below the floor

Files are hashed in pieces and tiles are read sixteen at a time, so memory does not grow with the store. Tiles coded
with an entropy model that is not registered are not decoded: SHA-256 still finds all damage, but names files alone.
Nothing is repaired. Whether the latents are what the slide deserves is not asked here; that needs a decoder.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wsicomp.errors import StoreCorrupt
from wsicomp.geometry import SHARD_TILES
from wsicomp.store.arrays import CHUNK_DAMAGE, StoreArrays, one_line, open_floored
from wsicomp.store.coding import has_model
from wsicomp.store.container import Container, open_container
from wsicomp.store.floored import IN_JPEGXL, FlooredArrays, improper
from wsicomp.store.manifest import MANIFEST, Manifest, is_chunk
from wsicomp.store.reader import read_header, read_manifest
from wsicomp.store.schema import StoreHeader

__all__ = ["Damage", "verify"]

PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong with a store.

    Parameters
    ----------
    path_in_store
        The file, with forward slashes; the store's own name where the damage is in no single file.
    level, row, col
        The tile, where the damage is known to lie in one; level alone where it spoils a whole shard.
    what
        What is wrong, in a few words.
    """

    path_in_store: str
    level: int | None
    row: int | None
    col: int | None
    what: str


def verify(path: str | Path, *, progress: Callable[[int, int], None] | None = None) -> list[Damage]:
    """Check a store fully; damage is named by tile only where the latents' entropy model, if any, is registered.

    Parameters
    ----------
    path
        The store, a folder or a zip.
    progress
        Called with the number of files and shards checked so far and in all.

    Returns
    -------
    list of Damage
        Empty for a store that is exactly as it was written.

    Raises
    ------
    StoreError
        If there is no store at `path`.
    StoreIncomplete
        If the run that wrote it did not end.
    StoreVersion
        If a newer format wrote it.
    """
    path = Path(path)
    try:
        container = open_container(path)
    except StoreCorrupt as error:
        return [Damage(path.name, None, None, None, str(error))]
    with contextlib.closing(container):
        try:
            manifest = read_manifest(container, str(path))
        except StoreCorrupt:
            return [Damage(MANIFEST, None, None, None, "does not match its own checksum")]
        return Check(path, container, manifest, progress).run()


class Check:
    """One verification under way: the store, what has been found, and how far it has come."""

    def __init__(
        self, path: Path, container: Container, manifest: Manifest, progress: Callable[[int, int], None] | None
    ) -> None:
        self._path = path
        self._container = container
        self._manifest = manifest
        self._progress = progress
        self._steps = 0
        self._files = manifest.differences(container.sizes)
        self._chunk_files = [name for name in manifest.files if is_chunk(name)]

    def run(self) -> list[Damage]:
        """Check files, then tiles, then the container."""
        for name in self._manifest.files:
            if name not in self._files and (reason := self._hash_reason(name)):
                self._files[name] = reason
            self._step()
        found = list(self._tiles())
        named = {damage.path_in_store for damage in found}
        found += [Damage(name, None, None, None, what) for name, what in self._files.items() if name not in named]
        if not found and (what := self._container.damage()):
            found.append(Damage(self._path.name, None, None, None, what))
        return sorted(found, key=lambda d: (d.path_in_store, d.row or 0, d.col or 0))

    def _step(self) -> None:
        self._steps += 1
        if self._progress is not None:
            self._progress(self._steps, len(self._manifest.files) + len(self._chunk_files))

    def _hash_reason(self, name: str) -> str | None:
        size, digest = self._manifest.files[name].bytes, hashlib.sha256()
        try:
            for offset in range(0, size, PIECE_BYTES):
                digest.update(self._container.read(name, offset, min(PIECE_BYTES, size - offset)))
        except (OSError, EOFError) as error:
            return f"cannot be read ({type(error).__name__})"
        return None if digest.hexdigest() == self._manifest.files[name].sha256 else "does not match its checksum"

    def _tiles(self) -> Iterator[Damage]:
        # without sound metadata and masks a tile cannot be told from its neighbour
        if any(name in self._files for name in self._manifest.files if not is_chunk(name)):
            return
        try:
            header = read_header(self._container, str(self._path))
            floored = open_floored(self._container, self._manifest, header, str(self._path))
            arrays = None
            if has_model(header):
                arrays = StoreArrays(self._container, self._manifest, header, str(self._path))
        except StoreCorrupt as error:
            yield Damage("zarr.json", None, None, None, str(error))
            return
        for level in header.levels:
            if floored is not None:
                yield from self._recorded(floored, header, level.index)
            for rows, cols in header.grid(level.index).shards():
                if shard_file(level.index, rows, cols) in self._manifest.files:
                    if arrays is not None:
                        yield from self._shard(arrays, header, level.index, rows, cols)
                    self._step()
                if floored is not None:
                    yield from self._pictures(floored, arrays, level.index, rows, cols)
                    if picture_file(level.index, rows, cols) in self._manifest.files:
                        self._step()

    def _recorded(self, floored: FlooredArrays, header: StoreHeader, level: int) -> Iterator[Damage]:
        if what := improper(header, floored.quality[level], floored.fidelity[level], floored.tissue[level]):
            yield Damage(f"fidelity/{level}", level, None, None, what)

    def _pictures(
        self, floored: FlooredArrays, arrays: StoreArrays | None, level: int, rows: range, cols: range
    ) -> Iterator[Damage]:
        name = picture_file(level, rows, cols)
        bad, in_jpegxl = [], 0
        for row in rows:
            for col in cols:
                wanted = int(floored.quality[level][row, col]) == IN_JPEGXL
                in_jpegxl += wanted
                try:
                    if wanted:
                        floored.picture(level, row, col)
                    elif name in self._manifest.files and floored.stream(level, row, col) is not None:
                        yield Damage(name, level, row, col, "a JPEG XL stream of a tile that has none")
                except CHUNK_DAMAGE as error:
                    if wanted:
                        bad.append(Damage(name, level, row, col, self._files.get(name, one_line(error))))
                if wanted and arrays is not None and has_latent(arrays, level, row, col):
                    latents = shard_file(level, rows, cols)
                    yield Damage(latents, level, row, col, "a latent of a tile that is JPEG XL")
        if len(bad) == in_jpegxl > 1:
            where = f"rows {rows.start}-{rows.stop - 1}, cols {cols.start}-{cols.stop - 1}"
            yield Damage(name, level, None, None, f"{bad[0].what}; all {len(bad)} JPEG XL tiles of {where} are lost")
        else:
            yield from bad

    def _shard(
        self, arrays: StoreArrays, header: StoreHeader, level: int, rows: range, cols: range
    ) -> Iterator[Damage]:
        name = shard_file(level, rows, cols)
        tissue = arrays.tissue[level][rows.start : rows.stop, cols.start : cols.stop]
        tiles = [(row, col) for row in rows for col in cols if tissue[row - rows.start, col - cols.start]]
        bad = []
        for row in rows:
            if not tissue[row - rows.start].any() or readable(arrays, level, range(row, row + 1), cols):
                continue
            bad += [
                (row, col)
                for r, col in tiles
                if r == row and not readable(arrays, level, range(row, row + 1), range(col, col + 1))
            ]
        reason = self._files.get(name, "a chunk does not match its checksum")
        if bad and len(bad) == len(tiles) > 1:
            last_row, last_col = rows.stop - 1, cols.stop - 1
            where = f"rows {rows.start}-{last_row}, cols {cols.start}-{last_col}"
            yield Damage(name, level, None, None, f"{reason}; all {len(bad)} tissue tiles of {where} are lost")
        else:
            for row, col in bad:
                yield Damage(name, level, row, col, reason)


def readable(arrays: StoreArrays, level: int, rows: range, cols: range) -> bool:
    """Whether a rectangle of tiles can be read, every checksum kept."""
    try:
        arrays.block(level, rows, cols)
    except StoreCorrupt:
        return False
    return True


def has_latent(arrays: StoreArrays, level: int, row: int, col: int) -> bool:
    """Whether a tile's latent is there and sound; a damaged one is found elsewhere."""
    try:
        return bool(arrays.block(level, range(row, row + 1), range(col, col + 1)).any())
    except StoreCorrupt:
        return False


def shard_file(level: int, rows: range, cols: range) -> str:
    """Path of a shard's file inside the store."""
    return f"latents/{level}/c/0/{rows.start // SHARD_TILES}/{cols.start // SHARD_TILES}"


def picture_file(level: int, rows: range, cols: range) -> str:
    """Path, inside the store, of the file of a shard's JPEG XL streams."""
    return f"jpegxl/{level}/c/{rows.start // SHARD_TILES}/{cols.start // SHARD_TILES}/0"
