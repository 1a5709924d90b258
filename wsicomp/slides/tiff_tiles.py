"""The JPEG tiles of a TIFF slide, decoded straight from the file: several times faster than through OpenSlide.

    region -> tiles that it touches -> cache, or os.pread -> JPEG decoder -> crop

Only where nothing can go wrong: the file's own tiled, JPEG-compressed, 8-bit RGB levels, of the sizes that OpenSlide
reports, and whose pixels agree with OpenSlide's where that is tried. Whatever else is asked, or fails, is answered with
None, and the caller reads through OpenSlide, which knows every maker's exceptions.
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

__all__ = ["TiffTiles"]

CACHE_BYTES = 32 * 2**20

TIFF_ERRORS = (tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError, RuntimeError, OSError)
"""What tifffile and the decoders raise on files that they cannot read; all of it means: ask OpenSlide."""


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
        self._pages = tuple(pages)
        self._file = os.open(path, os.O_RDONLY)
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        self._cached_bytes = 0

    @classmethod
    def open(cls, path: str, level_sizes: Sequence[tuple[int, int]]) -> Self | None:
        """Find the pages of a slide's levels, (width, height) each; None where no level can be read directly."""
        try:
            with tifffile.TiffFile(path) as file:
                found = [_page(file, size) for size in level_sizes]
        except TIFF_ERRORS:
            return None
        return cls(path, found) if any(found) else None

    def close(self) -> None:
        """Let go of the file; a read in another thread ends with None."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._file = -1

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8] | None:
        """One region of a native level, (height, width, 3) uint8; None where it cannot be read directly."""
        page = self._pages[level]
        if page is None or x < 0 or y < 0 or x + width > page.imagewidth or y + height > page.imagelength:
            return None
        region = np.empty((height, width, 3), np.uint8)
        across = -(-page.imagewidth // page.tilewidth)
        for row in range(y // page.tilelength, -(-(y + height) // page.tilelength)):
            for col in range(x // page.tilewidth, -(-(x + width) // page.tilewidth)):
                tile = self._tile(level, page, row * across + col)
                if tile is None:
                    return None
                top, left = row * page.tilelength - y, col * page.tilewidth - x
                inside = region[max(top, 0) : top + page.tilelength, max(left, 0) : left + page.tilewidth]
                inside[...] = tile[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]]
        return region

    def _tile(self, level: int, page: tifffile.TiffPage, index: int) -> NDArray[np.uint8] | None:
        key = level, index
        with self._lock:
            cached = self._cache.get(key)
            if cached is not None:
                self._cache.move_to_end(key)
                return cached
        tile = self._decode(page, index)
        if tile is not None:
            with self._lock:
                if key not in self._cache:
                    self._cache[key] = tile
                    self._cached_bytes += tile.nbytes
                while self._cached_bytes > CACHE_BYTES:
                    self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return tile

    def _decode(self, page: tifffile.TiffPage, index: int) -> NDArray[np.uint8] | None:
        size = page.databytecounts[index]
        try:
            data = os.pread(self._file, size, page.dataoffsets[index])
            if not size or len(data) != size:
                return None
            tile, _, _ = page.decode(data, index, jpegtables=page.jpegtables)
        except TIFF_ERRORS:
            return None
        if tile is None or tile.shape[-3:] != (page.tilelength, page.tilewidth, 3):
            return None
        whole: NDArray[np.uint8] = tile.reshape(page.tilelength, page.tilewidth, 3)
        return whole


def _page(file: tifffile.TiffFile, size: tuple[int, int]) -> tifffile.TiffPage | None:
    # The page of a level, (width, height); its tables are read here, while the file is open.
    for page in file.pages:
        if (
            isinstance(page, tifffile.TiffPage)
            and (page.imagewidth, page.imagelength) == size
            and page.is_tiled
            and page.compression == tifffile.COMPRESSION.JPEG
            and page.dtype == np.uint8
            and page.samplesperpixel == 3
            and page.planarconfig == tifffile.PLANARCONFIG.CONTIG
        ):
            _ = page.decode, page.jpegtables
            return page
    return None
