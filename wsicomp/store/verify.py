"""Check every byte of a store, and say which file and which tile is damaged.

    every file's size and SHA-256 against the manifest
    -> every latent decoded, its checksum on the way; without its entropy model, the checksum alone
    -> where tiles may be pictures: every JPEG XL stream decoded, each tile in one place alone
    -> where there is a floor: no recorded fidelity below it

Files are hashed in pieces and tiles are read sixteen at a time, so memory does not grow with the store. No network is
needed. Nothing is repaired. Whether the latents are what the slide deserves is not asked here; that needs a decoder.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wsicomp.codec.sealed import unseal
from wsicomp.errors import LatentError, ModelError, StoreCorrupt
from wsicomp.store.arrays import StoreArrays
from wsicomp.store.chunks import ABSENT, latent_file, picture_file, read_index
from wsicomp.store.coding import has_model
from wsicomp.store.container import Container, open_container
from wsicomp.store.manifest import MANIFEST, Manifest, is_chunk
from wsicomp.store.reader import read_header, read_manifest
from wsicomp.store.records import improper
from wsicomp.store.schema import StoreHeader
from wsicomp.store.tiles import IS_PICTURE

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
    """Check a store fully.

    Latents whose entropy model is not registered are checked by their checksums alone, without being decoded.

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
        return [Damage(path.name, None, None, None, str(error).removeprefix(f"{path}: "))]
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
            arrays = StoreArrays(self._container, self._manifest, header, str(self._path))
        except StoreCorrupt as error:
            yield Damage("zarr.json", None, None, None, str(error))
            return
        decodable = False
        with contextlib.suppress(ModelError):  # damaged weights say nothing of the store
            decodable = has_model(header)
        for level in range(len(header.levels)):
            if header.has_pictures:
                yield from self._recorded(arrays, header, level)
            for rows, cols in header.grid(level).shards():
                latents: Latents = Decoded(arrays, level)
                if not decodable:
                    latents = Sealed(self._container, header, level, rows, cols)
                if latent_file(level, rows, cols) in self._manifest.files:
                    yield from self._shard(latents, arrays.tissue[level], level, rows, cols)
                    self._step()
                if header.has_pictures:
                    yield from self._pictures(arrays, latents, level, rows, cols)
                    if picture_file(level, rows, cols) in self._manifest.files:
                        self._step()

    def _recorded(self, arrays: StoreArrays, header: StoreHeader, level: int) -> Iterator[Damage]:
        fidelity = None if header.floor is None else arrays.fidelity[level]
        if what := improper(header, arrays.quality[level], fidelity, arrays.tissue[level]):
            name = "quality" if fidelity is None else "fidelity"
            yield Damage(f"{name}/{level}", level, None, None, what)

    def _pictures(
        self, arrays: StoreArrays, latents: Latents, level: int, rows: range, cols: range
    ) -> Iterator[Damage]:
        name = picture_file(level, rows, cols)
        bad, pictures = [], 0
        for row in rows:
            for col in cols:
                wanted = int(arrays.quality[level][row, col]) == IS_PICTURE
                pictures += wanted
                what = picture_damage(arrays, level, row, col)
                if wanted and what is not None:
                    bad.append(Damage(name, level, row, col, self._files.get(name, what)))
                if not wanted and what is None:
                    yield Damage(name, level, row, col, "a JPEG XL stream of a tile that has none")
                if wanted and latents.holds(row, col):
                    file = latent_file(level, rows, cols)
                    yield Damage(file, level, row, col, "a latent of a tile that is JPEG XL")
        if len(bad) == pictures > 1:
            yield Damage(name, level, None, None, f"{bad[0].what}; all {len(bad)} JPEG XL tiles {within(rows, cols)}")
        else:
            yield from bad

    def _shard(
        self, latents: Latents, tissue: NDArray[np.bool_], level: int, rows: range, cols: range
    ) -> Iterator[Damage]:
        name = latent_file(level, rows, cols)
        tiles = [(row, col) for row in rows for col in cols if tissue[row, col]]
        bad = []
        for row in rows:
            in_row = [place for place in tiles if place[0] == row]
            if in_row and not latents.sound(range(row, row + 1), cols):
                bad += [(r, col) for r, col in in_row if not latents.sound(range(r, r + 1), range(col, col + 1))]
        reason = self._files.get(name, "a chunk does not match its checksum")
        if bad and len(bad) == len(tiles) > 1:
            yield Damage(name, level, None, None, f"{reason}; all {len(bad)} tissue tiles {within(rows, cols)}")
        else:
            for row, col in bad:
                yield Damage(name, level, row, col, reason)


class Latents(Protocol):
    """The latents of one shard, as far as they can be checked."""

    def sound(self, rows: range, cols: range) -> bool:
        """Whether every latent of a rectangle of tiles is as it was written."""

    def holds(self, row: int, col: int) -> bool:
        """Whether a tile has a sound latent that is not all zeros."""


class Decoded:
    """Latents that are checked by decoding them.

    Parameters
    ----------
    arrays
        The arrays of the store, its entropy model at hand.
    level
        The level of the shard.
    """

    def __init__(self, arrays: StoreArrays, level: int) -> None:
        self._arrays = arrays
        self._level = level

    def sound(self, rows: range, cols: range) -> bool:
        """Whether every latent of a rectangle of tiles is as it was written."""
        try:
            self._arrays.block(self._level, rows, cols)
        except StoreCorrupt:
            return False
        return True

    def holds(self, row: int, col: int) -> bool:
        """Whether a tile has a sound latent that is not all zeros."""
        try:
            return bool(self._arrays.block(self._level, range(row, row + 1), range(col, col + 1)).any())
        except StoreCorrupt:
            return False


class Sealed:
    """Entropy-coded latents that are checked by the checksum of each stream, without an entropy model.

    Parameters
    ----------
    container, header
        The store.
    level, rows, cols
        The shard.
    """

    def __init__(self, container: Container, header: StoreHeader, level: int, rows: range, cols: range) -> None:
        self._container = container
        self._name = latent_file(level, rows, cols)
        self._rows, self._cols = rows, cols
        self._index: NDArray[np.uint64] | None = None
        with contextlib.suppress(LatentError, OSError, EOFError, KeyError):
            self._index = read_index(container, self._name, header, level)

    def sound(self, rows: range, cols: range) -> bool:
        """Whether every latent of a rectangle of tiles is as it was written."""
        return all(self._stream(row, col) is not None for row in rows for col in cols)

    def holds(self, row: int, col: int) -> bool:
        """Whether a tile has a sound latent that is not all zeros."""
        return bool(self._stream(row, col))

    def _stream(self, row: int, col: int) -> bytes | None:
        """Body of a tile's stream; empty where it has no chunk, None where it is damaged."""
        if self._index is None:
            return None
        offset, length = (int(value) for value in self._index[row - self._rows.start, col - self._cols.start])
        if (offset, length) == (ABSENT, ABSENT):
            return b""
        try:
            if offset + length > self._container.sizes[self._name]:
                return None
            return unseal(self._container.read(self._name, offset, length))
        except (LatentError, OSError, EOFError):
            return None


def picture_damage(arrays: StoreArrays, level: int, row: int, col: int) -> str | None:
    """Say what is wrong with a tile's picture; None where it has one that is sound."""
    try:
        picture = arrays.picture(level, row, col)
        if picture is None:
            return "its JPEG XL stream is gone"
        picture.pixels()
    except StoreCorrupt:
        return "its JPEG XL stream is damaged"
    return None


def within(rows: range, cols: range) -> str:
    """Say which tiles a shard has lost."""
    return f"of rows {rows.start}-{rows.stop - 1}, cols {cols.start}-{cols.stop - 1} are lost"
