"""The writer: whole or not at all, one at a time, and it never replaces what it should not."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.store.stores import Content, assert_holds, fill, make_content, shard_of, write_content
from wsicomp.errors import ConfigError, StoreError, StoreIncomplete
from wsicomp.store.files import list_files
from wsicomp.store.lock import StoreLock
from wsicomp.store.manifest import Manifest
from wsicomp.store.reader import StoreReader
from wsicomp.store.writer import StoreWriter

OTHER = make_content(seed=7, width_px=30, icc_profile=None)


class Refusing:
    """An array on a disk that takes nothing more."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __setitem__(self, selection: object, values: object) -> None:
        raise OSError(self.number, os.strerror(self.number))


def holds(path: Path, content: Content) -> None:
    with StoreReader(path) as reader:
        assert_holds(reader, content)


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_nothing_but_the_store_is_left(store: Path) -> None:
    assert names(store.parent) == {"slide.zarr"}
    assert not [name for name in list_files(store) if "partial" in name or "tmp" in name]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs the names of open files")
def test_every_file_and_folder_is_synced_before_the_store_takes_its_name(
    tmp_path: Path, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    rename = os.rename
    monkeypatch.setattr("os.fsync", lambda descriptor: events.append(os.readlink(f"/proc/self/fd/{descriptor}")))

    def noted_rename(source: Path, target: Path) -> None:
        events.append("rename")
        rename(source, target)

    monkeypatch.setattr("os.rename", noted_rename)
    path = tmp_path / "s.zarr"
    write_content(path, content)
    named = [event.removeprefix(f"{path}.partial").lstrip("/") for event in events]
    before, after = named[: named.index("rename")], named[named.index("rename") + 1 :]
    folders = {folder.relative_to(path).as_posix() for folder in path.rglob("*") if folder.is_dir()}
    manifest = f".manifest.partial-{os.getpid()}.json"
    assert set(before) == set(list_files(path)) - {"manifest.json"} | {manifest, ""} | folders
    assert before[-2:] == [manifest, ""]
    assert after == [str(tmp_path).lstrip("/")]


def test_leaving_without_commit_leaves_nothing(tmp_path: Path, content: Content) -> None:
    with StoreWriter(tmp_path / "s.zarr", content.header) as writer:
        fill(writer, content)
        assert names(tmp_path) == {"s.zarr.partial", "s.zarr.partial.lock"}
    assert names(tmp_path) == set()


def test_an_error_inside_leaves_nothing(tmp_path: Path, content: Content) -> None:
    def encode() -> None:
        with StoreWriter(tmp_path / "s.zarr", content.header) as writer:
            fill(writer, content)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode()
    assert names(tmp_path) == set()


def test_an_unfinished_store_does_not_open(tmp_path: Path, content: Content) -> None:
    path = tmp_path / "s.zarr"
    with StoreWriter(path, content.header) as writer:
        fill(writer, content)
        for place in (path, tmp_path / "s.zarr.partial"):
            with pytest.raises(StoreIncomplete, match=r"s\.zarr\.partial"):
                StoreReader(place)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_second_writer_is_refused_and_the_first_goes_on(tmp_path: Path, content: Content, overwrite: bool) -> None:
    path = tmp_path / "s.zarr"
    with StoreWriter(path, content.header) as writer:
        fill(writer, content)
        with pytest.raises(StoreError, match="another process"), StoreWriter(path, OTHER.header, overwrite=overwrite):
            pass
        writer.commit()
    holds(path, content)


def test_leftovers_of_a_killed_run_are_cleared(tmp_path: Path, content: Content) -> None:
    left = tmp_path / "s.zarr.partial"
    write_content(tmp_path / "s.zarr", OTHER)
    os.rename(tmp_path / "s.zarr", left)
    (left / "latents" / "7").write_bytes(b"1")
    (tmp_path / "s.zarr.partial.lock").touch()
    write_content(tmp_path / "s.zarr", content)
    holds(tmp_path / "s.zarr", content)
    assert names(tmp_path) == {"s.zarr"}


@pytest.mark.parametrize("suffix", [".partial", ".replaced"])
@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_a_strangers_files_in_the_way_are_not_touched(tmp_path: Path, content: Content, suffix: str, kind: str) -> None:
    stranger = tmp_path / f"s.zarr{suffix}"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "thesis.txt").touch()
    if kind == "folder":
        shutil.copytree(tmp_path / "elsewhere", stranger)
    elif kind == "file":
        stranger.touch()
    else:
        stranger.symlink_to(tmp_path / "elsewhere")
    before = list_files(tmp_path)
    with pytest.raises(StoreError, match="in the way"):
        write_content(tmp_path / "s.zarr", content)
    assert list_files(tmp_path) == before


def test_an_existing_store_is_kept_without_overwrite(store: Path, content: Content) -> None:
    with pytest.raises(ConfigError, match="--overwrite"):
        write_content(store, OTHER)
    holds(store, content)
    assert names(store.parent) == {"slide.zarr"}


def test_overwrite_replaces_a_store_when_the_new_one_is_complete(store: Path, content: Content) -> None:
    with StoreWriter(store, OTHER.header, overwrite=True) as writer:
        fill(writer, OTHER)
        holds(store, content)
        writer.commit()
    holds(store, OTHER)
    assert names(store.parent) == {"slide.zarr"}


def test_overwrite_replaces_a_damaged_store(store: Path) -> None:
    (store / "zarr.json").write_bytes(b"\xff")
    write_content(store, OTHER, overwrite=True)
    holds(store, OTHER)
    assert names(store.parent) == {"slide.zarr"}


def test_a_failed_overwrite_keeps_the_old_store(store: Path, content: Content) -> None:
    with StoreWriter(store, OTHER.header, overwrite=True) as writer:
        fill(writer, OTHER)
    holds(store, content)
    assert names(store.parent) == {"slide.zarr"}


def test_a_failed_last_rename_puts_the_old_store_back(
    store: Path, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if source.name.endswith(".partial"):
            raise OSError(errno.EACCES, "no")
        rename(source, target)

    monkeypatch.setattr("wsicomp.store.writer.os.rename", refuse)
    with pytest.raises(StoreError, match="permission denied"):
        write_content(store, OTHER, overwrite=True)
    holds(store, content)
    assert names(store.parent) == {"slide.zarr"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_death_between_the_two_renames_loses_nothing(store: Path, content: Content, overwrite: bool) -> None:
    new = store.with_name("new.zarr")
    write_content(new, OTHER)
    os.rename(store, store.with_name("slide.zarr.replaced"))
    os.rename(new, store.with_name("slide.zarr.partial"))
    with pytest.raises(StoreIncomplete):
        StoreReader(store)
    if overwrite:
        write_content(store, OTHER, overwrite=True)
        holds(store, OTHER)
    else:
        with pytest.raises(ConfigError):
            write_content(store, OTHER)
        holds(store, content)
    assert names(store.parent) == {"slide.zarr"}


def test_the_old_store_is_found_when_only_it_is_left(store: Path) -> None:
    os.rename(store, store.with_name("slide.zarr.replaced"))
    with pytest.raises(StoreIncomplete, match=r"complete at slide\.zarr\.replaced"):
        StoreReader(store)


def test_death_while_the_old_store_is_deleted_is_cleared(store: Path, content: Content) -> None:
    old = store.with_name("slide.zarr.replaced")
    shutil.copytree(store / "latents", old / "latents")
    write_content(store, OTHER, overwrite=True)
    holds(store, OTHER)
    assert names(store.parent) == {"slide.zarr"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["file", "folder", "empty", "foreign zarr", "link"])
def test_what_is_no_store_is_never_replaced(
    tmp_path: Path, store: Path, content: Content, kind: str, overwrite: bool
) -> None:
    path = tmp_path / "out.zarr"
    if kind == "file":
        path.write_bytes(b"slide")
    elif kind == "link":
        path.symlink_to(store)
    else:
        path.mkdir()
        if kind != "empty":
            (path / "data").touch()
        if kind == "foreign zarr":
            (path / "zarr.json").write_text('{"zarr_format": 3, "attributes": {"ome": {}}}')
            (path / "manifest.json").write_text('{"files": {}}')
    before = list_files(tmp_path)
    with pytest.raises(ConfigError, match="exists"):
        write_content(path, content, overwrite=overwrite)
    assert list_files(tmp_path) == before


def test_a_missing_parent_is_one_line(tmp_path: Path, content: Content) -> None:
    with pytest.raises(StoreError, match="does not exist; create"):
        write_content(tmp_path / "no" / "s.zarr", content)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_read_only_target_is_one_line(
    tmp_path: Path, content: Content, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(_: StoreLock) -> None:
        raise OSError(number, "no", str(tmp_path))

    monkeypatch.setattr(StoreLock, "acquire", refuse)
    with pytest.raises(StoreError, match="choose a folder that can be written"):
        write_content(tmp_path / "s.zarr", content)
    assert names(tmp_path) == set()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_one_line(tmp_path: Path, content: Content) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="permission denied"):
        write_content(tmp_path / "s.zarr", content)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("moment", ["shard", "commit"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, content: Content, monkeypatch: pytest.MonkeyPatch, number: int, moment: str
) -> None:
    def refuse(_: Path) -> Manifest:
        raise OSError(number, "no")

    def encode() -> None:
        with StoreWriter(tmp_path / "s.zarr", content.header) as writer:
            if moment == "shard":
                monkeypatch.setattr(writer._shards, "_latents", [Refusing(number)] * 2)
            else:
                monkeypatch.setattr(Manifest, "of_folder", refuse)
            fill(writer, content)
            writer.commit()

    with pytest.raises(StoreError, match="cannot be written") as caught:
        encode()
    assert ("disk is full" in str(caught.value)) == (number == errno.ENOSPC)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == set()


def test_a_file_system_that_really_refuses_a_shard_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from tests.store.stores import make_content, write_content; from wsicomp.errors import StoreError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: write_content(Path(sys.argv[1]), make_content(width_px=400, height_px=400, depth=1))\n"
        "except StoreError as error: print(error)\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "s.zarr"], capture_output=True, text=True, check=True
    )
    assert "no file that large" in child.stdout
    assert child.stdout.count("\n") == 1
    assert names(tmp_path) == set()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096


def test_the_lock_of_a_dead_process_does_not_last(tmp_path: Path, content: Content) -> None:
    script = (
        "import os, sys; from pathlib import Path; from tests.store.stores import make_content\n"
        "from wsicomp.store.writer import StoreWriter\n"
        "StoreWriter(Path(sys.argv[1]), make_content().header).__enter__(); os._exit(9)\n"
    )
    child = subprocess.run([sys.executable, "-c", script, tmp_path / "s.zarr"], check=False)
    assert child.returncode == 9
    assert names(tmp_path) == {"s.zarr.partial", "s.zarr.partial.lock"}
    write_content(tmp_path / "s.zarr", content)
    holds(tmp_path / "s.zarr", content)


ROWS, COLS = range(0, 3), range(0, 4)
BLOCK = shard_of(make_content(), 0, ROWS, COLS)
MASK = make_content().masks[0]


@pytest.mark.parametrize(
    ("rows", "cols", "block"),
    [
        (range(0, 2), COLS, BLOCK[:, :8]),
        (range(1, 3), COLS, BLOCK[:, 4:]),
        (ROWS, COLS, BLOCK[:, :-1]),
        (ROWS, COLS, BLOCK[:1]),
        (ROWS, COLS, BLOCK.astype(np.int16)),
        (ROWS, COLS, np.full_like(BLOCK, 3)),
    ],
    ids=["part of a shard", "no shard", "short", "few channels", "dtype", "latents on glass"],
)
def test_a_block_that_is_no_shard_is_refused(
    tmp_path: Path, content: Content, rows: range, cols: range, block: Any
) -> None:
    assert not MASK.all()
    with StoreWriter(tmp_path / "s.zarr", content.header) as writer:
        writer.write_tissue(0, content.masks[0])
        with pytest.raises(ValueError, match=r"shard|glass tile"):
            writer.write_shard(0, rows, cols, block)


def test_tissue_comes_before_its_shards(tmp_path: Path, content: Content) -> None:
    with StoreWriter(tmp_path / "s.zarr", content.header) as writer, pytest.raises(ValueError, match="before"):
        writer.write_shard(0, ROWS, COLS, BLOCK)


@pytest.mark.parametrize("mask", [MASK[:-1], MASK.astype(np.uint8)], ids=["shape", "dtype"])
def test_a_mask_of_other_tiles_is_refused(tmp_path: Path, content: Content, mask: Any) -> None:
    with StoreWriter(tmp_path / "s.zarr", content.header) as writer, pytest.raises(ValueError, match="tissue"):
        writer.write_tissue(0, mask)


def test_commit_misses_a_shard_that_was_never_written(tmp_path: Path, content: Content) -> None:
    with StoreWriter(tmp_path / "s.zarr", content.header) as writer:
        for level, mask in enumerate(content.masks):
            writer.write_tissue(level, mask)
        with pytest.raises(ValueError, match="shard 0, 0 of level 0"):
            writer.commit()
    assert names(tmp_path) == set()


def test_commit_misses_a_mask_that_was_never_written(tmp_path: Path, content: Content) -> None:
    with (
        StoreWriter(tmp_path / "s.zarr", content.header) as writer,
        pytest.raises(ValueError, match="tissue of level 0"),
    ):
        writer.commit()


def test_commit_checks_the_count_of_tissue_tiles(tmp_path: Path, content: Content) -> None:
    wrong = replace(content, header=replace(content.header, tissue_tiles=content.header.tissue_tiles - 1))
    with pytest.raises(ValueError, match="tissue tiles"):
        write_content(tmp_path / "s.zarr", wrong)
    assert names(tmp_path) == set()
