"""The bytes of a store's files, whether it is a folder or one uncompressed zip.

    NAME.zarr       a folder of files
    NAME.zarr.zip   the same files as stored (not compressed) members, the manifest last; the archive's comment is the
                    SHA-256 of all that precedes it, so that damage between the members shows too

Both give any range of any file without reading the rest, from any thread. Nothing is checked here against the manifest.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Protocol

from wsicomp.disk import explain
from wsicomp.errors import StoreCorrupt, StoreError, StoreIncomplete
from wsicomp.store.files import list_files, sibling
from wsicomp.store.manifest import MANIFEST, Manifest

__all__ = ["PARTIAL", "REPLACED", "Container", "is_store_folder", "open_container", "zip_digest"]

PARTIAL = ".partial"
"""Ends the name of a store that is still being written."""

REPLACED = ".replaced"
"""Ends the name of a store that a newer one is about to take the place of."""

COMMENT_BYTES = 64
LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Signature, then the lengths of name and extra field, of a zip member's local header."""


class Container(Protocol):
    """Files by relative path. `read` may be called from several threads."""

    sizes: dict[str, int]
    total_bytes: int

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes of a file from `offset`.

        Raises
        ------
        EOFError
            If the file ends before.
        OSError
            If it cannot be read.
        """

    def damage(self) -> str | None:
        """Check the container itself, beside its files: what is wrong with it, or None."""

    def close(self) -> None:
        """Free the file handles."""


class Folder:
    """A store as a folder of files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.sizes = list_files(root)
        self.total_bytes = sum(self.sizes.values())

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes of a file from `offset`."""
        with open(self._root / name, "rb", buffering=0) as file:
            return read_exactly(file.fileno(), offset, length)

    def damage(self) -> str | None:
        """Nothing: a folder has no bytes of its own."""
        return None

    def close(self) -> None:
        """Nothing is held open."""


class Zip:
    """A store as one zip file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            comment = archive.comment
        self.sizes = {member.filename: member.file_size for member in members}
        if MANIFEST in self.sizes and len(comment) != COMMENT_BYTES:
            raise zipfile.BadZipFile("it was cut short, or another program packed it")
        if len(self.sizes) != len(members):
            raise zipfile.BadZipFile("a name occurs twice")
        if any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members):
            raise zipfile.BadZipFile("a member is compressed or encrypted")
        self.total_bytes = path.stat().st_size
        self._headers = {member.filename: member.header_offset for member in members}
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes of a member from `offset`."""
        if name not in self._headers:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        header = self._headers[name]
        signature, name_bytes, extra_bytes = LOCAL_HEADER.unpack(
            read_exactly(self._descriptor, header, LOCAL_HEADER.size)
        )
        if signature != b"PK\x03\x04":
            raise EOFError("the zip's directory points at no member")
        return read_exactly(self._descriptor, header + LOCAL_HEADER.size + name_bytes + extra_bytes + offset, length)

    def damage(self) -> str | None:
        """Whether the archive differs from the digest in its comment."""
        digest, comment = zip_digest(self._path)
        return None if digest == comment else "the zip file does not match the digest in its comment"

    def close(self) -> None:
        """Close the archive."""
        os.close(self._descriptor)


def open_container(path: Path) -> Container:
    """Open a store's files.

    Raises
    ------
    StoreError
        If there is no store at `path`, or it cannot be read.
    StoreIncomplete
        If the run that wrote it did not end.
    StoreCorrupt
        If it is a zip file that cannot be listed.
    """
    partial = sibling(path, PARTIAL)
    if os.path.abspath(path).endswith(PARTIAL) or (partial.exists() and not path.exists()):
        raise StoreIncomplete(
            f"{path}: this store is not finished: {path.name if path.exists() else partial.name} is what a run that was"
            " killed left, or one that still goes on; encode the slide again"
        )
    replaced = sibling(path, REPLACED)
    if replaced.exists() and not path.exists():
        raise StoreIncomplete(
            f"{path}: a run was killed as it replaced this store; the old one is complete at {replaced.name}:"
            " rename it back, or encode the slide again"
        )
    try:
        container: Container
        if path.is_dir():
            container = Folder(path)
        elif path.is_file() and (path.suffix == ".zip" or zipfile.is_zipfile(path)):
            container = Zip(path)
        else:
            what = "not a latent store" if path.exists() else "no such store"
            raise StoreError(f"{path}: {what}; expected a folder NAME.zarr of 'wsicomp encode', or its NAME.zarr.zip")
        if MANIFEST in container.sizes:
            return container
        with contextlib.closing(container):
            if looks_like_store(container):
                raise StoreIncomplete(
                    f"{path}: this store has no {MANIFEST}: the run that wrote it did not end, or the file was deleted;"
                    " encode the slide again"
                )
            raise StoreError(
                f"{path}: not a latent store: neither {MANIFEST} nor wsicomp attributes in zarr.json;"
                " expected a folder NAME.zarr of 'wsicomp encode'"
            )
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {explain(error)}") from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OverflowError) as error:
        raise StoreCorrupt(
            f"{path}: the zip file is damaged ({error}); restore it or encode the slide again"
        ) from error


def is_store_folder(path: Path) -> bool:
    """Whether a path is a real folder (not a link) that wsicomp wrote, whole or damaged."""
    if path.is_symlink() or not path.is_dir():
        return False
    with contextlib.suppress(OSError, StoreCorrupt):
        Manifest.from_bytes((path / MANIFEST).read_bytes(), str(path))
        return True
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        return "wsicomp" in json.loads((path / "zarr.json").read_bytes()).get("attributes", {})
    return False


def looks_like_store(container: Container) -> bool:
    """Whether files without a manifest are a latent store all the same; an unreadable zarr.json counts as one."""
    if "zarr.json" not in container.sizes:
        return False
    try:
        record = json.loads(container.read("zarr.json", 0, container.sizes["zarr.json"]))
        return "wsicomp" in record.get("attributes", {})
    except (ValueError, AttributeError, TypeError, EOFError, OSError):
        return True


def zip_digest(path: Path) -> tuple[str, str]:
    """SHA-256 of a zip file up to its 64-character comment, and that comment; read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        left = max(path.stat().st_size - COMMENT_BYTES, 0)
        while left and (piece := file.read(min(left, 1 << 20))):
            digest.update(piece)
            left -= len(piece)
        return digest.hexdigest(), file.read().decode("ascii", "replace")


def read_exactly(descriptor: int, offset: int, length: int) -> bytes:
    """Read a range of an open file; EOFError if the file ends before."""
    data = os.pread(descriptor, length, offset)
    while len(data) < length:
        piece = os.pread(descriptor, length - len(data), offset + len(data))
        if not piece:
            raise EOFError(f"the file ends {length - len(data)} bytes early")
        data += piece
    return data
