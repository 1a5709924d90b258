"""Pack a complete store into one uncompressed zip, the same bytes for the same store on every machine.

    NAME.zarr -> checked against its manifest while it is copied -> NAME.zarr.zip

Members are in sorted order with the manifest last, dated 1980, and not compressed, so that a tile of a packed store is
read as fast as of a folder. The archive's comment is the SHA-256 of all that precedes it. The folder is left as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from pathlib import Path

from wsicomp.disk import explain, sync_folder
from wsicomp.errors import ConfigError, StoreCorrupt, StoreError
from wsicomp.store.container import COMMENT_BYTES, PARTIAL, Container, open_container, zip_digest
from wsicomp.store.files import sibling
from wsicomp.store.lock import StoreLock
from wsicomp.store.manifest import MANIFEST, Manifest
from wsicomp.store.place import check_place
from wsicomp.store.reader import StoreReader, read_manifest

__all__ = ["pack"]

DATE = (1980, 1, 1, 0, 0, 0)
PIECE_BYTES = 1 << 20


def pack(store: str | Path, target: str | Path, *, overwrite: bool = False) -> int:
    """Pack the store at `store` into the zip file `target`.

    Parameters
    ----------
    store
        A complete store.
    target
        The zip file to write, by custom `NAME.zarr.zip`; its folder must exist.
    overwrite
        Whether an existing packed store may be replaced.

    Returns
    -------
    int
        Size of the zip file in bytes.

    Raises
    ------
    ConfigError
        If the target exists and may not be replaced, or is not a packed store.
    StoreError
        If the store cannot be read or is damaged, or the target cannot be written; no half-written target is left.
    """
    path = Path(target)
    StoreReader(store).close()
    check_target(path, overwrite)
    if not path.parent.is_dir():
        raise StoreError(f"{path}: its folder does not exist; create {path.parent} first")
    partial = sibling(path, PARTIAL)
    lock = StoreLock(sibling(path, PARTIAL + ".lock"), str(path))
    try:
        lock.acquire()
        try:
            with contextlib.closing(open_container(Path(store))) as container:
                write_zip(partial, container, read_manifest(container, str(store)), str(store))
            os.replace(partial, path)
            sync_folder(path.parent)
        finally:
            partial.unlink(missing_ok=True)
            lock.release()
        return path.stat().st_size
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {explain(error)}") from error


def check_target(path: Path, overwrite: bool) -> None:
    """Refuse to replace what may not be replaced.

    Raises
    ------
    ConfigError
        If the path lies inside a store, or something stands there that may not be replaced or is no packed store.
    """
    check_place(path)
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise ConfigError(f"{path} exists; pass --overwrite to replace it, or choose another output")
    try:
        with zipfile.ZipFile(path) as archive:
            packed = MANIFEST in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        packed = False
    if not packed:
        raise ConfigError(f"{path} exists and is not a packed store, so it is not replaced; move it away")


def write_zip(path: Path, container: Container, manifest: Manifest, store: str) -> None:
    """Copy every file of a store into a new zip and make it last.

    Raises
    ------
    StoreCorrupt
        If a file does not match the manifest.
    OSError
        If the zip cannot be written.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = b"0" * COMMENT_BYTES
        for name in [*sorted(manifest.files), MANIFEST]:
            member = zipfile.ZipInfo(name, DATE)
            member.create_system = 3  # the same bytes on every system
            member.external_attr = 0o644 << 16
            member.file_size = container.sizes[name]
            digest = hashlib.sha256()
            with archive.open(member, "w") as out:
                for offset in range(0, member.file_size, PIECE_BYTES):
                    piece = container.read(name, offset, min(PIECE_BYTES, member.file_size - offset))
                    digest.update(piece)
                    out.write(piece)
            if name != MANIFEST and digest.hexdigest() != manifest.files[name].sha256:
                raise StoreCorrupt(f"{store}: {name} does not match its checksum; restore it or encode the slide again")
    digest_hex, _ = zip_digest(path)
    with open(path, "r+b") as file:
        file.seek(-COMMENT_BYTES, os.SEEK_END)
        file.write(digest_hex.encode("ascii"))
        file.flush()
        os.fsync(file.fileno())
