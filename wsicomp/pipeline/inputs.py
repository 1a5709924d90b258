"""Which files of a folder are encoded: its slides, or, where it holds none, its pictures.

    folder -> slides by the ends of their names
           -> PNG and JPEG pictures, in a folder without slides: a folder of patches
           -> folders in it, if they are asked for, each by the same rule

Pictures beside slides are left alone: they are previews, or parts of a slide of several files.

What this does not do: it opens no file.
"""

from __future__ import annotations

import os
from pathlib import Path

from wsicomp.errors import ConfigError

__all__ = ["slides_in"]

SLIDE_SUFFIXES = frozenset(
    {".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".czi"}
)
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
"""What is taken for a slide or a picture in a folder; one that is named itself may end in anything."""


def slides_in(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Files of a folder that are to be encoded, in the order of their paths.

    Parameters
    ----------
    folder
        Where to look.
    recursive
        Whether to look into the folders in it too; hidden ones and stores are left out.

    Raises
    ------
    ConfigError
        If there are none.
    """
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith(".") and ".zarr" not in name)
        files = [Path(parent, name) for name in sorted(names) if not name.startswith(".")]
        slides = [file for file in files if file.suffix.lower() in SLIDE_SUFFIXES]
        found += slides or [file for file in files if file.suffix.lower() in PICTURE_SUFFIXES]
    if not found:
        hint = "" if recursive else ", or --recursive to look into the folders in it"
        raise ConfigError(f"{folder}: no slide in this folder; give slides, or a folder with slides in it{hint}")
    return found
