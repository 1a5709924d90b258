"""Reads one slide file through OpenSlide: safe numbers of its properties, averaged pixels of its levels.

    file -> OpenSlide handle -> RGBA region -> alpha over the background -> mean of square cells -> (h, w, 4) uint8
         -> its own JPEG tiles, where `tiff_tiles` can read them: the same pixels, faster

Coordinates, by prefix: `l0_` pixels of the slide's level 0; without a prefix, pixels of one native level.

An OpenSlide handle that failed once fails for ever, for every thread that shares it; `read_block` therefore asks a
fresh handle before it believes an error, and leaves a healthy one behind.

What this does not do: it never reads associated images, and of the properties it reads only the ones named here, as
numbers or colours. It never repeats OpenSlide's own error texts, because they may quote the file. It does not survive
a file that aborts a library; `wsicomp.slides.process` therefore uses it in a process of its own.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Mapping

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from wsicomp.errors import SlideDamaged, SlideError
from wsicomp.slides.facts import SlideFacts
from wsicomp.slides.fingerprint import fingerprint, parts_of
from wsicomp.slides.icc import anonymous_profile
from wsicomp.slides.jpeg import DamagedJpeg
from wsicomp.slides.resample import cell_means
from wsicomp.slides.settings import Reader
from wsicomp.slides.tiff_tiles import TiffTiles

__all__ = ["NativeSlide", "NotASlide"]

PLAIN_TIFF = frozenset({"aperio", "generic-tiff"})
"""Formats whose levels are plain grids of tiles; other makers' tiles overlap or are placed by metadata."""

TRIED_SIDE_PX = 64
SAME_GREY = 2
"""Grey levels by which two JPEG decoders may differ at a pixel."""

ASSOCIATED_NAMES = ("label", "macro", "thumbnail")
"""OpenSlide's customary names; some formats take others from the file's own text."""


class NotASlide(SlideError):
    """A file of no format that OpenSlide knows."""


def _open(path: str) -> openslide.OpenSlide:
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError:
        raise NotASlide(
            f"{path}: not a slide that OpenSlide can open; give SVS, NDPI, MRXS, DICOM, tiled TIFF or the like, "
            "and if it should be one, copy it again: it may be cut short"
        ) from None
    except openslide.OpenSlideError:
        raise SlideError(f"{path}: OpenSlide cannot open it; it is damaged or cut short: copy it again") from None


def _number(properties: Mapping[str, str], key: str) -> float | None:
    """Return a property as a positive number; None where it is none."""
    try:
        value = float(properties[f"openslide.{key}"])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) and value > 0 else None


def _objective_power(properties: Mapping[str, str]) -> float | None:
    """Return the magnification of the objective, from a plain TIFF in Aperio's notation; None where it is not given."""
    if properties["openslide.vendor"] != "generic-tiff":
        return _number(properties, "objective-power")
    found = re.search(r"\bAppMag = ([0-9]+(?:\.[0-9]+)?)", properties.get("tiff.ImageDescription", ""))
    return float(found[1]) or None if found else None


def _bounds(properties: Mapping[str, str], l0_width: int, l0_height: int) -> tuple[int, int, int, int] | None:
    """Part of level 0 that was scanned; None where the slide does not say, or says all of it."""
    l0_x, l0_y = int(_number(properties, "bounds-x") or 0), int(_number(properties, "bounds-y") or 0)
    width = min(int(_number(properties, "bounds-width") or l0_width), l0_width - l0_x)
    height = min(int(_number(properties, "bounds-height") or l0_height), l0_height - l0_y)
    bounds = l0_x, l0_y, width, height
    return bounds if min(width, height) > 0 and bounds != (0, 0, l0_width, l0_height) else None


def _true_downsample(l0_size: tuple[int, int], size: tuple[int, int], reported: float) -> float:
    """Undo the rounding of level sizes: 46000 x 32914 over 11500 x 8228 reports 4.00012, but pixels are 4 apart."""
    whole = round(reported)
    fits = all(l0 // whole <= own <= -(-l0 // whole) for l0, own in zip(l0_size, size, strict=True))
    return float(whole) if fits else reported


class NativeSlide:
    """An open slide file, as `wsicomp.slides.cells.Native` describes it.

    Parameters
    ----------
    path
        The slide file, as the user gave it; messages repeat it.
    reader
        "openslide", "tiff", or "auto" for the TIFF's own tiles where they can be read and OpenSlide elsewhere.

    Raises
    ------
    SlideError
        If the file cannot be opened, or is to be read as a TIFF and cannot be.
    """

    def __init__(self, path: str, *, reader: Reader = "auto") -> None:
        self.name = path
        self._lock = threading.Lock()
        handle = _open(self.name)
        self._handle: openslide.OpenSlide | None = handle
        try:
            properties = dict(handle.properties)
            level_sizes: tuple[tuple[int, int], ...] = handle.level_dimensions
            # OpenSlide finds a place on a level by this mean of both axes' ratios, cropped edges and all.
            self._reported_downsamples: tuple[float, ...] = handle.level_downsamples
            associated = set(handle.associated_images)
            # The profile's raw bytes travel with every region, an empty one too; `color_profile` serialises them anew.
            profile: bytes | None = handle.read_region((0, 0), 0, (0, 0)).info.get("icc_profile")
        except openslide.OpenSlideError:
            raise SlideError(f"{self.name}: OpenSlide opens it but cannot read it; copy it again") from None
        vendor = properties["openslide.vendor"]
        colour = properties.get("openslide.background-color", "")
        red, green, blue = bytes.fromhex(colour if re.fullmatch("[0-9A-Fa-f]{6}", colour) else "ffffff")
        self._background_rgb = (red, green, blue)
        self._level_sizes = level_sizes
        self._tiles = None if reader == "openslide" or vendor not in PLAIN_TIFF else self._tiff_tiles()
        if reader == "tiff" and self._tiles is None:
            raise SlideError(f"{self.name}: is no TIFF of JPEG tiles that can be read directly; use --reader auto")
        mpp_x, mpp_y = _number(properties, "mpp-x"), _number(properties, "mpp-y")
        bounds = _bounds(properties, *level_sizes[0])
        known = tuple(name for name in ASSOCIATED_NAMES if name in associated)
        self.facts = SlideFacts(
            vendor=vendor,
            level_sizes=level_sizes,
            downsamples=tuple(
                _true_downsample(level_sizes[0], size, reported)
                for size, reported in zip(level_sizes, self._reported_downsamples, strict=True)
            ),
            bounds_px=bounds or (0, 0, *level_sizes[0]),
            has_bounds=bounds is not None,
            mpp=(mpp_x, mpp_y) if mpp_x and mpp_y else None,
            objective_power=_objective_power(properties),
            has_icc_profile=profile is not None,
            icc_profile=anonymous_profile(profile) if profile else None,
            associated_images=known,
            other_associated_images=len(associated) - len(known),
            properties=len(properties),
            # Only the named file of a DICOM series is known.
            source_bytes=None if vendor == "dicom" else sum(part.stat().st_size for part in parts_of(self.name)),
            fingerprint=fingerprint(self.name, *level_sizes[0]),
            encoded_levels=(None,) * len(level_sizes) if self._tiles is None else self._tiles.levels,
        )

    def close(self) -> None:
        """Close the file; a read in another thread ends first."""
        # OpenSlide frees a handle under its readers' feet; dropping the reference closes it after the last of them.
        self._handle = None
        if self._tiles is not None:
            self._tiles.close()

    def _tiff_tiles(self) -> TiffTiles | None:
        # Keeps the levels whose middle is what OpenSlide shows.
        tiles = TiffTiles.open(self.name, self._level_sizes)
        if tiles is None:
            return None
        for level, (width, height) in enumerate(self._level_sizes):
            side = min(TRIED_SIDE_PX, width, height)
            x, y = (width - side) // 2, (height - side) // 2
            try:
                direct = tiles.read(level, x, y, side, side)
                if direct is None:
                    continue
                shown = self._read_openslide(level, x, y, (side, side), f"level {level}")[..., :3]
            except DamagedJpeg:
                continue  # to be met, and named, when that tile is asked for
            except SlideDamaged:
                tiles.leave(level)
                continue
            if np.abs(direct.astype(np.int16) - shown).max() > SAME_GREY:
                tiles.leave(level)
        if any(tiles.levels):
            return tiles
        tiles.close()
        return None

    def read_block(
        self, level: int, x: float, y: float, step: float, rows: range, cols: range, what: str
    ) -> NDArray[np.uint8]:
        """Mean colour of a block of cells, as `Native.read_block` says.

        Raises
        ------
        SlideError
            If the slide is closed.
        SlideDamaged
            If it cannot be read there.
        """
        level_width, level_height = self.facts.level_sizes[level]
        y_edges = np.minimum(y + step * np.arange(rows.start, rows.stop + 1), level_height)
        x_edges = np.minimum(x + step * np.arange(cols.start, cols.stop + 1), level_width)
        left, top = int(x_edges[0]), int(y_edges[0])
        size = math.ceil(x_edges[-1]) - left, math.ceil(y_edges[-1]) - top
        return cell_means(self._read(level, left, top, size, what), x_edges - left, y_edges - top, step)

    def read_encoded(self, level: int, row: int, col: int) -> bytes:
        """Return a tile as a whole JPEG stream, as `Native.read_encoded` says.

        Raises
        ------
        SlideDamaged
            If the tile is missing or damaged.
        """
        what = f"the stream of tile ({row}, {col}) of native level {level}"
        try:
            stream = None if self._tiles is None else self._tiles.stream(level, row, col)
        except DamagedJpeg as error:
            raise self._damaged(what, str(error)) from None
        if stream is None:
            raise self._damaged(what, "it is not there")
        return stream

    def _damaged(self, what: str, why: str) -> SlideDamaged:
        return SlideDamaged(f"{self.name}: {what} cannot be read: {why}; copy the file again from its source")

    def _read(self, level: int, x: int, y: int, size: tuple[int, int], what: str) -> NDArray[np.uint8]:
        """One region of a native level, (h, w, 4) uint8: RGB over the background, and alpha."""
        if self._tiles is not None and self._handle is not None:
            try:
                direct = self._tiles.read(level, x, y, *size)
            except DamagedJpeg as error:
                raise self._damaged(what, str(error)) from None
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
            opaque = Image.new("RGBA", image.size, (*self._background_rgb, 255))
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
            raise self._damaged(what, "the file is damaged there") from None
