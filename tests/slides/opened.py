"""Slides opened in the test's own process, where their insides can be changed and watched."""

from __future__ import annotations

from pathlib import Path

from wsicomp.errors import WsicompError
from wsicomp.slides.local import open_native
from wsicomp.slides.settings import SourceSettings
from wsicomp.slides.slide import Slide

__all__ = ["opened"]


def opened(path: Path, settings: SourceSettings = SourceSettings()) -> Slide:  # noqa: B008
    """Do what `open_source` does, without a reader process."""
    native = open_native(path, reader=settings.reader)
    try:
        return Slide(native, settings)
    except WsicompError:
        native.close()
        raise
