"""Opens a path as a source of tiles; the one way into this room.

    path -> reader process: facts, blocks of cells -> Slide: pyramid, tissue, tiles

What this does not do: it loads no slide library into this process.
"""

from __future__ import annotations

import os

from wsicomp.errors import WsicompError
from wsicomp.slides.process import ReaderProcess
from wsicomp.slides.settings import SourceSettings
from wsicomp.slides.source import Source

__all__ = ["open_source"]


def open_source(path: str | os.PathLike[str], settings: SourceSettings = SourceSettings()) -> Source:  # noqa: B008
    """Open a slide or a picture as a source of tiles; a context manager.

    Parameters
    ----------
    path
        Any file that OpenSlide opens, or a picture: PNG, JPEG or plain TIFF.
    settings
        How it is read.

    Raises
    ------
    SlideError
        If the slide cannot be opened or read, or if the process that tries dies or hangs over it.
    ConfigError
        If the settings do not fit the slide: `mpp` is finer than its own, leaves less than one tile of it, or
        is asked of a slide that does not say its own.
    """
    from wsicomp.slides.slide import Slide

    native = ReaderProcess(path, reader=settings.reader)
    try:
        return Slide(native, settings)
    except WsicompError:
        native.close()
        raise
