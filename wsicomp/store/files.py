"""The files of a store: list them, hash them while making them last, and name what stands beside it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

__all__ = ["hash_and_sync", "list_files", "sibling"]


def sibling(path: Path, suffix: str) -> Path:
    """Path beside another, its name with `suffix` at the end; also for a path such as "." that spells no name."""
    return Path(os.path.abspath(path) + suffix)


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
