"""Draws random training crops: sources in set shares, stains varied, each batch a pure function of its seed and step.

    image -> crop, mostly where blocks of its JPEG file begin
             or twice as large, averaged over its area
             or larger or smaller, resampled
          -> at times sharper or softer, as another scanner's optics and software would have it
          -> rotation, flip
          -> optical density -> random mixing of its channels -> intensity
          -> at times a JPEG of its own, whose blocks begin with the crop

Stains absorb, so their colours add in optical density (Beer and Lambert; Ruifrok & Johnston, 2001): a random matrix
near the identity turns one laboratory's haematoxylin and eosin into another's, and one that gives eosin's place to DAB
makes an immunostain of them.
Scanners write JPEG, in blocks that a slide's tiles begin with; a crop does so, too, for a codec to learn from. Many
scanners keep all of the chroma, and some code red, green and blue each by itself, while most collections of patches
have lost three quarters of it (4:2:0). Such a picture averaged to half of its size has full chroma again.
Because a batch depends on nothing but (seed, step), a run that is resumed sees the batches that it would have seen.
This module does not choose which images are trained on: tables come with their splits (`patches`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from skimage.color import rgb_from_hed

from wsicomp.datasets.patches import PatchTable
from wsicomp.errors import ConfigError, DataError

__all__ = ["NO_VARIATION", "CropSampler", "Variation", "immunostain", "restain"]

STAINED = 0.5
"""Share of the crops that are restained; the others keep their laboratory's colours."""

FADED = 0.1
"""Share of the restained crops that are faded towards glass, of which patches of tissue hold too little to learn."""
IMMUNOSTAINED = 0.15
"""Share of the restained crops whose eosin becomes DAB, the brown of immunostains."""
DAB_STRENGTH = (1.0, 2.5)
"""Density of the DAB over that of the eosin."""
DRAWN_AHEAD = 4
"""Batches drawn ahead, each by a thread: a GPU takes them faster than one thread draws."""
MAX_SCALE = 2.0
"""Largest factor by which a crop is made smaller; the largest by which it is made larger is the same."""

ALIGNED = 0.8
"""Share of the crops cut at their own size or twice it that begin where a block does."""
BLOCK_PX = 16
"""Side of a JPEG's blocks of halved chroma; the side of luma's, 8, divides it."""
JPEG_QUALITIES = (25, 95)
JPEG_KINDS = {"RGB": 0.5, "4:4:4": 0.25, "4:2:0": 0.25}
"""Share of each kind of JPEG: red, green and blue coded each by itself, all of the chroma, a quarter of it."""
REFOCUS = (-0.8, 1.5)
"""How much of the detail that a Gaussian blur removes is added; -1 gives the blurred crop."""
BLUR_PX = (0.5, 1.5)
"""Standard deviation of that blur."""

DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
"""Optical density of each of the 256 grey values; white has none."""


@dataclass(frozen=True)
class Variation:
    """Says how much crops differ from the images that they are cut from.

    Parameters
    ----------
    stain
        Standard deviation of the entries of the mixing matrix about the identity; 0 leaves colours as they are.
    scaled
        Share of the crops that are cut larger or smaller and resampled, as another magnification would show them; what
        is enlarged is as smooth as the slides of a scanner that resolves less than it samples.
    halved
        Share of the crops that are cut twice as large, or as large as their image is, and averaged over their area.
    refocused
        Share of the crops that are made sharper or softer, as the optics and the software of another scanner would.
    recoded
        Share of the crops that become JPEG, after everything else, as the pixels of a slide do.
    """

    stain: float = 0.12
    scaled: float = 0.3
    halved: float = 0.15
    refocused: float = 0.25
    recoded: float = 0.35


NO_VARIATION = Variation(0, 0, 0, 0, 0)
"""Crops are pieces of their images, turned or flipped."""


@dataclass(frozen=True)
class CropSampler:
    """Draws random crops from images held in memory.

    Parameters
    ----------
    images
        For each source its images, (H, W, 3) uint8.
    crop_px
        Side of a crop; no image may be smaller.
    variation
        How crops are varied.
    shares
        For some sources the share of the crops that are drawn from each; the others share the rest evenly.
    """

    images: dict[str, list[NDArray[np.uint8]]]
    crop_px: int
    variation: Variation = Variation()
    shares: Mapping[str, float] = field(default_factory=dict)
    sources: tuple[str, ...] = field(init=False)
    chances: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(sorted(self.images)))
        object.__setattr__(self, "chances", _chances(self.sources, self.shares))
        for source, images in self.images.items():
            smallest = min(min(image.shape[:2]) for image in images)
            if smallest < self.crop_px:
                raise DataError(f"{source}: an image of {smallest} px is smaller than the crop of {self.crop_px} px")

    @classmethod
    def load(cls, tables: Sequence[PatchTable], *, crop_px: int) -> CropSampler:
        """Read every image of the tables into memory.

        The organs of a table with a share divide it evenly among them. Those of all other tables are joined, and
        divide the rest evenly.

        Raises
        ------
        DataError
            If an image cannot be read or is smaller than a crop.
        ConfigError
            If the shares are more than the whole, or leave nothing to a table that has none.
        """
        images: dict[str, list[NDArray[np.uint8]]] = {}
        shares: dict[str, float] = {}
        for table in tables:
            names = {
                organ: organ if table.share is None else f"{table.name}: {organ}"
                for organ in sorted({patch.organ for patch in table.patches})
            }
            if table.share is not None:
                for name in names.values():
                    shares[name] = shares.get(name, 0) + table.share / len(names)
            for patch, image in zip(table.patches, table.images(), strict=True):
                images.setdefault(names[patch.organ], []).append(image)
        return cls(images, crop_px, shares=shares)

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
        images = self.images[self.sources[rng.choice(len(self.sources), p=self.chances)]]
        crop = self._cut(images[rng.integers(len(images))], rng)
        varied = self.variation
        if rng.random() < varied.refocused:
            crop = refocus(crop, rng)
        crop = np.rot90(crop, int(rng.integers(4)))
        if rng.integers(2):
            crop = crop[:, ::-1]
        if varied.stain and rng.random() < STAINED:
            mixing = np.eye(3) + rng.normal(0, varied.stain, (3, 3))
            if rng.random() < IMMUNOSTAINED:
                mixing = immunostain(rng.uniform(*DAB_STRENGTH)) @ mixing
            crop = restain(crop, mixing * rng.uniform(0, 0.5) if rng.random() < FADED else mixing)
        if rng.random() < varied.recoded:
            kind = rng.choice(list(JPEG_KINDS), p=list(JPEG_KINDS.values()))
            crop = through_jpeg(crop, str(kind), int(rng.integers(*JPEG_QUALITIES, endpoint=True)))
        return np.ascontiguousarray(crop.transpose(2, 0, 1))  # (3, crop_px, crop_px)

    def _cut(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Cut a crop (crop_px, crop_px, 3) out of an image, of its own size, halved or scaled."""
        side, largest, step, resampling = self.crop_px, min(image.shape[:2]), 1, Image.Resampling.LANCZOS
        size = rng.random()
        if size < self.variation.scaled:
            side = min(round(side * MAX_SCALE ** rng.uniform(-1, 1)), largest)
        else:
            step = BLOCK_PX if rng.random() < ALIGNED else 1
            if size < self.variation.scaled + self.variation.halved:
                side, resampling = min(2 * side, largest), Image.Resampling.BOX
        y = step * rng.integers((image.shape[0] - side) // step + 1)
        x = step * rng.integers((image.shape[1] - side) // step + 1)
        crop = image[y : y + side, x : x + side]
        if side == self.crop_px:
            return crop
        picture = Image.fromarray(np.ascontiguousarray(crop))
        return np.asarray(picture.resize((self.crop_px,) * 2, resampling))


def _chances(sources: Sequence[str], shares: Mapping[str, float]) -> tuple[float, ...]:
    """Chance of each source to be drawn: its share, or an even part of what the shares leave."""
    rest = 1 - sum(shares.values())
    others = len(sources) - len(shares)
    if rest < -1e-9 or (others and rest < 1e-9) or (not others and rest > 1e-9):
        raise ConfigError(
            f"the shares of the data are {1 - rest:g} together; "
            + (
                "leave some for the tables without a share"
                if others
                else "without a table that takes the rest, make it 1"
            )
        )
    return tuple(shares.get(source, rest / max(others, 1)) for source in sources)


def stain_basis(counterstain: int) -> NDArray[np.float64]:
    """Optical densities (3, 3) of haematoxylin, of row 1 or 2 of `rgb_from_hed`, and of what is neither."""
    two = rgb_from_hed[[0, counterstain]] / np.linalg.norm(rgb_from_hed[[0, counterstain]], axis=1, keepdims=True)
    neither = np.cross(*two)
    basis: NDArray[np.float64] = np.stack([*two, neither / np.linalg.norm(neither)])
    return basis


FROM_EOSIN, TO_DAB = np.linalg.inv(stain_basis(1)), stain_basis(2)


def immunostain(strength: float) -> NDArray[np.float64]:
    """Mixing (3, 3) that keeps haematoxylin and replaces eosin by DAB, `strength` times as dense."""
    mixing: NDArray[np.float64] = FROM_EOSIN @ np.diag([1, strength, 1]) @ TO_DAB
    return mixing


def refocus(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Sharpen or soften (H, W, 3) uint8 by a random share of the detail that a random Gaussian blur removes."""
    sharp = Image.fromarray(np.ascontiguousarray(image))
    blurred = sharp.filter(ImageFilter.GaussianBlur(rng.uniform(*BLUR_PX)))
    return np.asarray(Image.blend(blurred, sharp, 1 + rng.uniform(*REFOCUS)))


def through_jpeg(image: NDArray[np.uint8], kind: str, quality: int) -> NDArray[np.uint8]:
    """Code (H, W, 3) uint8 as one of `JPEG_KINDS` at a quality from 1 to 100, and decode it."""
    stream = BytesIO()
    # A stream that holds red, green and blue as they are is marked, so that decoders do not take them for YCbCr.
    colours: dict[str, Any] = {"keep_rgb": True} if kind == "RGB" else {"subsampling": kind}
    Image.fromarray(np.ascontiguousarray(image)).save(stream, "JPEG", quality=quality, **colours)
    return np.asarray(Image.open(stream))


def restain(image: NDArray[np.uint8], mixing: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Mix the optical densities of the channels of (H, W, 3) uint8 by a matrix (3, 3); densities stay positive."""
    density = DENSITY[image] @ mixing.astype(np.float32)
    mixed: NDArray[np.uint8] = np.clip(256 * np.exp(-np.maximum(density, 0)) - 0.5, 0, 255).astype(np.uint8)
    return mixed
