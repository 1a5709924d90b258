"""Random training crops: organs drawn evenly, stains varied, each batch a pure function of its seed and step.

    image -> crop, mostly where blocks of its JPEG file begin
             or a larger or smaller one, resampled
          -> at times sharper or softer, as another scanner's optics and software would have it
          -> where either changed it, half of the time through a JPEG of its own
          -> rotation, flip
          -> optical density -> random mixing of its channels -> intensity

Stains absorb, so their colours add in optical density (Beer and Lambert; Ruifrok & Johnston, 2001): a random matrix
near the identity turns one laboratory's haematoxylin and eosin into another's, and one that gives eosin's place to DAB
makes an immunostain of them.
Scanners write JPEG, in blocks that a slide's tiles begin with; a crop does so, too, for a codec to learn from.
Because a batch depends on nothing but (seed, step), a run that is resumed sees the batches that it would have seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from skimage.color import rgb_from_hed

from wsicomp.datasets.patches import PatchTable
from wsicomp.errors import DataError

__all__ = ["CropSampler", "immunostain", "restain"]

DEFAULT_STAIN = 0.12
DEFAULT_SCALED = 0.4
DEFAULT_REFOCUSED = 0.25
STAINED = 0.5
"""Share of the crops that are restained; the others keep their laboratory's colours."""

FADED = 0.1
"""Share of the restained crops that are faded towards glass, of which patches of tissue hold too little to learn."""
IMMUNOSTAINED = 0.15
"""Share of the restained crops whose eosin becomes DAB, the brown of immunostains."""
DAB_STRENGTH = (1.0, 2.5)
"""Density of the DAB over that of the eosin."""
DRAWN_AHEAD = 4
"""Batches, each by a thread: a GPU takes them faster than one thread draws."""
MAX_SCALE = 2.0
"""Largest side of a crop that is resampled, over what it becomes; the smallest is one over it."""

ALIGNED = 0.8
"""Share of the crops, of those not resampled, that begin where a block does."""
BLOCK_PX = 16
"""Side of a JPEG's blocks of halved chroma; those of luma, 8, divide it."""
RECODED = 0.5
"""Share of the resampled and refocused crops that become JPEG, as the pixels of every slide were once."""
JPEG_QUALITIES = (60, 95)
REFOCUS = (-0.8, 1.5)
"""How much of what a Gaussian blur takes away is added: a whole one less is the blurred crop, one more its mirror."""
BLUR_PX = (0.5, 1.5)
"""Standard deviation of that blur."""

DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
"""Optical density of each of the 256 grey values; white has none."""


@dataclass(frozen=True)
class CropSampler:
    """Draws flipped, rotated, restained crops from tables held in memory.

    Parameters
    ----------
    images
        For each organ its images, (H, W, 3) uint8.
    crop_px
        Side of a crop; no image may be smaller.
    stain
        Standard deviation of the entries of the mixing matrix about the identity; 0 leaves colours as they are.
    scaled
        Share of the crops that are cut larger or smaller and resampled, as another magnification would show them; what
        is enlarged is as smooth as the slides of a scanner that resolves less than it samples.
    refocused
        Share of the crops that are made sharper or softer, as the optics and the software of another scanner would.
    """

    images: dict[str, list[NDArray[np.uint8]]]
    crop_px: int
    stain: float = DEFAULT_STAIN
    scaled: float = DEFAULT_SCALED
    refocused: float = DEFAULT_REFOCUSED
    organs: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "organs", tuple(sorted(self.images)))
        for organ, images in self.images.items():
            smallest = min(min(image.shape[:2]) for image in images)
            if smallest < self.crop_px:
                raise DataError(f"{organ}: an image of {smallest} px is smaller than the crop of {self.crop_px} px")

    @classmethod
    def load(cls, tables: Sequence[PatchTable], *, crop_px: int, stain: float = DEFAULT_STAIN) -> CropSampler:
        """Read every image of the tables into memory.

        Raises
        ------
        DataError
            If an image cannot be read or is smaller than a crop.
        """
        images: dict[str, list[NDArray[np.uint8]]] = {}
        for table in tables:
            for patch, image in zip(table.patches, table.images(), strict=True):
                images.setdefault(patch.organ, []).append(image)
        return cls(images, crop_px, stain)

    def batch(self, size: int, *, seed: int, step: int) -> NDArray[np.uint8]:
        """Draw the batch of one step, (size, 3, crop_px, crop_px) uint8."""
        rng = np.random.default_rng([seed, step])
        return np.stack([self._crop(rng) for _ in range(size)])

    def batches(self, size: int, *, seed: int, first: int, last: int) -> Iterator[NDArray[np.uint8]]:
        """Batches of the steps from `first` to before `last`, the next few drawn by threads while one is used."""
        with ThreadPoolExecutor(DRAWN_AHEAD, "crops") as pool:
            drawn: deque[Future[NDArray[np.uint8]]] = deque()
            for step in range(first, last + DRAWN_AHEAD):
                if step < last:
                    drawn.append(pool.submit(self.batch, size, seed=seed, step=step))
                if step >= first + DRAWN_AHEAD and drawn:
                    yield drawn.popleft().result()

    def _crop(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        images = self.images[self.organs[rng.integers(len(self.organs))]]
        image = images[rng.integers(len(images))]
        side = self.crop_px
        if rng.random() < self.scaled:
            side = min(round(side * MAX_SCALE ** rng.uniform(-1, 1)), *image.shape[:2])
        step = BLOCK_PX if side == self.crop_px and rng.random() < ALIGNED else 1
        y = step * rng.integers((image.shape[0] - side) // step + 1)
        x = step * rng.integers((image.shape[1] - side) // step + 1)
        crop = image[y : y + side, x : x + side]
        refocused = rng.random() < self.refocused
        if side != self.crop_px or refocused:
            picture = Image.fromarray(np.ascontiguousarray(crop))
            if side != self.crop_px:
                picture = picture.resize((self.crop_px,) * 2, Image.Resampling.LANCZOS)
            if refocused:
                picture = refocus(picture, rng)
            crop = np.asarray(through_jpeg(picture, rng) if rng.random() < RECODED else picture)
        crop = np.rot90(crop, int(rng.integers(4)))
        if rng.integers(2):
            crop = crop[:, ::-1]
        if self.stain and rng.random() < STAINED:
            mixing = np.eye(3) + rng.normal(0, self.stain, (3, 3))
            if rng.random() < IMMUNOSTAINED:
                mixing = immunostain(rng.uniform(*DAB_STRENGTH)) @ mixing
            crop = restain(crop, mixing * rng.uniform(0, 0.5) if rng.random() < FADED else mixing)
        return np.ascontiguousarray(crop.transpose(2, 0, 1))  # (3, crop_px, crop_px)


def stain_basis(counterstain: int) -> NDArray[np.float64]:
    """Optical densities (3, 3) of haematoxylin, of row 1 or 2 of `rgb_from_hed`, and of what is neither."""
    two = rgb_from_hed[[0, counterstain]] / np.linalg.norm(rgb_from_hed[[0, counterstain]], axis=1, keepdims=True)
    neither = np.cross(*two)
    basis: NDArray[np.float64] = np.stack([*two, neither / np.linalg.norm(neither)])
    return basis


FROM_EOSIN, TO_DAB = np.linalg.inv(stain_basis(1)), stain_basis(2)


def immunostain(strength: float) -> NDArray[np.float64]:
    """Mixing (3, 3) that keeps haematoxylin and gives the place of eosin to DAB, so many times as dense."""
    mixing: NDArray[np.float64] = FROM_EOSIN @ np.diag([1, strength, 1]) @ TO_DAB
    return mixing


def refocus(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Sharpen or soften a picture by a random part of what a random Gaussian blur takes away."""
    blurred = image.filter(ImageFilter.GaussianBlur(rng.uniform(*BLUR_PX)))
    return Image.blend(blurred, image, 1 + rng.uniform(*REFOCUS))


def through_jpeg(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Code a picture as JPEG of a random quality, with all of its chroma or a quarter of it, and decode it."""
    stream = BytesIO()
    quality, subsampling = int(rng.integers(*JPEG_QUALITIES, endpoint=True)), int(rng.choice([0, 2]))
    image.save(stream, "JPEG", quality=quality, subsampling=subsampling)
    return Image.open(stream)


def restain(image: NDArray[np.uint8], mixing: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Mix the optical densities of the channels of (H, W, 3) uint8 by a matrix (3, 3); densities stay positive."""
    density = DENSITY[image] @ mixing.astype(np.float32)
    mixed: NDArray[np.uint8] = np.clip(256 * np.exp(-np.maximum(density, 0)) - 0.5, 0, 255).astype(np.uint8)
    return mixed
