"""One tile of a store, as a reader finds it: glass, a latent, or a picture.

    Glass      nothing is stored; the tile is shown in the glass colour of the header
    Latent     what the codec made of the tile, (C, t, t) with t = tile_size / 2**depth, and the quality of it
    Picture    the pixels themselves, as a JPEG XL stream

Of a tile that sticks out of the image, only the part inside is stored. Encoder and reader must agree on what stands for
the rest, and both ask here:

    part inside, in pixels --stored_size--> rows and columns of the latent that are stored --completed--> whole latent

Nothing is read or written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsicomp.errors import LatentError, StoreCorrupt
from wsicomp.store.quality import to_steps

__all__ = ["IS_PICTURE", "Glass", "Latent", "Picture", "StoredTile", "TileCounts", "completed", "stored_size"]

IS_PICTURE = 255
"""What stands in place of a quality for a tile that is a picture."""


@dataclass(frozen=True)
class Glass:
    """A tile without tissue."""


@dataclass(frozen=True, eq=False)
class Latent:
    """A tile that the codec made smaller.

    Parameters
    ----------
    values
        (C, t, t) in the store's dtype, completed beyond the edge of the image.
    quality
        Quality that it was encoded with; None for a codec without qualities.
    """

    values: NDArray[Any]
    quality: float | None


@dataclass(frozen=True)
class Picture:
    """A tile that is kept as pixels.

    Parameters
    ----------
    stream
        JPEG XL of the whole tile.
    tile_size
        Side of the tile in pixels.
    place
        How a message calls the tile.
    """

    stream: bytes
    tile_size: int
    place: str

    def pixels(self) -> NDArray[np.uint8]:
        """Decode the tile, (tile_size, tile_size, 3) uint8.

        Raises
        ------
        StoreCorrupt
            If the stream is damaged, or is of a picture of another size.
        """
        from wsicomp.store import jpegxl

        try:
            return jpegxl.decode(self.stream, self.tile_size)
        except LatentError as error:
            raise StoreCorrupt(f"{self.place} is damaged ({error}); restore the store or encode the slide again") from (
                error
            )


StoredTile: TypeAlias = Glass | Latent | Picture


@dataclass(frozen=True)
class TileCounts:
    """How many tiles of a store are of each kind.

    Parameters
    ----------
    glass, latents, pictures
        Tiles of the three kinds, over all levels.
    raised
        Latents of a higher quality than the store's.
    """

    glass: int
    latents: int
    pictures: int
    raised: int

    @classmethod
    def of(cls, total: int, tissue: int, quality: float | None, steps: Sequence[NDArray[np.uint8]]) -> TileCounts:
        """Count tiles.

        Parameters
        ----------
        total, tissue, quality
            Tiles, tissue tiles and quality of the store.
        steps
            Quality of each tile in steps, 255 for a picture, level by level; empty where all tissue tiles are latents
            of the store's quality.
        """
        pictures = sum(int((level == IS_PICTURE).sum()) for level in steps)
        raised = sum(int((level > to_steps(quality)).sum()) for level in steps) - pictures
        return cls(total - tissue, tissue - pictures, pictures, raised)


def stored_size(height_px: int, width_px: int, depth: int) -> tuple[int, int]:
    """Return how many rows and columns of a tile's latent are stored, given the part of the tile inside the image."""
    return -(-height_px >> depth), -(-width_px >> depth)


def completed(inside: NDArray[Any], side: int, *, mirrored: bool) -> NDArray[Any]:
    """Bring a latent that was cropped at the image's edge back to its full size.

    Parameters
    ----------
    inside
        (..., h, w), the part that is stored.
    side
        Height and width of a whole latent.
    mirrored
        Whether what is missing is mirrored from the part inside, which spares the border of the picture a seam; else it
        is zeros: what an encoder that predicts symbols from their neighbours took it for.

    Returns
    -------
    ndarray
        (..., side, side); `inside` itself where nothing is missing.
    """
    *_, height, width = inside.shape
    if (height, width) == (side, side):
        return inside
    missing = [(0, 0)] * (inside.ndim - 2) + [(0, side - height), (0, side - width)]
    return np.pad(inside, missing, mode="symmetric") if mirrored else np.pad(inside, missing)
