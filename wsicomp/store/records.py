"""What a store keeps of each tile beside its latent, where some tiles are pictures and qualities may differ.

    quality/LEVEL    quality of the tile's latent in steps of `quality`; 255: the tile is in `jpegxl`; 0 on glass
    jpegxl/LEVEL     4 bytes little-endian length, the JPEG XL stream, zeros; a chunk is a tile
    fidelity/LEVEL   PSNR in dB (inf where lossless) and MS-SSIM of the pixels that a reader gets; NaN on glass;
                     only where a floor was promised

A tissue tile is in exactly one of `latents` and `jpegxl`. zstd takes the zeros behind a stream for some 20 to 80 bytes.
A stream has room for more than the tile's raw bytes, which noise needs: lossless JPEG XL adds up to 15 % to it, and up
to 600 bytes to tiles of a few pixels. Nothing is measured here: the fidelity is what the encoder found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from wsicomp.errors import LatentError, StoreError
from wsicomp.geometry import SHARD_TILES
from wsicomp.store.coding import zstd
from wsicomp.store.quality import HIGHEST_QUALITY, to_steps
from wsicomp.store.schema import StoreHeader
from wsicomp.store.tiles import IS_PICTURE

__all__ = ["RecordWriter", "ShardRecord", "capacity", "improper", "stream_in"]

LENGTH_BYTES = 4


def capacity(tile_size: int) -> int:
    """Return the bytes of a chunk of `jpegxl`, its length field included."""
    return 4 * tile_size**2 + 1024


def stream_in(chunk: NDArray[np.uint8]) -> bytes | None:
    """Return the JPEG XL stream in a chunk (capacity,) uint8; None where there is none.

    Raises
    ------
    LatentError
        If its length cannot be.
    """
    length = int.from_bytes(chunk[:LENGTH_BYTES].tobytes(), "little")
    if length > len(chunk) - LENGTH_BYTES or chunk[LENGTH_BYTES + length :].any():
        raise LatentError("the length of a JPEG XL stream is not its own")
    return chunk[LENGTH_BYTES : LENGTH_BYTES + length].tobytes() if length else None


@dataclass(frozen=True)
class ShardRecord:
    """What is stored beside the latents of one shard of r x c tiles.

    Parameters
    ----------
    quality
        (r, c) uint8: quality in steps, 255 for a tile in `streams`, 0 on glass.
    fidelity
        (r, c, 2) float32: PSNR in dB and MS-SSIM; NaN on glass. It is kept only where a floor was promised.
    streams
        JPEG XL by row and column of the level.
    """

    quality: NDArray[np.uint8]
    fidelity: NDArray[np.float32]
    streams: dict[tuple[int, int], bytes] = field(default_factory=dict)

    @classmethod
    def of_glass(cls, rows: range, cols: range) -> ShardRecord:
        """Make the record of a shard without tissue, to be filled in."""
        shape = len(rows), len(cols)
        return cls(np.zeros(shape, np.uint8), np.full((*shape, 2), np.nan, np.float32))


class RecordWriter:
    """Writes the pictures of a new store shard by shard, and holds what the store's writer writes whole at the end.

    Parameters
    ----------
    root
        Group of the store, open for writing.
    header
        Its header.

    Attributes
    ----------
    quality, fidelity
        What is known so far, one array for each level.
    """

    def __init__(self, root: zarr.Group, header: StoreHeader) -> None:
        self._header = header
        self._guard = Lock()
        grids = [header.grid(level.index) for level in header.levels]
        self.quality = [np.zeros((grid.rows, grid.cols), np.uint8) for grid in grids]
        self.fidelity = [np.full((grid.rows, grid.cols, 2), np.nan, np.float32) for grid in grids]
        for name in ("quality", "jpegxl") if header.floor is None else ("quality", "fidelity", "jpegxl"):
            root.create_group(name)
        self._jpegxl = [
            root.create_array(
                f"jpegxl/{level}",
                shape=(grid.rows, grid.cols, capacity(header.tile_size)),
                dtype="uint8",
                chunks=(1, 1, capacity(header.tile_size)),
                shards=(min(SHARD_TILES, grid.rows), min(SHARD_TILES, grid.cols), capacity(header.tile_size)),
                compressors=zstd(),
                fill_value=0,
                dimension_names=("y", "x", "byte"),
                config={"write_empty_chunks": False},
            )
            for level, grid in enumerate(grids)
        ]

    def write(
        self, level: int, rows: range, cols: range, part: ShardRecord, block: NDArray[Any], tissue: NDArray[np.bool_]
    ) -> None:
        """Write the pictures of one shard, and keep its record.

        Parameters
        ----------
        block
            (C, h, w) latents of the same shard.
        tissue
            (rows, cols) bool, mask of the whole level.

        Raises
        ------
        ValueError
            If a tissue tile is not in exactly one of the block and the streams, or it is below the floor.
        StoreError
            If a stream is too long for its chunk.
        """
        header = self._header
        mask, step = tissue[rows.start : rows.stop, cols.start : cols.stop], header.chunk_px
        if (part.quality.shape, part.fidelity.shape) != (mask.shape, (*mask.shape, 2)):
            raise ValueError(f"a shard of {mask.shape} tiles has quality {part.quality.shape}, {part.fidelity.shape}")
        pictures = {(rows[r], cols[c]) for r, c in np.argwhere(part.quality == IS_PICTURE)}
        if pictures != part.streams.keys():
            raise ValueError(f"level {level}: its JPEG XL streams are not those of the tiles of quality {IS_PICTURE}")
        if what := improper(header, part.quality, part.fidelity, mask):
            raise ValueError(f"level {level}: {what}")
        for row, col in pictures:
            y, x = (row - rows.start) * step, (col - cols.start) * step
            if block[:, y : y + step, x : x + step].any():
                raise ValueError(f"tile {row}, {col} of level {level} has a latent and a JPEG XL stream")
        if part.streams:
            room = capacity(header.tile_size) - LENGTH_BYTES
            # Only the pages that hold a stream are ever real memory.
            chunks = np.zeros((*mask.shape, capacity(header.tile_size)), np.uint8)
            for (row, col), stream in part.streams.items():
                if len(stream) > room:
                    raise StoreError(
                        f"level {level}, tile row {row}, col {col}: its JPEG XL stream of {len(stream)} bytes is longer"
                        f" than the {room} that a tile may take; encode with smaller tiles, or without a floor"
                    )
                coded = len(stream).to_bytes(LENGTH_BYTES, "little") + stream
                chunks[row - rows.start, col - cols.start, : len(coded)] = np.frombuffer(coded, np.uint8)
            self._jpegxl[level][rows.start : rows.stop, cols.start : cols.stop] = chunks
        self.record(level, rows, cols, part)

    def record(self, level: int, rows: range, cols: range, part: ShardRecord) -> None:
        """Keep the quality and the fidelity of one shard, whose streams are written already."""
        with self._guard:
            self.quality[level][rows.start : rows.stop, cols.start : cols.stop] = part.quality
            self.fidelity[level][rows.start : rows.stop, cols.start : cols.stop] = part.fidelity


def improper(
    header: StoreHeader, quality: NDArray[np.uint8], fidelity: NDArray[np.float32] | None, tissue: NDArray[np.bool_]
) -> str | None:
    """Say what is wrong with the quality or the fidelity of tiles, the floor included; None where nothing is.

    Parameters
    ----------
    quality, fidelity, tissue
        (r, c) uint8, (r, c, 2) float32 and (r, c) bool of the same tiles; without a floor there is no fidelity.
    """
    highest = to_steps(None if header.quality is None else HIGHEST_QUALITY)
    checks = {"has a quality that cannot be": (quality > highest) & (quality != IS_PICTURE) | (quality > 0) & ~tissue}
    if header.floor is not None and fidelity is not None:
        psnr_db, ms_ssim = fidelity[..., 0], fidelity[..., 1]
        least_db, least_ms_ssim = header.floor.get("min_psnr_db", 0), header.floor.get("min_ms_ssim", -1)
        checks |= {
            "is glass and has a fidelity": ~np.isnan(fidelity).all(-1) & ~tissue,
            "has no fidelity": ~((psnr_db >= 0) & (ms_ssim <= 1) & (ms_ssim >= -1)) & tissue,
            "is below the floor of PSNR": tissue & ~(psnr_db >= np.float32(least_db)),
            "is below the floor of MS-SSIM": tissue & ~(ms_ssim >= np.float32(least_ms_ssim)),
        }
    for what, bad in checks.items():
        if bad.any():
            row, col = np.argwhere(bad)[0]
            return f"tile {row}, {col} {what}"
    return None
