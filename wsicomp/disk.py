"""Files that are either whole or not there, and what it means when a disk refuses.

    sibling -> write -> fsync -> rename -> fsync of the folder

A rename is atomic on POSIX file systems, and it lasts once the folder itself is synced.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["explain", "folder_for", "replacing", "sync_folder", "write_file"]

ADVICE = {
    errno.ENOSPC: "the disk is full; free some space or choose another place",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another place",
    errno.EFBIG: "the file system allows no file that large; choose another place",
    errno.EROFS: "the file system is read-only; choose a folder that can be written",
    errno.EACCES: "permission denied; choose a folder that can be written",
    errno.EPERM: "permission denied; choose a folder that can be written",
    errno.ENOENT: "there is no such folder; create it first",
}


def explain(error: OSError) -> str:
    """Say what went wrong and what to do, in a few words, without the name of any file."""
    number = error.errno
    if number is None:
        return "the file system refused"
    return ADVICE.get(number, f"{os.strerror(number)}; check the disk")


@contextmanager
def folder_for(path: Path) -> Iterator[None]:
    """Make the folder of a file that is to be written; on any error the folders made here go again where empty.

    Raises
    ------
    OSError
        As the file system raises it.
    """
    missing = [folder for folder in path.parents if not folder.exists()]  # the innermost first
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in missing:
            with suppress(OSError):  # another process may have made it too, and written something
                folder.rmdir()
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a sibling to write; on success it takes the name `path`, on any error it is removed.

    The sibling keeps the suffix of `path`, because libraries choose a format by it.

    Raises
    ------
    OSError
        As the file system raises it.
    """
    partial = path.with_name(f".{path.stem}.partial-{os.getpid()}{path.suffix}")
    try:
        yield partial
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())
        partial.chmod(0o666 & ~_umask())  # some writers make files that only their owner can read
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_file(path: Path, data: bytes) -> None:
    """Write the whole of a file, in place of an older one.

    Raises
    ------
    OSError
        If it cannot be written; the older file is then as it was.
    """
    with replacing(path) as partial:
        partial.write_bytes(data)


def sync_folder(path: Path) -> None:
    """Bring the entries of a folder to the disk, so that a rename outlives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    # The mask can only be read by setting it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
