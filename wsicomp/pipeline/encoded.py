"""What an encoding made, and what a user should know of it.

finished store -> header, bytes, counts of tiles, sample of tiles -> Encoded -> a line for people, a record for scripts
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from wsicomp.store.schema import StoreHeader

if TYPE_CHECKING:
    from wsicomp.pipeline.fidelity import Fidelity

__all__ = ["Encoded", "doubts", "marks"]

NAMED = 4
"""Damaged tiles that a warning names; the record names all."""


@dataclass(frozen=True)
class Encoded:
    """What an encoding made, in tiles, bytes and seconds.

    Parameters
    ----------
    quality
        Quality level of the codec; None for a codec without them.
    pixels
        Pixels of the pyramid's base; bits per pixel are counted on these, whatever share of them is glass.
    tiles, tissue_tiles
        Tiles of all levels, and those that were coded.
    raised_tiles, jpegxl_tiles
        Tiles that a floor made have a higher quality than the one asked for, and those that became JPEG XL; 0 without.
    fidelity
        What a sample of tiles says; None where none was taken.
    damaged_tiles
        Level, row and column of each tile that could not be read and is a plain marked one in the store.
    warnings
        What a user should know of the slide although it is no error, one line each.
    """

    store: Path
    depth: int
    quality: float | None
    pixels: int
    source_bytes: int | None
    store_bytes: int
    tiles: int
    tissue_tiles: int
    seconds: float
    raised_tiles: int = 0
    jpegxl_tiles: int = 0
    fidelity: Fidelity | None = None
    damaged_tiles: tuple[tuple[int, int, int], ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def of_store(cls, store: Path, header: StoreHeader, store_bytes: int, **known: Any) -> Self:
        """Describe a store by its header and its size; what else is known is given by name."""
        base = header.levels[0]
        facts: dict[str, Any] = {
            "store": store,
            "depth": header.depth,
            "quality": header.quality,
            "pixels": base.width_px * base.height_px,
            "source_bytes": header.source_bytes,
            "store_bytes": store_bytes,
            "tiles": header.total_tiles,
            "tissue_tiles": header.tissue_tiles,
            "seconds": 0.0,
        }
        return cls(**facts | known)

    @property
    def bits_per_pixel(self) -> float:
        """Real bits on disk, with headers, index and metadata, per pixel of the base."""
        return 8 * self.store_bytes / self.pixels

    @property
    def ratio_to_source(self) -> float | None:
        """Bytes of the store over bytes of the source; None where the source is not a file."""
        return self.store_bytes / self.source_bytes if self.source_bytes else None


def doubts(header: StoreHeader) -> Iterator[str]:
    """Say what a user should know of a store although it was made."""
    if header.mpp is None:
        yield "does not say its micrometres per pixel; encoded in pixels"
    if not header.tissue_tiles:
        yield "no tile holds tissue, so all are kept as plain glass; lower --tissue-threshold"


def marks(damaged: Sequence[tuple[int, int, int]]) -> Iterator[str]:
    """Say which tiles the slide could not give, if there are any."""
    if damaged:
        named = ", ".join(f"level {level} tile ({row}, {col})" for level, row, col in damaged[:NAMED])
        more = f" and {len(damaged) - NAMED} more" if len(damaged) > NAMED else ""
        yield f"{len(damaged)} tiles cannot be read and are marked: {named}{more}; copy the slide again"
