"""Opens a slide or a picture in this very process.

    file -> PNG or JPEG by its first bytes -> picture
         -> OpenSlide                      -> slide
         -> TIFF that OpenSlide refuses    -> picture

What this does not do: it does not survive a file that aborts a library; `wsicomp.slides.process` does.
"""

from __future__ import annotations

import os

from wsicomp.errors import SlideError
from wsicomp.slides.cells import Native
from wsicomp.slides.native import NativeSlide, NotASlide
from wsicomp.slides.picture import NativePicture
from wsicomp.slides.settings import Reader

__all__ = ["open_native"]

PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_native(path: str | os.PathLike[str], *, reader: Reader = "auto") -> Native:
    """Open a file with whatever reads it.

    Parameters
    ----------
    path
        The file, as the user gave it; messages repeat it.
    reader
        How a slide is read; a picture has one way only.

    Raises
    ------
    SlideError
        If `path` is missing, a folder, empty or not readable, or no slide and no picture.
    """
    name = os.fspath(path)
    if os.path.isdir(name):
        raise SlideError(f"{name}: this is a folder, not a slide; name the slide file in it")
    try:
        with open(name, "rb") as file:
            head = file.read(8)
    except FileNotFoundError:
        raise SlideError(f"{name}: there is no such file; check the path") from None
    except OSError as error:
        raise SlideError(f"{name}: cannot be read ({error.strerror}); check its permissions and its disk") from None
    if not head:
        raise SlideError(f"{name}: the file is empty; copy it again from its source")
    if head.startswith(PICTURES):
        return NativePicture(name)
    try:
        return NativeSlide(name, reader=reader)
    except NotASlide:
        if not head.startswith(TIFFS):
            raise
    return NativePicture(name)
