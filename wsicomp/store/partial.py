"""Take away what is left of a store that is not whole, though other processes may still write into it.

What this does not do: it does not ask whether a folder is a store's own; `place` does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from wsicomp.store.place import INCOMING

__all__ = ["remove_partial", "turn_helpers_away"]

DISCARD_TRIES = 3
"""A helper that was just turned away may have made an empty folder meanwhile."""


def turn_helpers_away(partial: Path) -> None:
    """Take away the folder that every file of a helper comes through, in one step."""
    for incoming in partial.glob(INCOMING + "*"):
        gone = partial / f"{INCOMING}gone"
        os.rename(incoming, gone)
        shutil.rmtree(gone)


def remove_partial(folder: Path, *, ignore_errors: bool = False) -> None:
    """Remove a store that is not whole, or what is left of one, though helpers of it may still be at work."""
    with contextlib.suppress(OSError):
        turn_helpers_away(folder)
    for _ in range(DISCARD_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
    if not ignore_errors and os.path.lexists(folder):
        shutil.rmtree(folder)
