"""Files that are either the old ones or the new ones, whole, whenever a run ends."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_atomically"]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file: beside its target under a name of its own, synced, renamed, the folder synced.

    Parameters
    ----------
    path
        Target in an existing folder; an old file of that name is replaced.
    content
        All of the new file.

    Raises
    ------
    OSError
        If the folder cannot be written; the old file is then as it was.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder cannot be opened to be synced
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
