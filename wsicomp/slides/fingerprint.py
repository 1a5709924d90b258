"""Computes the fingerprint of a slide's files, which tells two slides apart and costs little at every opening.

    parts of the slide -> size of each, and blocks of it: head, tail, and others evenly between
                       -> SHA-256, over the parts in order of size and content -+
    width and height of level 0 ------------------------------------------------+-> SHA-256 -> 64 hexadecimal digits

A renamed or moved slide keeps its fingerprint, since no name goes into it.

What this does not do: it does not find damage. A byte that changes between two sampled blocks goes unnoticed.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from wsicomp.errors import SlideError

__all__ = ["fingerprint", "parts_of"]

BLOCK_BYTES = 2**16
BLOCKS = 16
"""Blocks that are read of each part: 1 MiB in all. A part that is no larger is read whole."""

INDEX_SUFFIXES = frozenset({".vms", ".vmu"})
INDEX_MAX_BYTES = 2**20
"""An index names the files of a slide, one in a line `key=name`; it is a few kilobytes of text."""


def parts_of(path: str | os.PathLike[str]) -> list[Path]:
    """Files that make up a slide: the named one, and those that its format is known to keep beside it.

    Only the named file of a DICOM series is returned.

    Raises
    ------
    SlideError
        If a file cannot be looked at.
    """
    named = Path(path)
    parts = [named]
    try:
        if named.suffix.lower() == ".mrxs":
            parts += sorted(part for part in named.with_suffix("").rglob("*") if part.is_file())
        elif named.suffix.lower() in INDEX_SUFFIXES:
            with named.open("rb") as file:
                lines = file.read(INDEX_MAX_BYTES).splitlines()
            names = {os.fsdecode(line.partition(b"=")[2].strip()) for line in lines}
            parts += sorted(part for part in named.parent.iterdir() if part.name in names and part.is_file())
    except OSError as error:
        raise SlideError(
            f"{named}: its files cannot be listed ({error.strerror}); check its permissions and its disk"
        ) from error
    return parts


def fingerprint(path: str | os.PathLike[str], width_px: int, height_px: int) -> str:
    """Compute the fingerprint of a slide.

    Parameters
    ----------
    path
        The slide's file.
    width_px, height_px
        Size of its level 0.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    SlideError
        If a file cannot be read.
    """
    whole = hashlib.sha256(f"{width_px} {height_px}\n".encode())
    try:
        for size, digest in sorted(_part(part) for part in parts_of(path)):
            whole.update(f"{size} {digest}\n".encode())
    except OSError as error:
        raise SlideError(
            f"{os.fspath(path)}: cannot be read ({error.strerror}); check its permissions and its disk"
        ) from error
    return whole.hexdigest()


def _part(path: Path) -> tuple[int, str]:
    """Size in bytes of a file, and the SHA-256 of its blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= BLOCKS * BLOCK_BYTES:
            digest.update(file.read(BLOCKS * BLOCK_BYTES))
        else:
            for block in range(BLOCKS):
                file.seek((size - BLOCK_BYTES) * block // (BLOCKS - 1))
                digest.update(file.read(BLOCK_BYTES))
    return size, digest.hexdigest()
