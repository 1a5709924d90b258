"""No store is written into another, and nothing is removed that is no part of a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.make_golden import FOLDER
from tests.store.stores import Content, write_content
from wsicomp.errors import ConfigError, StoreError
from wsicomp.store.files import list_files
from wsicomp.store.place import check_place, foreign_file
from wsicomp.store.reader import StoreReader
from wsicomp.store.verify import verify
from wsicomp.store.zipped import pack

INNER = ["inner.zarr", "latents/inner.zarr", "latents/0/c/0/0/inner.zarr", "new/folder/inner.zarr"]


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("how", ["itself", "by a link", "by a link above", "unfinished"])
def test_a_store_inside_a_store_is_refused_before_anything_is_touched(
    tmp_path: Path, store: Path, content: Content, inner: str, how: str
) -> None:
    outer = store
    if how == "by a link":
        outer = tmp_path / "link.zarr"
        outer.symlink_to(store)
    elif how == "by a link above":
        (tmp_path / "above").symlink_to(store.parent)
        outer = tmp_path / "above" / store.name
    elif how == "unfinished":
        outer = store.rename(store.with_name("slide.zarr.partial"))
        (outer / "manifest.json").unlink()
    before = list_files(tmp_path)
    for refuse in (lambda: write_content(outer / inner, content), lambda: check_place(outer / inner)):
        with pytest.raises(ConfigError, match=r"inner\.zarr: lies inside the store .*choose a folder outside it"):
            refuse()
    with pytest.raises(ConfigError, match="lies inside the store"):
        pack(FOLDER / "v2-int8.zarr", outer / (inner + ".zip"))
    assert list_files(tmp_path) == before


def test_a_file_where_a_folder_is_needed_is_named(tmp_path: Path, content: Content) -> None:
    (tmp_path / "slide.svs").touch()
    for path in (tmp_path / "slide.svs" / "a.zarr", tmp_path / "slide.svs" / "deeper" / "a.zarr"):
        with pytest.raises(ConfigError, match=r"slide\.svs is a file where a folder is needed; give another output"):
            write_content(path, content)


@pytest.mark.parametrize("name", ["thesis.txt", "inner.zarr/zarr.json", "latents/0/c/thesis.txt", "tissue/5.zarr/a"])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_part_of_a_store_is_never_removed_with_it(
    tmp_path: Path, store: Path, content: Content, name: str, kind: str
) -> None:
    stranger = store / name
    stranger.parent.mkdir(parents=True, exist_ok=True)
    if kind == "file":
        stranger.write_text("mine")
    else:
        (tmp_path / "mine").mkdir()
        stranger.symlink_to(tmp_path / "mine")
    before = list_files(tmp_path)
    with pytest.raises(ConfigError, match=r"slide\.zarr exists and holds .*, no file of a store; move that away first"):
        write_content(store, content, overwrite=True)
    assert list_files(tmp_path) == before
    leftover = store.rename(store.with_name("other.zarr.partial"))
    (leftover / "manifest.json").unlink()
    before = list_files(tmp_path)
    with pytest.raises(StoreError, match="in the way and holds"):
        write_content(tmp_path / "other.zarr", content)
    assert list_files(tmp_path) == before


def test_a_damaged_store_is_replaced_all_the_same(store: Path, content: Content) -> None:
    (store / "latents/0/c/0/0/0").write_bytes(b"no shard")
    (store / "latents/0/c/0/0" / f"1.{'a' * 32}.partial").write_bytes(b"half")  # a killed writer of zarr leaves such
    (store / "tissue/0/zarr.json").unlink()
    write_content(store, content, overwrite=True)
    assert verify(store) == []


@pytest.mark.parametrize("name", ["v1-int8.zarr", "v2-int8.zarr"])
def test_a_sound_store_holds_nothing_else(name: str) -> None:
    StoreReader(FOLDER / name).close()
    assert foreign_file(FOLDER / name) is None
