"""Small stores of known content for the tests: headers, latents and masks from a seed, written by the writer itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicomp.geometry import pyramid
from wsicomp.store import jpegxl
from wsicomp.store.manifest import MANIFEST, Manifest
from wsicomp.store.reader import StoreReader
from wsicomp.store.records import ShardRecord
from wsicomp.store.schema import FORMAT_VERSION, LatentDtype, StoreHeader
from wsicomp.store.tiles import Glass, Latent
from wsicomp.store.writer import StoreWriter


@dataclass(frozen=True)
class Content:
    """What a store should hold: its header, and per level a mask and latents that are zero on glass."""

    header: StoreHeader
    masks: tuple[NDArray[np.bool_], ...]
    latents: tuple[NDArray[Any], ...]
    icc_profile: bytes | None = None

    def tile(self, level: int, row: int, col: int) -> NDArray[Any]:
        """What `read_tile` should give for a tissue tile, worked out without the store."""
        step = self.header.chunk_px
        inside = self.latents[level][:, row * step : (row + 1) * step, col * step : (col + 1) * step]
        _, height, width = inside.shape
        if self.header.entropy is not None:  # symbols are predicted from zeros where there is no image
            return np.pad(inside, ((0, 0), (0, step - height), (0, step - width)))
        y = [mirrored(position, height) for position in range(step)]
        x = [mirrored(position, width) for position in range(step)]
        return inside[:, y][:, :, x]


def mirrored(position: int, size: int) -> int:
    """Index inside 0..size-1 that a position beyond it is mirrored from, the edge pixel repeated."""
    position %= 2 * size
    return position if position < size else 2 * size - 1 - position


def make_content(
    seed: int = 1,
    width_px: int = 61,
    height_px: int = 45,
    *,
    tile_size: int = 16,
    depth: int = 2,
    channels: int = 3,
    latent_dtype: LatentDtype = "int8",
    tissue: float = 0.7,
    icc_profile: bytes | None = b"a colour profile",
    max_levels: int | None = None,
    entropy: str | None = None,
) -> Content:
    """Random content; about the share `tissue` of the tiles is tissue."""
    rng = np.random.default_rng(seed)
    levels = pyramid(width_px, height_px, tile_size, max_levels)
    grids = [level.grid(tile_size) for level in levels]
    masks = tuple(rng.random((grid.rows, grid.cols)) < tissue for grid in grids)
    header = StoreHeader(
        model="perticarari2023",
        weights_sha256="ab" * 32,
        depth=depth,
        quality=None,
        channels=channels,
        latent_dtype=latent_dtype,
        tile_size=tile_size,
        levels=levels,
        mpp=(0.25, 0.5),
        objective_power=20.0,
        vendor="aperio",
        source_bytes=123_456,
        tissue_rule={"rule": "otsu", "threshold": 0.05, "border_px": 2},
        glass_rgb=(243, 242, 244),
        tissue_tiles=sum(int(mask.sum()) for mask in masks),
        total_tiles=sum(len(grid) for grid in grids),
        entropy=entropy,
        created_by="wsicomp 0.1.0",
    )
    latents = []
    for level, mask in zip(levels, masks, strict=True):
        shape = header.latent_shape(level.index)
        step = header.chunk_px
        glass = ~np.repeat(np.repeat(mask, step, 0), step, 1)[: shape[1], : shape[2]]
        values = rng.normal(0, 6, shape).round().astype(latent_dtype)
        values[:, glass] = 0
        latents.append(values)
    return Content(header, masks, tuple(latents), icc_profile)


def write_content(path: Path, content: Content, *, overwrite: bool = False) -> int:
    """Write a whole store and return its size in bytes."""
    with StoreWriter(path, content.header, overwrite=overwrite) as writer:
        fill(writer, content)
        return writer.commit()


def fill(writer: StoreWriter, content: Content) -> None:
    """Write everything of a store but its commit."""
    if content.icc_profile is not None:
        writer.write_icc(content.icc_profile)
    for level in content.header.levels:
        writer.write_tissue(level.index, content.masks[level.index])
        for rows, cols in content.header.grid(level.index).shards():
            writer.write_shard(level.index, rows, cols, shard_of(content, level.index, rows, cols))


def shard_of(content: Content, level: int, rows: range, cols: range) -> NDArray[Any]:
    """Latents of one shard, cropped at the image's edge."""
    step = content.header.chunk_px
    return content.latents[level][:, rows.start * step : rows.stop * step, cols.start * step : cols.stop * step]


def assert_holds(reader: StoreReader, content: Content) -> None:
    """Fail unless an open store holds exactly that content."""
    assert reader.header == content.header
    assert reader.icc_profile == content.icc_profile
    for level, mask in enumerate(content.masks):
        assert np.array_equal(reader.tissue(level), mask)
        for (row, col), tissue in np.ndenumerate(mask):
            found = latents_of(reader, level, row, col)
            if tissue:
                assert found is not None
                assert found.dtype == content.header.latent_dtype
                assert np.array_equal(found, content.tile(level, row, col))
            else:
                assert found is None


def seal(path: Path, format_version: int = FORMAT_VERSION) -> None:
    """Write the manifest of a store anew, so that what was changed in it passes for what was written."""
    (path / MANIFEST).write_bytes(replace(Manifest.of_folder(path), format_version=format_version).to_bytes())


def latents_of(reader: StoreReader, level: int, row: int, col: int) -> NDArray[Any] | None:
    """Latents of a tile, None for glass; a picture fails."""
    tile = reader.read_tile(level, row, col)
    assert isinstance(tile, Latent | Glass)
    return tile.values if isinstance(tile, Latent) else None


@dataclass(frozen=True)
class Floored:
    """A store's content, and per level the quality, the fidelity and the pictures of its tiles."""

    content: Content
    quality: tuple[NDArray[np.uint8], ...]
    fidelity: tuple[NDArray[np.float32], ...]
    pictures: tuple[dict[tuple[int, int], NDArray[np.uint8]], ...]


def part_of(floored: Floored, level: int, rows: range, cols: range) -> ShardRecord:
    inside = slice(rows.start, rows.stop), slice(cols.start, cols.stop)
    streams = {
        (row, col): jpegxl.encode(picture, 0)
        for (row, col), picture in floored.pictures[level].items()
        if row in rows and col in cols
    }
    return ShardRecord(floored.quality[level][inside], floored.fidelity[level][inside], streams)


def write_floored(
    path: Path, floored: Floored, change: Callable[[ShardRecord], ShardRecord | None] = lambda part: part
) -> None:
    content = floored.content
    with StoreWriter(path, content.header) as writer:
        for level in content.header.levels:
            writer.write_tissue(level.index, content.masks[level.index])
            for rows, cols in content.header.grid(level.index).shards():
                part = change(part_of(floored, level.index, rows, cols))
                writer.write_shard(level.index, rows, cols, shard_of(content, level.index, rows, cols), part)
        writer.commit()
