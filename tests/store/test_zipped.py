from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.storage import ZipStore

from tests.store.stores import Content, assert_holds, make_content, write_content
from tests.store.test_damage import flip, wrong_tiles
from wsicomp.errors import ConfigError, StoreCorrupt, StoreError, StoreIncomplete
from wsicomp.store.manifest import MANIFEST
from wsicomp.store.reader import StoreReader
from wsicomp.store.verify import verify
from wsicomp.store.zipped import pack


@pytest.fixture
def packed(store: Path) -> Path:
    path = store.with_name("slide.zarr.zip")
    pack(store, path)
    return path


def test_members_are_plain_dated_1980_and_end_with_the_manifest(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        members = archive.infolist()
    names = [member.filename for member in members]
    assert names == [*sorted(set(names) - {MANIFEST}), MANIFEST]
    assert {member.date_time for member in members} == {(1980, 1, 1, 0, 0, 0)}
    assert {member.compress_type for member in members} == {zipfile.ZIP_STORED}


def test_the_same_store_gives_the_same_zip(tmp_path: Path, content: Content) -> None:
    digests = set()
    for name in ("a", "b"):
        write_content(tmp_path / f"{name}.zarr", content)
        pack(tmp_path / f"{name}.zarr", tmp_path / f"{name}.zip")
        digests.add(hashlib.sha256((tmp_path / f"{name}.zip").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_a_packed_store_can_be_packed_again(packed: Path) -> None:
    again = packed.with_name("again.zarr.zip")
    pack(packed, again)
    assert again.read_bytes() == packed.read_bytes()


def test_plain_zarr_reads_the_zip(packed: Path, content: Content) -> None:
    with ZipStore(packed, mode="r") as files:
        assert np.array_equal(np.asarray(zarr.open_array(files, path="latents/0", mode="r")[...]), content.latents[0])


def test_any_flipped_bit_of_the_zip_is_noticed(packed: Path, content: Content) -> None:
    sound = packed.read_bytes()
    rng = np.random.default_rng(0)
    for offset in {0, len(sound) - 1, *rng.integers(0, len(sound), 40), *range(len(sound) - 180, len(sound), 7)}:
        flip(packed, int(offset), int(rng.integers(8)))
        with contextlib.suppress(StoreError):
            assert verify(packed), offset
        result = wrong_tiles(packed, content)
        assert result == 0 or isinstance(result, str), offset
        packed.write_bytes(sound)


@pytest.mark.parametrize("keep", [0, 10, 1000, -1, -70])
def test_a_zip_cut_short_is_refused(packed: Path, keep: int) -> None:
    os.truncate(packed, keep if keep >= 0 else packed.stat().st_size + keep)
    with pytest.raises(StoreCorrupt, match="zip file is damaged"):
        StoreReader(packed)
    assert verify(packed)


def test_a_compressed_zip_is_refused(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in store.rglob("*"):
            archive.write(file, file.relative_to(store))
    with pytest.raises(StoreCorrupt, match="compressed"):
        StoreReader(path)


def test_a_zip_without_its_manifest_is_incomplete(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(store / "zarr.json", "zarr.json")
    with pytest.raises(StoreIncomplete):
        StoreReader(path)


def test_a_damaged_store_is_not_packed_and_nothing_is_left(store: Path) -> None:
    flip(store / "latents/0/c/0/0/0", 9, 1)
    with pytest.raises(StoreCorrupt, match="latents/0/c/0/0/0"):
        pack(store, store.with_name("slide.zarr.zip"))
    assert [entry.name for entry in store.parent.iterdir()] == ["slide.zarr"]


def test_an_existing_zip_is_replaced_only_when_asked(packed: Path) -> None:
    other = packed.with_name("other.zarr")
    content = make_content(seed=5)
    write_content(other, content)
    with pytest.raises(ConfigError, match="--overwrite"):
        pack(other, packed)
    pack(other, packed, overwrite=True)
    with StoreReader(packed) as reader:
        assert_holds(reader, content)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_stranger_is_not_replaced(store: Path, tmp_path: Path, overwrite: bool) -> None:
    target = tmp_path / "slide.svs"
    target.write_bytes(b"a slide")
    with pytest.raises(ConfigError, match="exists"):
        pack(store, target, overwrite=overwrite)
    assert target.read_bytes() == b"a slide"


def test_a_missing_folder_is_one_line(store: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist; create"):
        pack(store, tmp_path / "no" / "s.zip")


def test_a_full_disk_is_one_line_and_leaves_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise OSError(28, "full")

    monkeypatch.setattr("wsicomp.store.zipped.zip_digest", refuse)
    with pytest.raises(StoreError, match="the disk is full"):
        pack(store, store.with_name("slide.zarr.zip"))
    assert [entry.name for entry in store.parent.iterdir()] == ["slide.zarr"]
