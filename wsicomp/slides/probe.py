"""Find out in a child process whether a slide can be opened, since a damaged one can abort the process that tries.

    probe(path) -> python -m wsicomp.slides.probe PATH -> opens it, reads one small region of the coarsest level
                <- exit 0: sound    exit 3 and one line on stdout: SlideError    anything else: it died

What it does not do: it does not read every tile; a slide that passes may still be damaged further in.
"""

from __future__ import annotations

import os
import subprocess
import sys

from wsicomp.errors import SlideError
from wsicomp.slides.native import NativeSlide, check_file

__all__ = ["probe"]

PROBE_SIDE_PX = 64


def probe(path: str | os.PathLike[str], timeout_s: float = 60) -> None:
    """Return if a child process opens the slide and reads from it.

    Parameters
    ----------
    path
        The slide file.
    timeout_s
        Seconds after which a child that does not answer is given up.

    Raises
    ------
    SlideError
        If the slide cannot be opened or read, or if the child dies or hangs over it.
    """
    check_file(path)
    name = os.fspath(path)
    try:
        child = subprocess.run(  # noqa: S603 - our own interpreter and module; the path is no shell text
            [sys.executable, "-m", "wsicomp.slides.probe", name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries complain there, in words that may quote the file
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SlideError(
            f"{name}: does not open within {timeout_s:g} s; check its storage, or copy it to a local disk"
        ) from None
    if child.returncode == SlideError.exit_code:
        raise SlideError(os.fsdecode(child.stdout).strip())
    if child.returncode != 0:
        raise SlideError(f"{name}: the process that opened it died; the file is damaged: copy it again from its source")


def _open_and_read(path: str) -> int:
    try:
        with NativeSlide(path, reader="openslide") as slide:
            level = len(slide.level_sizes) - 1
            width, height = slide.level_sizes[level]
            side = min(PROBE_SIDE_PX, width, height)
            slide.read_cells(level, (width - side) // 2, (height - side) // 2, 1, side, side, "its middle")
    except SlideError as error:
        sys.stdout.buffer.write(os.fsencode(str(error)))
        return SlideError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_open_and_read(sys.argv[1]))
