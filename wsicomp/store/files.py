"""Files that survive a power cut: write one safely, sync a whole tree, list it, and say what an OSError means.

    bytes -> NAME.tmp -> fsync -> rename to NAME -> fsync the folder

A rename is atomic on POSIX file systems, and it lasts once the folder itself is synced. This module knows nothing of
what the files hold.
"""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

__all__ = ["explain", "hash_and_sync", "list_files", "sibling", "sync_folder", "write_file"]

ADVICE = {
    errno.ENOSPC: "the disk is full; free some space or choose another place",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another place",
    errno.EFBIG: "the file system allows no file that large; choose another place",
    errno.EROFS: "the file system is read-only; choose a folder that can be written",
    errno.EACCES: "permission denied; choose a folder that can be written",
    errno.EPERM: "permission denied; choose a folder that can be written",
}


def explain(error: OSError) -> str:
    """Say what went wrong and what to do, in a few words, without the name of any file."""
    number = error.errno
    if number is None:
        return "the file system refused"
    return ADVICE.get(number, os.strerror(number))


def sibling(path: Path, suffix: str) -> Path:
    """Path beside another, its name with `suffix` at the end; also for a path such as "." that spells no name."""
    return Path(os.path.abspath(path) + suffix)


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, and make it last.

    Raises
    ------
    OSError
        If it cannot be written; nothing new is left under `path`.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder last: files created, renamed and removed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hash_and_sync(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file, after making its content last; read in pieces."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def list_files(root: Path) -> dict[str, int]:
    """Path (relative, with forward slashes) and size in bytes of every file under a folder, in sorted order."""
    found: dict[str, int] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            file = Path(folder, name)
            found[file.relative_to(root).as_posix()] = file.stat().st_size
    return dict(sorted(found.items()))
