"""A file is either whole or not there, and what stood before stands until then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wsicomp.disk import folder_for, replacing, sync_folder


@pytest.fixture(params=[False, True], ids=["new", "over an old one"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    if request.param:
        path.write_text("old")
    return path


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_on_success_only_the_new_file_is_there(target: Path) -> None:
    with replacing(target) as partial:
        partial.write_text("new")
    assert contents(target.parent) == {"report.json": "new"}


def test_until_the_end_the_old_file_stands(target: Path) -> None:
    before = contents(target.parent)
    with replacing(target) as partial:
        partial.write_text("half")
        assert {name: text for name, text in contents(target.parent).items() if name != partial.name} == before


@pytest.mark.parametrize("error", [OSError, ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("written", [False, True])
def test_on_an_error_nothing_changes_and_the_error_goes_on(
    target: Path, error: type[BaseException], written: bool
) -> None:
    before = contents(target.parent)

    def write() -> None:
        with replacing(target) as partial:
            if written:
                partial.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert contents(target.parent) == before


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_disk_that_fails_at_the_end_changes_nothing(target: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    before = contents(target.parent)

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(step, fail)
    with pytest.raises(OSError, match="Input/output error"), replacing(target) as partial:
        partial.write_text("new")
    assert contents(target.parent) == before


def test_a_writer_that_wrote_nothing_is_an_error(target: Path) -> None:
    before = contents(target.parent)
    with pytest.raises(FileNotFoundError), replacing(target):
        pass
    assert contents(target.parent) == before


def test_the_sibling_lies_beside_the_target_and_keeps_its_suffix(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.ome.tiff") as partial:
        assert partial.parent == tmp_path
        assert partial.suffix == ".tiff"
        assert partial.name != "a.ome.tiff"
        partial.write_text("new")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_the_mode_follows_the_umask_whatever_the_writer_chose(target: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with replacing(target) as partial:
            partial.write_text("new")
            partial.chmod(0o700)
    finally:
        assert os.umask(before) == umask
    assert target.stat().st_mode & 0o777 == mode


def test_contents_are_synced_before_the_rename_and_the_folder_after_it(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, str]] = []

    def record(descriptor: int) -> None:
        what = "folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file"
        synced.append((what, target.read_text() if target.exists() else "old"))

    monkeypatch.setattr("os.fsync", record)
    with replacing(target) as partial:
        partial.write_text("new")
    assert synced == [("file", "old"), ("folder", "new")]


def test_syncing_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "missing")


def fail_in_folder_for(path: Path, *, written: str | None = None) -> None:
    with folder_for(path):
        if written is not None:
            path.with_name(written).write_text("mine")
        raise KeyboardInterrupt


def test_folders_that_were_made_for_nothing_go_again(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    for folder in ("before", "before/a/b", "new/b"):
        with pytest.raises(KeyboardInterrupt):
            fail_in_folder_for(tmp_path / folder / "file")
    assert [path.name for path in tmp_path.rglob("*")] == ["before"]


def test_folders_that_hold_something_stay(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fail_in_folder_for(tmp_path / "a/b/file", written="other")
    assert (tmp_path / "a/b/other").read_text() == "mine"
    with folder_for(tmp_path / "kept/file"):
        pass
    assert (tmp_path / "kept").is_dir()
