"""Shards that helpers write into a store: the same bytes as the writer's own, and nothing outside of their time."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.store.stores import Content, Floored, make_content, part_of, shard_of, write_content, write_floored
from tests.store.test_records import FLOORED, make_floored
from wsicomp.errors import StoreCorrupt, StoreError
from wsicomp.store.files import list_files
from wsicomp.store.manifest import MANIFEST, Entry
from wsicomp.store.remote import RemoteShards, RemoteStore, WrittenShard
from wsicomp.store.writer import StoreWriter


@pytest.fixture
def large() -> Content:
    """Content of two by two shards."""
    return make_content(width_px=300, height_px=280, tissue=0.5)


def begin(writer: StoreWriter, content: Content) -> RemoteStore:
    """Write all but the shards, and give what a helper needs, as it comes out of a pickle."""
    if content.icc_profile is not None:
        writer.write_icc(content.icc_profile)
    for level in content.header.levels:
        writer.write_tissue(level.index, content.masks[level.index])
    remote = pickle.loads(pickle.dumps(writer.remote()))  # noqa: S301
    assert isinstance(remote, RemoteStore)
    return remote


def shards_in(content: Content) -> Iterator[tuple[int, range, range]]:
    for level in content.header.levels:
        for rows, cols in content.header.grid(level.index).shards():
            yield level.index, rows, cols


def help_with(
    remote: RemoteStore, content: Content, level: int, rows: range, cols: range, floored: Floored | None = None
) -> WrittenShard:
    helper = RemoteShards(remote, content.masks[level])
    part = None if floored is None else part_of(floored, level, rows, cols)
    helper.write_shard(level, rows, cols, shard_of(content, level, rows, cols), part)
    (written,) = pickle.loads(pickle.dumps(helper.written))  # noqa: S301
    assert isinstance(written, WrittenShard)
    return written


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_helpers_make_the_same_store(tmp_path: Path, large: Content) -> None:
    write_content(tmp_path / "alone.zarr", large)
    with StoreWriter(tmp_path / "helped.zarr", large.header) as writer:
        remote = begin(writer, large)
        for level, rows, cols in reversed(list(shards_in(large))):
            first = help_with(remote, large, level, rows, cols)
            assert help_with(remote, large, level, rows, cols) == first
            writer.adopt(first)
        writer.commit()
    assert names(tmp_path) == {"alone.zarr", "helped.zarr"}
    manifests = [(tmp_path / name / MANIFEST).read_bytes() for name in ("alone.zarr", "helped.zarr")]
    assert manifests[0] == manifests[1]
    assert list_files(tmp_path / "alone.zarr") == list_files(tmp_path / "helped.zarr")
    assert names(tmp_path / "alone.zarr") == names(tmp_path / "helped.zarr")


def test_so_with_a_floor(tmp_path: Path) -> None:
    write_floored(tmp_path / "alone.zarr", FLOORED)
    content = replace(FLOORED.content, icc_profile=None)
    with StoreWriter(tmp_path / "helped.zarr", content.header) as writer:
        remote = begin(writer, content)
        for level, rows, cols in shards_in(content):
            written = help_with(remote, content, level, rows, cols, FLOORED)
            assert written.record is not None
            assert written.record.streams == {}
            writer.adopt(written)
        writer.commit()
    manifests = [(tmp_path / name / MANIFEST).read_bytes() for name in ("alone.zarr", "helped.zarr")]
    assert manifests[0] == manifests[1]


def test_a_shard_that_no_helper_wrote_is_missed(tmp_path: Path, large: Content) -> None:
    def encode() -> None:
        with StoreWriter(tmp_path / "s.zarr", large.header) as writer:
            remote = begin(writer, large)
            first, *others = shards_in(large)
            for shard in others:
                writer.adopt(help_with(remote, large, *shard))
            help_with(remote, large, *first)
            writer.commit()

    with pytest.raises(ValueError, match="has not been written"):
        encode()
    assert names(tmp_path) == set()


@pytest.mark.parametrize("what", ["gone", "changed", "other size", "never there"])
def test_a_file_that_is_not_as_it_was_written_stops_the_commit(tmp_path: Path, large: Content, what: str) -> None:
    def encode() -> None:
        with StoreWriter(tmp_path / "s.zarr", large.header) as writer:
            remote = begin(writer, large)
            for shard in shards_in(large):
                written = help_with(remote, large, *shard)
                if what == "never there":
                    written = replace(written, files={**written.files, "latents/0/c/0/9/9": Entry(1, "0" * 64)})
                writer.adopt(written)
            path = remote.partial / "latents/0/c/0/0/0"
            if what == "gone":
                path.unlink()
            elif what == "changed":
                path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
            elif what == "other size":
                path.write_bytes(path.read_bytes()[:-1])
            writer.commit()

    with pytest.raises(StoreCorrupt, match="is not as a worker wrote it"):
        encode()
    assert names(tmp_path) == set()


def test_what_a_killed_helper_left_is_not_part_of_the_store(tmp_path: Path, large: Content) -> None:
    write_content(tmp_path / "alone.zarr", large)
    with StoreWriter(tmp_path / "s.zarr", large.header) as writer:
        remote = begin(writer, large)
        (remote.incoming / "half").write_bytes(b"a half of a shard")
        for shard in shards_in(large):
            writer.adopt(help_with(remote, large, *shard))
        writer.commit()
    assert list_files(tmp_path / "alone.zarr") == list_files(tmp_path / "s.zarr")


@pytest.mark.parametrize("end", ["given up", "committed", "begun again"])
def test_a_helper_that_comes_too_late_changes_nothing(tmp_path: Path, large: Content, end: str) -> None:
    shard = next(shards_in(large))
    with StoreWriter(tmp_path / "s.zarr", large.header) as writer:
        remote = begin(writer, large)
        for one in shards_in(large) if end == "committed" else ():
            writer.adopt(help_with(remote, large, *one))
        if end == "committed":
            writer.commit()
        elif end == "begun again":
            shutil.copytree(remote.partial, tmp_path / "copy")  # as a killed writer leaves it
    if end == "begun again":
        (tmp_path / "copy").rename(remote.partial)
        with StoreWriter(tmp_path / "s.zarr", large.header) as writer:
            begin(writer, large)
            before = list_files(tmp_path)
            with pytest.raises(StoreError, match="not seen by a worker"):
                help_with(remote, large, *shard)
            assert list_files(tmp_path) == before
        assert names(tmp_path) == set()
        return
    before = list_files(tmp_path)
    with pytest.raises(StoreError, match="not seen by a worker"):
        help_with(remote, large, *shard)
    assert list_files(tmp_path) == before
    assert names(tmp_path) == ({"s.zarr"} if end == "committed" else set())


def test_a_shard_that_does_not_belong_is_refused(tmp_path: Path, large: Content) -> None:
    floored = make_floored()
    with StoreWriter(tmp_path / "a.zarr", large.header) as writer, pytest.raises(ValueError, match="has no shard"):
        writer.adopt(WrittenShard(0, range(1, 2), range(0, 16), {}, None))
    rows, cols = next(floored.content.header.grid(0).shards())
    with (
        StoreWriter(tmp_path / "b.zarr", floored.content.header) as writer,
        pytest.raises(ValueError, match="has a record if and only if"),
    ):
        writer.adopt(WrittenShard(0, rows, cols, {}, None))
