"""One way to write a file so that it is either whole or not there: a sibling, sync, rename, sync of the folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing", "sync_directory"]


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
        sync_directory(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
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
