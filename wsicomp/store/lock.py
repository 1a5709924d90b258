"""One writer per store: an advisory lock on a file beside it, freed by the system when its process dies.

The file is removed on release. A process that had opened it just before sees that the name now means another file, or
none, and tries again; so two processes never hold the lock of one store. POSIX only (flock).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from wsicomp.errors import StoreError

__all__ = ["StoreLock"]


class StoreLock:
    """An exclusive lock named after a path.

    Parameters
    ----------
    path
        The file to lock; made when missing.
    store
        How an error message calls the store.
    """

    def __init__(self, path: Path, store: str) -> None:
        self._path = path
        self._store = store
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises
        ------
        StoreError
            If another writer holds it.
        OSError
            If the file cannot be made.
        """
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_named(descriptor):
                    self._descriptor = descriptor
                    return
            except BlockingIOError as error:
                os.close(descriptor)
                raise StoreError(f"{self._store}: another process is writing this store; wait for it to end") from error
            except OSError:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def release(self) -> None:
        """Give the lock back; harmless if it is not held."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = None

    def _is_named(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False
