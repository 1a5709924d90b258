"""Copies slides from slow storage into a local folder before they are read, the next one while one is encoded.

    slide -> copy (one thread, a slide ahead) -> local copy -> read by whoever asked -> removed

A reader takes a slide in thousands of small pieces, and each is a request to the storage; a copy is one long read.
What this does not do: it does not look whether there is room, and it copies no slide that is more than one file.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from wsicomp.disk import explain
from wsicomp.errors import ConfigError, SlideError

__all__ = ["Stage"]

MANY_FILES = frozenset({".mrxs", ".vms", ".vmu", ".dcm"})
"""Slides with these endings are more than one file; they are read where they are."""


class Stage:
    """Holds copies in a folder of its own inside a local one, and removes it at the end; a context manager.

    Parameters
    ----------
    folder
        Local folder with room for two slides.
    """

    def __init__(self, folder: Path) -> None:
        self._parent = folder
        self._folder = folder
        self._copies: dict[Path, Future[Path]] = {}
        self._copying = ThreadPoolExecutor(1, "stage")

    def __enter__(self) -> Self:
        """Make the folder.

        Raises
        ------
        ConfigError
            If it cannot be made.
        """
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="wsicomp-", dir=self._parent))
        except OSError as error:
            raise ConfigError(f"{self._parent}: slides cannot be staged there: {explain(error)}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._copying.shutdown(cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def ahead(self, slide: Path) -> None:
        """Begin to copy a slide that will be asked for next."""
        if slide.suffix.lower() not in MANY_FILES and slide.is_file() and slide not in self._copies:
            self._copies[slide] = self._copying.submit(self._copy, slide)

    @contextlib.contextmanager
    def local(self, slide: Path) -> Iterator[Path]:
        """Give the path of the slide's copy while the context is open, or the slide itself if it is not one file.

        Raises
        ------
        SlideError
            If it cannot be copied. What is raised inside about the copy is raised about the slide.
        """
        self.ahead(slide)
        if slide not in self._copies:
            yield slide
            return
        try:
            copy = self._copies[slide].result()
        except OSError as error:
            del self._copies[slide]
            raise SlideError(f"{slide}: cannot be copied to {self._parent}: {explain(error)}") from error
        try:
            yield copy
        except SlideError as error:
            raise SlideError(str(error).replace(str(copy), str(slide))) from error
        finally:
            del self._copies[slide]
            shutil.rmtree(copy.parent, ignore_errors=True)

    def _copy(self, slide: Path) -> Path:
        copy = Path(tempfile.mkdtemp(dir=self._folder)) / slide.name  # slides of two folders may share a name
        shutil.copyfile(slide, copy)
        return copy
