"""Decodes the JPEG tiles of a TIFF slide straight from the file, several times faster than OpenSlide does.

    region -> tiles that it touches -> cache, or os.pread -> whole JPEG -> size checked -> decoder -> crop

It reads levels that are tiled, JPEG-compressed, 8-bit and RGB, and of the sizes that OpenSlide reports. What it cannot
read directly, a missing tile too, is answered with None, and the caller reads through OpenSlide, which knows every
maker's exceptions. A tile whose stream is damaged is an error, also where OpenSlide would show something.

What this does not do: it reads no other compression, no strips and no channels apart.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Self

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsicomp.errors import SlideError
from wsicomp.slides.facts import EncodedLevel
from wsicomp.slides.jpeg import DamagedJpeg, decode_jpeg, whole_jpeg

__all__ = ["TiffTiles"]

CACHE_BYTES = 32 * 2**20

MAX_TILE_SIDE_PX = 4096
"""Scanners' tiles are of 240 to 1,024 px; a larger one is left to OpenSlide."""

MAX_STREAM_BYTES = 2**24
"""A stream of the largest tile, badly compressed, has no more."""

TIFF_ERRORS = (tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError, RuntimeError, OSError)
"""What tifffile raises on files that it cannot read; all of it means: ask OpenSlide."""


class TiffTiles:
    """Levels of an open slide that can be read directly. `read` may be called from several threads at once.

    Parameters
    ----------
    path
        The slide file.
    pages
        For each native level the TIFF page that holds it, or None where it is not such a page.
    """

    def __init__(self, path: str, pages: Sequence[tifffile.TiffPage | None]) -> None:
        self._pages = list(pages)
        self._file = os.open(path, os.O_RDONLY)
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[int, int, int], NDArray[np.uint8]] = OrderedDict()
        self._cached_bytes = 0

    @classmethod
    def open(cls, path: str, level_sizes: Sequence[tuple[int, int]]) -> Self | None:
        """Find the pages of a slide's levels, (width, height) each; None where no level can be read directly.

        Raises
        ------
        SlideError
            If a level has more or fewer tiles than its size needs.
        """
        try:
            with tifffile.TiffFile(path) as file:
                found = [_page(path, file, size) for size in level_sizes]
        except TIFF_ERRORS:
            return None
        return cls(path, found) if any(found) else None

    def close(self) -> None:
        """Close the file; a read in another thread returns None."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._file = -1

    def leave(self, level: int) -> None:
        """Stop reading a level directly: each later read of it returns None."""
        self._pages[level] = None

    @property
    def levels(self) -> tuple[EncodedLevel | None, ...]:
        """Grid of each native level's tiles; None for a level that cannot be read directly."""
        return tuple(page and _grid(page) for page in self._pages)

    def stream(self, level: int, row: int, col: int) -> bytes | None:
        """Return one tile as a whole JPEG stream; None where it is missing or the level cannot be read directly.

        Raises
        ------
        DamagedJpeg
            If its bytes are no JPEG.
        """
        page = self._pages[level]
        if page is None:
            return None
        index = row * _grid(page).cols + col
        size = page.databytecounts[index]
        if size > MAX_STREAM_BYTES:
            raise DamagedJpeg(f"the stream is of {size} bytes")
        try:
            data = os.pread(self._file, size, page.dataoffsets[index])
        except OSError:
            return None
        if not size or len(data) != size:
            return None
        return whole_jpeg(data, page.jpegtables, rgb=page.photometric == tifffile.PHOTOMETRIC.RGB)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8] | None:
        """One region of a native level, (height, width, 3) uint8; None where it cannot be read directly.

        Raises
        ------
        DamagedJpeg
            If a tile's stream is damaged.
        """
        page = self._pages[level]
        if page is None or x < 0 or y < 0 or x + width > page.imagewidth or y + height > page.imagelength:
            return None
        region = np.empty((height, width, 3), np.uint8)
        for row in range(y // page.tilelength, -(-(y + height) // page.tilelength)):
            for col in range(x // page.tilewidth, -(-(x + width) // page.tilewidth)):
                tile = self._tile(level, page, row, col)
                if tile is None:
                    return None
                top, left = row * page.tilelength - y, col * page.tilewidth - x
                inside = region[max(top, 0) : top + page.tilelength, max(left, 0) : left + page.tilewidth]
                inside[...] = tile[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]]
        return region

    def _tile(self, level: int, page: tifffile.TiffPage, row: int, col: int) -> NDArray[np.uint8] | None:
        key = level, row, col
        with self._lock:
            cached = self._cache.get(key)
            if cached is not None:
                self._cache.move_to_end(key)
                return cached
        stream = self.stream(level, row, col)
        if stream is None:
            return None
        tile = decode_jpeg(stream, page.tilewidth, page.tilelength)
        with self._lock:
            if key not in self._cache:
                self._cache[key] = tile
                self._cached_bytes += tile.nbytes
            while self._cached_bytes > CACHE_BYTES:
                self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return tile


def _grid(page: tifffile.TiffPage) -> EncodedLevel:
    rows, cols = -(-page.imagelength // page.tilelength), -(-page.imagewidth // page.tilewidth)
    return EncodedLevel(rows, cols, page.tilewidth, page.tilelength)


def _page(path: str, file: tifffile.TiffFile, size: tuple[int, int]) -> tifffile.TiffPage | None:
    # The page of a level, (width, height); its tables are read here, while the file is open.
    for page in file.pages:
        if (
            isinstance(page, tifffile.TiffPage)
            and (page.imagewidth, page.imagelength) == size
            and page.is_tiled
            and page.compression == tifffile.COMPRESSION.JPEG
            and page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
            and page.dtype == np.uint8
            and page.samplesperpixel == 3
            and page.planarconfig == tifffile.PLANARCONFIG.CONTIG
            and max(page.tilewidth, page.tilelength) <= MAX_TILE_SIDE_PX
        ):
            grid = _grid(page)
            tiles = len(page.dataoffsets)
            if not tiles == len(page.databytecounts) == grid.rows * grid.cols:
                # A size or a table is wrong, and then every tile would stand in a wrong place.
                raise SlideError(
                    f"{path}: its level of {size[0]} x {size[1]} pixels has {tiles} tiles and needs "
                    f"{grid.rows * grid.cols}; the file is damaged: copy it again from its source"
                )
            _ = page.jpegtables
            return page
    return None
