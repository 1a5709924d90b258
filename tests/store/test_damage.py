"""No damage goes unseen: not on opening and reading, and not by verify."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.store.stores import Content, latents_of, make_content, write_content
from wsicomp.errors import StoreCorrupt, StoreError, StoreIncomplete, StoreVersion, WsicompError
from wsicomp.store.files import list_files
from wsicomp.store.manifest import MANIFEST, Manifest, canonical
from wsicomp.store.reader import StoreReader
from wsicomp.store.schema import FORMAT_VERSION
from wsicomp.store.verify import Damage, verify

SHARD = "latents/0/c/0/0/0"
FILES = (
    "icc_profile/c/0",
    "icc_profile/zarr.json",
    SHARD,
    "latents/0/zarr.json",
    "latents/1/c/0/0/0",
    "latents/1/zarr.json",
    "latents/zarr.json",
    MANIFEST,
    "tissue/0/c/0/0",
    "tissue/0/zarr.json",
    "tissue/1/c/0/0",
    "tissue/1/zarr.json",
    "tissue/zarr.json",
    "zarr.json",
)


def wrong_tiles(path: Path, content: Content) -> int | str:
    """Open a store and read all of it: the number of tiles that come out wrong without an error, or the refusal."""
    try:
        reader = StoreReader(path)
    except WsicompError as error:
        return str(error)
    wrong = 0
    with reader:
        for level, mask in enumerate(content.masks):
            for (row, col), tissue in np.ndenumerate(mask):
                try:
                    found = latents_of(reader, level, row, col)
                except StoreCorrupt:
                    continue
                if found is None:
                    wrong += bool(tissue)
                else:
                    wrong += not (tissue and np.array_equal(found, content.tile(level, row, col)))
    return wrong


def flip(file: Path, offset: int, bit: int) -> None:
    data = bytearray(file.read_bytes())
    data[offset] ^= 1 << bit
    file.write_bytes(data)


def test_the_files_below_are_all_there_are(store: Path) -> None:
    assert tuple(list_files(store)) == FILES


def test_a_sound_store_has_no_damage(store: Path, content: Content) -> None:
    steps: list[tuple[int, int]] = []
    assert verify(store, progress=lambda done, total: steps.append((done, total))) == []
    assert wrong_tiles(store, content) == 0
    assert [done for done, _ in steps] == list(range(1, len(steps) + 1))
    assert steps[-1][0] == steps[-1][1]


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_bit_is_noticed(store: Path, content: Content, name: str) -> None:
    file = store / name
    sound = file.read_bytes()
    rng = np.random.default_rng(sum(name.encode()))
    for offset in {0, len(sound) - 1, *rng.integers(0, len(sound), 8).tolist()}:
        flip(file, offset, int(rng.integers(8)))
        assert name in {damage.path_in_store for damage in verify(store)}, offset
        result = wrong_tiles(store, content)
        assert result == 0 or isinstance(result, str), offset
        if not name.startswith(("latents/0/c", "latents/1/c")):
            assert isinstance(result, str), offset
            assert "\n" not in result
        file.write_bytes(sound)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["delete", "empty", "cut", "grow"])
def test_a_file_cut_short_or_gone_is_noticed(store: Path, content: Content, name: str, how: str) -> None:
    file = store / name
    if how == "delete":
        file.unlink()
    else:
        data = file.read_bytes()
        file.write_bytes({"empty": b"", "cut": data[:-1], "grow": data + b"\0"}[how])
    assert isinstance(wrong_tiles(store, content), str)
    if name == MANIFEST and how == "delete":
        with pytest.raises(StoreIncomplete):
            verify(store)
    else:
        assert name in {damage.path_in_store for damage in verify(store)}


@pytest.mark.parametrize("name", ["notes.txt", "latents/0/c/0/0/1", "latents/9/zarr.json"])
def test_a_strange_file_is_noticed(store: Path, content: Content, name: str) -> None:
    (store / name).parent.mkdir(exist_ok=True)
    (store / name).write_bytes(b"1")
    assert verify(store) == [Damage(name, None, None, None, "not a file of this store")]
    assert name in str(wrong_tiles(store, content))


def one_chunk_offset(store: Path, content: Content) -> tuple[int, int, int]:
    """Tile (row, col) of level 0 that is stored first in its shard, and an offset inside its chunk."""
    rows, cols = content.masks[0].shape
    index = np.frombuffer((store / SHARD).read_bytes()[-4 - rows * cols * 16 : -4], "<u8").reshape(rows, cols, 2)
    row, col = np.unravel_index(int(np.argmin(index[..., 0])), (rows, cols))
    return int(row), int(col), int(index[row, col, 0]) + 5


def test_damage_in_a_chunk_names_store_level_and_tile(store: Path, content: Content) -> None:
    row, col, offset = one_chunk_offset(store, content)
    flip(store / SHARD, offset, 3)
    assert [(d.path_in_store, d.level, d.row, d.col) for d in verify(store)] == [(SHARD, 0, row, col)]
    with StoreReader(store) as reader:
        with pytest.raises(StoreCorrupt, match=rf"slide\.zarr: level 0, tile row {row}, col {col} is damaged"):
            latents_of(reader, 0, row, col)
        others = [(r, c) for r, c in np.argwhere(content.masks[0]) if (r, c) != (row, col)]
        for r, c in others:
            assert np.array_equal(np.asarray(latents_of(reader, 0, r, c)), content.tile(0, r, c))


def test_damage_in_an_index_names_the_shard(store: Path) -> None:
    flip(store / SHARD, -7, 0)
    (damage,) = verify(store)
    assert (damage.path_in_store, damage.level, damage.row, damage.col) == (SHARD, 0, None, None)
    assert "tissue tiles of rows 0-2, cols 0-3 are lost" in damage.what


@pytest.mark.parametrize("how", ["delete", "empty", "cut"])
def test_a_shard_lost_after_opening_is_an_error_and_never_zeros(store: Path, content: Content, how: str) -> None:
    with StoreReader(store) as reader:
        if how == "delete":
            (store / SHARD).unlink()
        else:
            os.truncate(store / SHARD, 0 if how == "empty" else 40)
        for row, col in np.argwhere(content.masks[0]):
            with pytest.raises(StoreCorrupt):
                latents_of(reader, 0, row, col)


def seal(store: Path, change: Any) -> None:
    """Alter the header and make the manifest match, as only another program would."""
    record = json.loads((store / "zarr.json").read_bytes())
    change(record["attributes"]["wsicomp"])
    (store / "zarr.json").write_bytes(canonical(record))
    (store / MANIFEST).write_bytes(Manifest.of_folder(store).to_bytes())


def test_a_newer_header_is_a_version_error(store: Path) -> None:
    seal(store, lambda header: header.update(format_version=FORMAT_VERSION + 1))
    with pytest.raises(StoreVersion, match="update wsicomp"):
        StoreReader(store)


@pytest.mark.parametrize("metadata", ["as now", "of a form unknown here"])
def test_a_newer_manifest_is_a_version_error_everywhere(store: Path, metadata: str) -> None:
    record = {"format_version": FORMAT_VERSION + 1, "blocks": []}
    if metadata != "as now":
        (store / "zarr.json").write_text("{}")
    sealed = canonical({**record, "sha256": hashlib.sha256(canonical(record)).hexdigest()})
    (store / MANIFEST).write_bytes(sealed)
    for opened in (StoreReader, verify):
        with pytest.raises(StoreVersion, match="update wsicomp"):
            opened(store)


@pytest.mark.parametrize("change", [{"channels": 4}, {"latent_dtype": "float32"}, {"depth": 3}])
def test_arrays_that_are_not_those_of_the_header_are_corrupt(store: Path, change: dict[str, Any]) -> None:
    seal(store, lambda header: header.update(change))
    with StoreReader(store) as reader, pytest.raises(StoreCorrupt, match="not those of its header"):
        reader.tissue(0)
    assert verify(store)


@pytest.mark.parametrize("kind", ["nothing", "file", "folder", "foreign zarr", "zip"])
def test_what_is_no_store_is_refused_with_what_was_expected(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "file":
        path.write_bytes(b"II*\0 a slide")
    elif kind == "zip":
        (tmp_path / "in").mkdir()
        shutil.move(shutil.make_archive(str(tmp_path / "y"), "zip", tmp_path / "in"), path)
    elif kind != "nothing":
        path.mkdir()
        if kind == "foreign zarr":
            (path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {"ome": {}}}')
    for opened in (StoreReader, verify):
        with pytest.raises(StoreError, match=r"expected a folder NAME\.zarr") as caught:
            opened(path)
        assert not isinstance(caught.value, StoreIncomplete | StoreCorrupt)


def test_a_store_opens_from_inside_its_own_folder(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store)
    assert verify(".") == []
    os.rename(store, store.with_name("slide.zarr.partial"))
    with pytest.raises(StoreIncomplete):
        StoreReader(".")


def test_the_header_is_read_without_importing_zarr(store: Path) -> None:
    script = (
        "import sys; from wsicomp.store.reader import StoreReader\n"
        "print(StoreReader(sys.argv[1]).header.depth, 'zarr' in sys.modules)"
    )
    child = subprocess.run([sys.executable, "-c", script, store], capture_output=True, text=True, check=True)
    assert child.stdout == "2 False\n"


def test_a_store_without_its_manifest_is_incomplete(store: Path) -> None:
    (store / MANIFEST).unlink()
    for opened in (StoreReader, verify):
        with pytest.raises(StoreIncomplete, match="no manifest"):
            opened(store)


def test_reading_a_store_of_glass_after_damage_to_its_mask_never_opens(tmp_path: Path) -> None:
    glass = make_content(tissue=0.0)
    write_content(tmp_path / "s.zarr", glass)
    (tmp_path / "s.zarr" / "tissue/0/c/0/0").unlink()
    with pytest.raises(StoreCorrupt, match="tissue/0/c/0/0"):
        StoreReader(tmp_path / "s.zarr")
