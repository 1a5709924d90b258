"""One slide file as OpenSlide shows it: safe numbers out of its properties, averaged pixels out of its levels.

    file -> OpenSlide handle -> RGBA region -> alpha over the background -> mean of square cells -> (h, w, 4) uint8
         -> its own JPEG tiles, where `tiff_tiles` can read them: the same pixels, faster

Coordinates, by prefix: `l0_` pixels of the slide's level 0; without a prefix, pixels of one native level.

An OpenSlide handle that failed once fails for ever, for every thread that shares it; `read_cells` therefore asks a
fresh handle before it believes an error, and leaves a healthy one behind.

What it does not do: it never reads associated images, and of the properties it reads only the ones named here, as
numbers or colours. OpenSlide's own error texts are never repeated, because they may quote the file.
"""

from __future__ import annotations

import math
import os
import re
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from wsicomp.errors import SlideError
from wsicomp.slides.fingerprint import parts_of
from wsicomp.slides.resample import cell_means
from wsicomp.slides.settings import Reader

if TYPE_CHECKING:
    from wsicomp.slides.tiff_tiles import TiffTiles

__all__ = ["READ_SIDE_PX", "NativeSlide", "check_file"]

PLAIN_TIFF = frozenset({"aperio", "generic-tiff"})
"""Formats whose levels are plain grids of tiles; other makers' tiles overlap or are placed by metadata."""

TRIED_SIDE_PX = 64
SAME_GREY = 2
"""Grey levels by which two JPEG decoders may differ at a pixel."""

READ_SIDE_PX = 1024
"""Side of the largest region asked of OpenSlide at once: 1 Mpx, so that memory does not grow with the averaged area."""


def check_file(path: str | os.PathLike[str]) -> None:
    """Refuse what cannot be a slide, before any library sees it.

    Raises
    ------
    SlideError
        If `path` is missing, a folder, empty or not readable.
    """
    name = os.fspath(path)
    if os.path.isdir(name):
        raise SlideError(f"{name}: this is a folder, not a slide; name the slide file in it")
    try:
        with open(name, "rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise SlideError(f"{name}: there is no such file; check the path") from None
    except OSError as error:
        raise SlideError(f"{name}: cannot be read ({error.strerror}); check its permissions and its disk") from None
    if empty:
        raise SlideError(f"{name}: the file is empty; copy it again from its source")


def _open(path: str) -> openslide.OpenSlide:
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError:
        raise SlideError(
            f"{path}: not a slide that OpenSlide can open; give SVS, NDPI, MRXS, DICOM, tiled TIFF or the like, "
            "and if it should be one, copy it again: it may be cut short"
        ) from None
    except openslide.OpenSlideError:
        raise SlideError(f"{path}: OpenSlide cannot open it; it is damaged or cut short: copy it again") from None


def _true_downsample(l0_size: tuple[int, int], size: tuple[int, int], reported: float) -> float:
    """Undo the rounding of level sizes: 46000 x 32914 over 11500 x 8228 reports 4.00012, but pixels are 4 apart."""
    whole = round(reported)
    fits = all(l0 // whole <= own <= -(-l0 // whole) for l0, own in zip(l0_size, size, strict=True))
    return float(whole) if fits else reported


class NativeSlide:
    """An open slide file. `read_cells` may be called from several threads at once.

    Parameters
    ----------
    path
        The slide file, as the user gave it; messages repeat it.
    reader
        "openslide", "tiff", or "auto" for the TIFF's own tiles where they can be read and OpenSlide elsewhere.

    Attributes
    ----------
    name : str
        `path` as text.
    level_sizes : tuple[tuple[int, int], ...]
        Width and height of each native level.
    downsamples : tuple[float, ...]
        Level-0 pixels per pixel of each native level; whole wherever the level's size agrees with that.
    bounds_px : tuple[int, int, int, int]
        x, y, width and height of the part of level 0 that was scanned; all of it where the slide does not say.
    has_bounds : bool
        Whether the slide says so.
    mpp : tuple[float, float] | None
        Micrometres per level-0 pixel, x and y.
    objective_power : float | None
        Magnification of the objective.
    vendor : str
        OpenSlide's key of the format.
    background_rgb : tuple[int, int, int]
        Colour under pixels that were not scanned.
    icc_profile : bytes | None
        Colour profile exactly as the slide holds it.
    property_count, associated_names
        How many properties there are, and what the associated images are called (both may be free text: count, filter).

    Raises
    ------
    SlideError
        If the file cannot be opened, or is to be read as a TIFF and cannot be.
    """

    def __init__(self, path: str | os.PathLike[str], *, reader: Reader = "auto") -> None:
        self.name = os.fspath(path)
        check_file(self.name)
        self._lock = threading.Lock()
        handle = _open(self.name)
        self._handle: openslide.OpenSlide | None = handle
        try:
            properties = handle.properties
            self.level_sizes: tuple[tuple[int, int], ...] = handle.level_dimensions
            # OpenSlide finds a place on a level by this mean of both axes' ratios, cropped edges and all.
            self._reported_downsamples: tuple[float, ...] = handle.level_downsamples
            self.property_count = len(properties)
            self.associated_names: tuple[str, ...] = tuple(handle.associated_images)
            # The profile's raw bytes travel with every region, an empty one too; `color_profile` serialises them anew.
            self.icc_profile: bytes | None = handle.read_region((0, 0), 0, (0, 0)).info.get("icc_profile")
        except openslide.OpenSlideError:
            raise SlideError(f"{self.name}: OpenSlide opens it but cannot read it; copy it again") from None

        self.downsamples = tuple(
            _true_downsample(self.level_sizes[0], size, reported)
            for size, reported in zip(self.level_sizes, self._reported_downsamples, strict=True)
        )

        def number(key: str) -> float | None:
            try:
                value = float(properties[f"openslide.{key}"])
            except (KeyError, ValueError):
                return None
            return value if math.isfinite(value) and value > 0 else None

        mpp_x, mpp_y = number("mpp-x"), number("mpp-y")
        self.mpp = (mpp_x, mpp_y) if mpp_x and mpp_y else None
        self.objective_power = number("objective-power")
        self.vendor: str = properties["openslide.vendor"]
        colour = properties.get("openslide.background-color", "")
        red, green, blue = bytes.fromhex(colour if re.fullmatch("[0-9A-Fa-f]{6}", colour) else "ffffff")
        self.background_rgb = (red, green, blue)
        l0_width, l0_height = self.level_sizes[0]
        l0_x, l0_y = int(number("bounds-x") or 0), int(number("bounds-y") or 0)
        width = min(int(number("bounds-width") or l0_width), l0_width - l0_x)
        height = min(int(number("bounds-height") or l0_height), l0_height - l0_y)
        self.has_bounds = min(width, height) > 0 and (l0_x, l0_y, width, height) != (0, 0, l0_width, l0_height)
        self.bounds_px = (l0_x, l0_y, width, height) if self.has_bounds else (0, 0, l0_width, l0_height)
        self._tiles = None if reader == "openslide" else self._tiff_tiles()
        if reader == "tiff" and self._tiles is None:
            raise SlideError(f"{self.name}: is no TIFF of JPEG tiles that can be read directly; use --reader auto")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; a read in another thread ends first."""
        # OpenSlide frees a handle under its readers' feet; dropping the reference closes it after the last of them.
        self._handle = None
        if self._tiles is not None:
            self._tiles.close()

    def _tiff_tiles(self) -> TiffTiles | None:
        # Only if a look at the middle of every level shows what OpenSlide shows.
        if self.vendor not in PLAIN_TIFF:
            return None
        # It takes a while to load, and is of no use to other slides.
        from wsicomp.slides.tiff_tiles import TiffTiles

        tiles = TiffTiles.open(self.name, self.level_sizes)
        if tiles is None:
            return None
        for level, (width, height) in enumerate(self.level_sizes):
            side = min(TRIED_SIDE_PX, width, height)
            x, y = (width - side) // 2, (height - side) // 2
            direct = tiles.read(level, x, y, side, side)
            if direct is None:
                continue
            try:
                shown = self._read_openslide(level, x, y, (side, side), f"level {level}")[..., :3]
                differs = np.abs(direct.astype(np.int16) - shown).max() > SAME_GREY
            except SlideError:  # damaged there: to be met, and named, when that tile is asked for
                differs = True
            if differs:
                tiles.close()
                return None
        return tiles

    @property
    def source_bytes(self) -> int | None:
        """Bytes on disk; None for a DICOM series, of which only the named file is known."""
        return None if self.vendor == "dicom" else sum(part.stat().st_size for part in parts_of(self.name))

    def level_for(self, downsample: float, tolerance: float) -> int:
        """Coarsest native level that is not coarser than `downsample`, up to a relative `tolerance`."""
        fine = [n for n, native in enumerate(self.downsamples) if native <= downsample * (1 + tolerance)]
        return max(fine, key=lambda n: self.downsamples[n], default=0)

    def read_cells(
        self, level: int, x: float, y: float, step: float, width: int, height: int, what: str
    ) -> NDArray[np.uint8]:
        """Mean colour of each cell of a lattice laid over a native level.

        Parameters
        ----------
        level
            Native level.
        x, y
            Upper left corner of the lattice in pixels of that level, not negative, inside it.
        step
            Side of a cell in pixels of that level, at least 1. A whole `step` at whole `x`, `y` is the fast case.
        width, height
            Cells per row and per column. Cells that stick out of the level average their inside part, and cells that
            lie outside repeat their neighbour.
        what
            What is being read, for the message of an error, such as "level 0 tile (3, 4)".

        Returns
        -------
        (height, width, 4) uint8
            RGB over the background colour, and the share of the cell that was scanned: 0 nothing, 255 all of it.

        Raises
        ------
        SlideError
            If the slide cannot be read there; the message names the path and `what`.
        """
        level_width, level_height = self.level_sizes[level]
        cols = min(width, math.ceil((level_width - x) / step))
        rows = min(height, math.ceil((level_height - y) / step))
        cells = np.empty((rows, cols, 4), np.uint8)
        side = max(int(READ_SIDE_PX / step), 1)
        for row in range(0, rows, side):
            y_edges = np.minimum(y + step * np.arange(row, min(row + side, rows) + 1), level_height)
            for col in range(0, cols, side):
                x_edges = np.minimum(x + step * np.arange(col, min(col + side, cols) + 1), level_width)
                left, top = int(x_edges[0]), int(y_edges[0])
                size = math.ceil(x_edges[-1]) - left, math.ceil(y_edges[-1]) - top
                pixels = self._read(level, left, top, size, what)
                cells[row : row + side, col : col + side] = cell_means(pixels, x_edges - left, y_edges - top, step)
        if (rows, cols) != (height, width):
            cells = np.pad(cells, ((0, height - rows), (0, width - cols), (0, 0)), mode="edge")
        return cells

    def _read(self, level: int, x: int, y: int, size: tuple[int, int], what: str) -> NDArray[np.uint8]:
        """One region of a native level, (h, w, 4) uint8: RGB over the background, and alpha."""
        if self._tiles is not None and self._handle is not None:
            direct = self._tiles.read(level, x, y, *size)
            if direct is not None:
                return np.concatenate([direct, np.full((*direct.shape[:2], 1), 255, np.uint8)], axis=2)
        return self._read_openslide(level, x, y, size, what)

    def _read_openslide(self, level: int, x: int, y: int, size: tuple[int, int], what: str) -> NDArray[np.uint8]:
        reported = self._reported_downsamples[level]
        l0_location = round(x * reported), round(y * reported)
        handle = self._handle
        if handle is None:
            raise SlideError(f"{self.name}: {what} was asked of a slide that is closed; open it again")
        try:
            image = handle.read_region(l0_location, level, size)
        except openslide.OpenSlideError:
            image = self._read_again(handle, l0_location, level, size, what)
        pixels: NDArray[np.uint8] = np.asarray(image)
        alpha = pixels[..., 3:]
        if alpha.min(initial=255) < 255:
            opaque = Image.new("RGBA", image.size, (*self.background_rgb, 255))
            opaque.alpha_composite(image)
            pixels = np.concatenate([np.asarray(opaque)[..., :3], alpha], axis=2)
        return pixels

    def _read_again(
        self, failed: openslide.OpenSlide, l0_location: tuple[int, int], level: int, size: tuple[int, int], what: str
    ) -> Image.Image:
        """Read once more through a handle of its own, since the shared one may have failed in another thread."""
        with self._lock:
            if self._handle is failed:
                self._handle = _open(self.name)
        try:
            return _open(self.name).read_region(l0_location, level, size)
        except openslide.OpenSlideError:
            raise SlideError(
                f"{self.name}: {what} cannot be read; the file is damaged there: copy it again from its source"
            ) from None
