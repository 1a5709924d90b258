"""Write then read is identity, for any grid, type and mask, as a folder and as a zip."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.stores import Content, assert_holds, latents_of, make_content, shard_of, write_content
from wsicomp.store.reader import StoreReader
from wsicomp.store.schema import LatentDtype
from wsicomp.store.verify import verify
from wsicomp.store.writer import StoreWriter
from wsicomp.store.zipped import pack


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    width_px=st.integers(1, 180),
    height_px=st.integers(1, 60),
    depth=st.integers(1, 3),
    channels=st.integers(1, 4),
    latent_dtype=st.sampled_from(["int8", "int16", "float16", "float32"]),
    tissue=st.sampled_from([0.0, 0.1, 0.7, 1.0]),
    icc_profile=st.none() | st.binary(min_size=1, max_size=64),
)
def test_write_then_read_is_identity(
    seed: int,
    width_px: int,
    height_px: int,
    depth: int,
    channels: int,
    latent_dtype: LatentDtype,
    tissue: float,
    icc_profile: bytes | None,
) -> None:
    content = make_content(
        seed,
        width_px,
        height_px,
        tile_size=8,
        depth=depth,
        channels=channels,
        latent_dtype=latent_dtype,
        tissue=tissue,
        icc_profile=icc_profile,
    )
    with tempfile.TemporaryDirectory() as folder:
        path, packed = Path(folder, "s.zarr"), Path(folder, "s.zarr.zip")
        written = write_content(path, content)
        assert written == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        assert pack(path, packed) == packed.stat().st_size
        for place in (path, packed):
            with StoreReader(place) as reader:
                assert_holds(reader, content)
            assert verify(place) == []
        with StoreReader(path) as reader:
            assert reader.store_bytes == written
        with StoreReader(packed) as reader:
            assert reader.store_bytes == packed.stat().st_size


def test_glass_costs_no_chunk(tmp_path: Path) -> None:
    all_glass = make_content(width_px=600, height_px=300, tissue=0.0)
    write_content(tmp_path / "s.zarr", all_glass)
    assert not list((tmp_path / "s.zarr").glob("latents/*/c"))


def test_a_tissue_tile_of_zeros_reads_as_zeros(tmp_path: Path, content: Content) -> None:
    zeros = replace(content, latents=tuple(np.zeros_like(latents) for latents in content.latents))
    write_content(tmp_path / "s.zarr", zeros)
    with StoreReader(tmp_path / "s.zarr") as reader:
        assert_holds(reader, zeros)
    assert verify(tmp_path / "s.zarr") == []


def test_shards_are_as_small_as_their_level(tmp_path: Path) -> None:
    content = make_content(width_px=17 * 16, height_px=16)
    write_content(tmp_path / "s.zarr", content)
    shards = [zarr.open_array(tmp_path / "s.zarr" / "latents" / str(i), mode="r").shards for i in range(3)]
    assert shards == [(3, 4, 64), (3, 4, 20), (3, 4, 8)]


def test_plain_zarr_reads_the_latents(store: Path, content: Content) -> None:
    for level, latents in enumerate(content.latents):
        array = zarr.open_array(store / "latents" / str(level), mode="r")
        assert np.array_equal(np.asarray(array[...]), latents)
        assert np.array_equal(
            np.asarray(zarr.open_array(store / "tissue" / str(level), mode="r")[...]), content.masks[level]
        )


def test_threads_write_different_shards_and_read_at_once(tmp_path: Path) -> None:
    content = make_content(width_px=600, height_px=260, tile_size=8)
    path = tmp_path / "s.zarr"
    with StoreWriter(path, content.header) as writer, ThreadPoolExecutor(8) as threads:
        for level in content.header.levels:
            writer.write_tissue(level.index, content.masks[level.index])
            shards = list(content.header.grid(level.index).shards())
            jobs = [
                threads.submit(writer.write_shard, level.index, rows, cols, shard_of(content, level.index, rows, cols))
                for rows, cols in shards
            ]
            for job in jobs:
                job.result()
        writer.commit()
    with StoreReader(path) as reader, ThreadPoolExecutor(8) as threads:
        tiles = [(1, row, col) for row, col in np.argwhere(content.masks[1])]
        for tile, found in zip(tiles, threads.map(lambda tile: latents_of(reader, *tile), tiles), strict=True):
            assert found is not None
            assert np.array_equal(found, content.tile(*tile))


@pytest.mark.parametrize(("level", "row", "col"), [(2, 0, 0), (-1, 0, 0), (0, -1, 0), (0, 3, 0), (0, 0, 4)])
def test_a_tile_outside_the_grid_is_an_index_error(store: Path, level: int, row: int, col: int) -> None:
    with StoreReader(store) as reader, pytest.raises(IndexError):
        latents_of(reader, level, row, col)


def test_the_mask_cannot_be_changed_through_the_reader(store: Path) -> None:
    with StoreReader(store) as reader, pytest.raises(ValueError, match="read-only"):
        reader.tissue(0)[0, 0] = True
