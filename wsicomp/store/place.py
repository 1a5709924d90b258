"""Where a store may stand, and what in a folder is a store's own, so that nothing else is ever damaged or removed.

    path of a new store -> every folder above it, links followed -> a store among them, or a file: refused
    a store that is to be replaced or cleared away -> every file and link in it -> one that no store has: refused

Nothing is written or removed here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from wsicomp.errors import ConfigError
from wsicomp.store.container import is_store_folder
from wsicomp.store.manifest import MANIFEST

__all__ = ["INCOMING", "check_place", "foreign_file"]

INCOMING = ".incoming-"
"""Begins the name of the folder for shards that helpers are writing."""

AT_TOP = re.compile(
    r"zarr\.(json|[0-9a-f]{32}\.partial)|latents|tissue|icc_profile|quality|fidelity|jpegxl|damaged"
    rf"|{re.escape(MANIFEST)}|\.manifest\.partial-.*|{re.escape(INCOMING)}.*"
)
"""Names at the top of a store or of a partial one."""

BELOW = re.compile(r"zarr\.(json|[0-9a-f]{32}\.partial)|c|\d+(\.[0-9a-f]{32}\.partial)?|[0-9a-f]{32}")
"""Names further down: metadata and chunks, also half-written ones, and shards of helpers on their way."""


def check_place(path: Path) -> None:
    """Refuse a path at which a new store would damage another one, or cannot stand.

    Raises
    ------
    ConfigError
        If the path lies inside a store, also through links, or a folder above it is a file.
    """
    for folder in Path(os.path.realpath(path)).parents:
        if is_store_folder(folder):
            raise ConfigError(f"{path}: lies inside the store {folder}; choose a folder outside it")
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{path}: {folder} is a file where a folder is needed; give another output")


def foreign_file(store: Path) -> str | None:
    """Name a file, a link or a folder inside a store's folder that is no part of a store; None where there is none."""
    for folder, folders, files in os.walk(store):
        above = Path(folder).relative_to(store)
        own = BELOW if above.parts else AT_TOP
        for name in sorted([*folders, *files]):
            if not own.fullmatch(name) or Path(folder, name).is_symlink():
                return (above / name).as_posix()
    return None
