"""A picture in memory as a source of tiles: what the pipeline sees of a slide, with everything about it known."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.data import immunohistochemistry

from wsicomp.errors import SlideError
from wsicomp.geometry import pyramid
from wsicomp.slides.source import SourceInfo, TissueMask

GLASS_RGB = (242, 241, 243)


def picture(width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Real tissue, (height_px, width_px, 3) uint8, repeated as often as it takes."""
    tissue: NDArray[np.uint8] = immunohistochemistry()  # type: ignore[no-untyped-call]
    return np.tile(tissue, (-(-height_px // 512), -(-width_px // 512), 1))[:height_px, :width_px]


class PictureSource:
    """A pyramid over a picture; coarse levels take every fourth pixel.

    Parameters
    ----------
    glass
        Tiles (level, row, col) that the mask calls glass.
    fails_at
        Tile that cannot be read.
    damaged
        Tiles that are said to be marked.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        tile_size: int = 32,
        *,
        glass: frozenset[tuple[int, int, int]] = frozenset(),
        fails_at: tuple[int, int, int] | None = None,
        max_levels: int | None = None,
        icc_profile: bytes | None = None,
        damaged: tuple[tuple[int, int, int], ...] = (),
    ) -> None:
        self.damaged = damaged
        self.name = "picture"
        self.info = SourceInfo((0.5, 0.25), 20.0, "aperio", image.nbytes, icc_profile)
        self.tile_size = tile_size
        self.levels = pyramid(image.shape[1], image.shape[0], tile_size, max_levels)
        self.read: list[tuple[int, int, int]] = []
        self._image = image
        self._glass = glass
        self._fails_at = fails_at
        self._lock = threading.Lock()

    def tissue(self) -> TissueMask:
        masks = []
        for level in self.levels:
            grid = level.grid(self.tile_size)
            mask = np.ones((grid.rows, grid.cols), np.bool_)
            for index, row, col in self._glass:
                if index == level.index:
                    mask[row, col] = False
            masks.append(mask)
        return TissueMask(tuple(masks), GLASS_RGB, {"method": "by hand"})

    def level_image(self, level: int) -> NDArray[np.uint8]:
        """One level's picture, (H, W, 3) uint8."""
        found = self.levels[level]
        step = found.downsample
        return self._image[::step, ::step][: found.height_px, : found.width_px]

    def read_tile(self, level: int, row: int, col: int) -> NDArray[np.uint8]:
        with self._lock:
            self.read.append((level, row, col))
        if (level, row, col) == self._fails_at:
            raise SlideError(f"{self.name}: level {level} tile ({row}, {col}) cannot be read")
        size = self.tile_size
        inside = self.level_image(level)[row * size : (row + 1) * size, col * size : (col + 1) * size]
        padding = ((0, size - inside.shape[0]), (0, size - inside.shape[1]), (0, 0))
        return np.pad(inside, padding, mode="reflect")


def files_of(folder: Path) -> dict[str, bytes]:
    """Content of every file under a folder, by relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
