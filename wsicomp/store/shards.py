"""The arrays of a new store that are written shard by shard: latents, and the pictures among the tiles.

    block (C, h, w), tissue of the level -> checked -> latents/LEVEL, jpegxl/LEVEL of a zarr group, on disk or in memory

`writer` holds them on the disk; `remote` holds the same arrays in memory, to make the bytes of one shard that belongs
into a store that another process writes. Both therefore make the same bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from wsicomp.store.coding import coding
from wsicomp.store.records import RecordWriter, ShardRecord
from wsicomp.store.schema import StoreHeader

__all__ = ["ShardArrays"]


class ShardArrays:
    """Makes the arrays in a group; threads may then write different shards at once.

    Parameters
    ----------
    root
        Group of the store, open for writing and without these arrays.
    header
        What the store holds; its entropy model is registered.
    """

    def __init__(self, root: zarr.Group, header: StoreHeader) -> None:
        self._header = header
        group = root.create_group("latents")
        self.records = RecordWriter(root, header) if header.has_pictures else None
        self._latents = [
            group.create_array(
                str(level.index),
                shape=header.latent_shape(level.index),
                dtype=header.latent_dtype,
                chunks=(header.channels, header.chunk_px, header.chunk_px),
                shards=header.shard_shape(level.index),
                fill_value=0,
                dimension_names=("c", "y", "x"),
                config={"write_empty_chunks": False},
                **coding(header),
            )
            for level in header.levels
        ]

    def write(
        self,
        level: int,
        rows: range,
        cols: range,
        block: NDArray[Any],
        tissue: NDArray[np.bool_],
        record: ShardRecord | None = None,
    ) -> None:
        """Write one shard.

        Parameters
        ----------
        rows, cols
            Tiles of the shard, as `TileGrid.shards` gives them.
        block
            (C, h, w) in the header's dtype: the shard's tiles, cropped at the image's edge, zeros where glass.
        tissue
            (rows, cols) bool, mask of the whole level.
        record
            Quality, fidelity and JPEG XL streams of the shard's tiles, if and only if the store may have pictures.

        Raises
        ------
        ValueError
            If the block is not of that shard, is not zero on glass, or a tile is not in exactly one place.
        StoreError
            If a stream is too long for its chunk.
        OSError
            If the disk refuses.
        """
        step = self._header.chunk_px
        channels, height, width = self._header.latent_shape(level)
        if (rows, cols) not in self._header.grid(level).shards():
            raise ValueError(f"level {level} has no shard of rows {rows} and cols {cols}")
        bottom, right = min(rows.stop * step, height), min(cols.stop * step, width)
        shape = (channels, bottom - rows.start * step, right - cols.start * step)
        if block.shape != shape or block.dtype != np.dtype(self._header.latent_dtype):
            raise ValueError(f"shard needs {self._header.latent_dtype} {shape}, not {block.dtype} {block.shape}")
        for row, col in np.argwhere(~tissue[rows.start : rows.stop, cols.start : cols.stop]):
            if block[:, row * step : (row + 1) * step, col * step : (col + 1) * step].any():
                raise ValueError(f"glass tile {rows.start + row}, {cols.start + col} of level {level} is not zero")
        if (record is None) != (self.records is None):
            raise ValueError("a shard has a record if and only if the store may have pictures")
        if self.records is not None and record is not None:
            self.records.write(level, rows, cols, record, block, tissue)
        self._latents[level][:, rows.start * step : bottom, cols.start * step : right] = block
