"""Stores of entropy-coded latents: as exact, as safe and as small on glass as the others, given their entropy model."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codec.models import CHANNELS, fitted
from tests.store.stores import Content, assert_holds, latents_of, make_content, write_content
from tests.store.test_damage import SHARD, flip, one_chunk_offset, seal
from wsicomp.codec import rans, zarr_rans
from wsicomp.codec.zarr_rans import register_model
from wsicomp.errors import StoreCorrupt, StoreError
from wsicomp.store.reader import StoreReader
from wsicomp.store.schema import LatentDtype
from wsicomp.store.verify import verify
from wsicomp.store.writer import StoreWriter
from wsicomp.store.zipped import pack

MODEL = fitted()
EMPTY = 2**64 - 1
"""Offset and length, in a shard's index, of a chunk that is not there."""


@pytest.fixture(autouse=True)
def registered() -> None:
    register_model(MODEL)


@pytest.fixture
def content() -> Content:
    return make_content(1, 53, 41, channels=CHANNELS, entropy=MODEL.digest)


@pytest.fixture
def coded(tmp_path: Path, content: Content) -> Path:
    """A complete store of entropy-coded `content`, to be damaged at will."""
    write_content(tmp_path / "slide.zarr", content)
    return tmp_path / "slide.zarr"


def shard_index(store: Path, content: Content) -> Any:
    """Offset and length of each chunk in the one shard of level 0, (rows, cols, 2) uint64."""
    rows, cols = content.masks[0].shape
    return np.frombuffer((store / SHARD).read_bytes()[-4 - rows * cols * 16 : -4], "<u8").reshape(rows, cols, 2)


def wild(content: Content, seed: int) -> Content:
    """The same with some latents replaced by any value that their type can hold."""
    rng, limits = np.random.default_rng(seed), np.iinfo(content.header.latent_dtype)
    latents = []
    for values in content.latents:
        drawn = rng.integers(limits.min, limits.max, values.shape, values.dtype, endpoint=True)
        latents.append(np.where((values != 0) & (rng.random(values.shape) < 0.1), drawn, values))
    return replace(content, latents=tuple(latents))


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    width_px=st.integers(1, 180),
    height_px=st.integers(1, 60),
    depth=st.integers(1, 3),
    latent_dtype=st.sampled_from(["int8", "int16"]),
    tissue=st.sampled_from([0.0, 0.1, 0.7, 1.0]),
)
def test_write_then_read_is_identity(
    seed: int, width_px: int, height_px: int, depth: int, latent_dtype: LatentDtype, tissue: float
) -> None:
    content = wild(
        make_content(
            seed,
            width_px,
            height_px,
            tile_size=8,
            depth=depth,
            channels=CHANNELS,
            latent_dtype=latent_dtype,
            tissue=tissue,
            entropy=MODEL.digest,
        ),
        seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        path, packed = Path(folder, "s.zarr"), Path(folder, "s.zarr.zip")
        write_content(path, content)
        pack(path, packed)
        for place in (path, packed):
            with StoreReader(place) as reader:
                assert_holds(reader, content)
            assert verify(place) == []


def test_the_ends_of_int16_come_back(tmp_path: Path) -> None:
    content = make_content(channels=CHANNELS, latent_dtype="int16", tissue=1.0, entropy=MODEL.digest)
    for values in content.latents:
        values[:, ::2], values[:, 1::2] = -32768, 32767
    write_content(tmp_path / "s.zarr", content)
    with StoreReader(tmp_path / "s.zarr") as reader:
        assert_holds(reader, content)


def test_each_tissue_tile_is_one_stream_zero_outside_the_image_and_glass_is_nothing(
    coded: Path, content: Content
) -> None:
    shard, step = (coded / SHARD).read_bytes(), content.header.chunk_px
    index, seen = shard_index(coded, content), 0
    padded = np.zeros((CHANNELS, *(step * count for count in content.masks[0].shape)), np.int8)
    _, height, width = content.latents[0].shape
    assert (height, width) != padded.shape[1:]
    padded[:, :height, :width] = content.latents[0]
    for (row, col), tissue in np.ndenumerate(content.masks[0]):
        offset, length = (int(value) for value in index[row, col])
        if tissue:
            tile = np.ascontiguousarray(padded[:, row * step : (row + 1) * step, col * step : (col + 1) * step])
            assert shard[offset : offset + length] == rans.encode(tile, MODEL)
            seen += length
        else:
            assert (offset, length) == (EMPTY, EMPTY)
    assert len(shard) == seen + index.nbytes + 4


def test_a_store_of_glass_has_no_shard(tmp_path: Path) -> None:
    write_content(tmp_path / "s.zarr", make_content(channels=CHANNELS, tissue=0.0, entropy=MODEL.digest))
    assert not list((tmp_path / "s.zarr").glob("latents/*/c"))


def test_damage_in_a_stream_names_store_level_and_tile(coded: Path, content: Content) -> None:
    row, col, _ = one_chunk_offset(coded, content)
    first, length = (int(value) for value in shard_index(coded, content)[row, col])
    for offset in (0, length // 2, length - 1):
        flip(coded / SHARD, first + offset, 3)
        (damage,) = verify(coded)
        assert (damage.path_in_store, damage.level, damage.row, damage.col) == (SHARD, 0, row, col)
        with StoreReader(coded) as reader:
            with pytest.raises(StoreCorrupt, match=rf"slide\.zarr: level 0, tile row {row}, col {col} is damaged"):
                latents_of(reader, 0, row, col)
            for r, c in np.argwhere(content.masks[0]):
                if (r, c) != (row, col):
                    assert np.array_equal(np.asarray(latents_of(reader, 0, r, c)), content.tile(0, r, c))
        flip(coded / SHARD, first + offset, 3)
    assert verify(coded) == []


def test_without_its_model_all_but_the_latents_is_read(
    coded: Path, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, col = np.argwhere(content.masks[0])[0]
    with StoreReader(coded) as reader:
        with monkeypatch.context() as patch:
            patch.setattr(zarr_rans, "_models", {})
            assert reader.header == content.header
            assert reader.icc_profile == content.icc_profile
            np.testing.assert_array_equal(reader.tissue(0), content.masks[0])
            with pytest.raises(StoreError, match=rf"slide\.zarr: .*{MODEL.digest}.*--model") as caught:
                reader.read_tile(0, row, col)
            assert not isinstance(caught.value, StoreCorrupt)
            assert "\n" not in str(caught.value)
        assert_holds(reader, content)


def test_without_its_model_damage_is_told_by_tile_too(
    coded: Path, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zarr_rans, "_models", {})
    steps: list[tuple[int, int]] = []
    assert verify(coded, progress=lambda done, total: steps.append((done, total))) == []
    assert steps[-1][0] == steps[-1][1]
    for row, col in np.argwhere(content.masks[0]):
        first, length = (int(value) for value in shard_index(coded, content)[row, col])
        for offset in (0, length // 2, length - 1):
            flip(coded / SHARD, first + offset, 3)
            (damage,) = verify(coded)
            assert (damage.path_in_store, damage.level, damage.row, damage.col) == (SHARD, 0, row, col)
            flip(coded / SHARD, first + offset, 3)
    for offset in (-1, -4, -20):  # in the index or its checksum, every tile is lost
        flip(coded / SHARD, (coded / SHARD).stat().st_size + offset, 3)
        (damage,) = verify(coded)
        assert (damage.path_in_store, damage.level, damage.row, damage.col) == (SHARD, 0, None, None)
        flip(coded / SHARD, (coded / SHARD).stat().st_size + offset, 3)
    os.truncate(coded / SHARD, 10)
    (damage,) = verify(coded)
    assert (damage.path_in_store, damage.level, damage.row, damage.col) == (SHARD, 0, None, None)


def test_nothing_is_written_without_the_model(
    tmp_path: Path, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zarr_rans, "_models", {})
    with pytest.raises(StoreError, match=MODEL.digest), StoreWriter(tmp_path / "s.zarr", content.header):
        pass
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_with_a_model_of_other_channels(tmp_path: Path) -> None:
    header = make_content(channels=CHANNELS + 1, entropy=MODEL.digest).header
    with pytest.raises(ValueError, match=r"chunks \(3, h, w\)"), StoreWriter(tmp_path / "s.zarr", header):
        pass
    assert not (tmp_path / "s.zarr").exists()
    assert not (tmp_path / "s.zarr.partial").exists()


@pytest.mark.parametrize(
    ("written", "claimed"),
    [(MODEL.digest, None), (MODEL.digest, fitted(classes=1).digest), (None, MODEL.digest)],
    ids=["rans as zstd", "another model", "zstd as rans"],
)
def test_arrays_coded_otherwise_than_the_header_says_are_corrupt(
    tmp_path: Path, written: str | None, claimed: str | None
) -> None:
    register_model(fitted(classes=1))
    store = tmp_path / "s.zarr"
    write_content(store, make_content(channels=CHANNELS, entropy=written))
    seal(store, lambda header: header.update(entropy=claimed))
    with StoreReader(store) as reader, pytest.raises(StoreCorrupt, match="not those of its header"):
        reader.tissue(0)
    assert verify(store)


def loaded(script: str, store: Path) -> str:
    """Which of zarr and numba a child process has loaded after a script."""
    script += "\nimport sys; print([name for name in ('zarr', 'numba') if name in sys.modules])"
    child = subprocess.run([sys.executable, "-c", script, store], capture_output=True, text=True, check=True)
    return child.stdout.splitlines()[-1]


def test_info_loads_neither_zarr_nor_numba(coded: Path) -> None:
    script = "import sys; from wsicomp.cli.main import app; app(['info', sys.argv[1]], standalone_mode=False)"
    assert loaded(script, coded) == "[]"


def test_a_store_without_entropy_loads_no_coder(tmp_path: Path) -> None:
    write_content(tmp_path / "s.zarr", make_content())
    script = "import sys; from wsicomp.store.verify import verify; assert verify(sys.argv[1]) == []"
    assert loaded(script, tmp_path / "s.zarr") == "['zarr']"
