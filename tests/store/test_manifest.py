from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from wsicomp.disk import write_file
from wsicomp.errors import StoreCorrupt, StoreVersion
from wsicomp.store.files import list_files
from wsicomp.store.manifest import MANIFEST, Manifest, canonical
from wsicomp.store.schema import FORMAT_VERSION

FILES = {"zarr.json": b"{}", "latents/0/c/0/0/0": b"\x01" * 100, "empty": b""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_every_file_is_listed_with_size_and_hash(folder: Path) -> None:
    manifest = Manifest.of_folder(folder)
    assert {name: (entry.bytes, entry.sha256) for name, entry in manifest.files.items()} == {
        name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in FILES.items()
    }


def test_the_manifest_does_not_list_itself(folder: Path) -> None:
    write_file(folder / MANIFEST, b"old")
    assert MANIFEST not in Manifest.of_folder(folder).files


@pytest.mark.parametrize("version", range(1, FORMAT_VERSION + 1))
def test_bytes_round_trip(folder: Path, version: int) -> None:
    manifest = replace(Manifest.of_folder(folder), format_version=version)
    assert Manifest.from_bytes(manifest.to_bytes(), "s") == manifest


def test_every_single_bit_of_it_is_guarded(folder: Path) -> None:
    raw = Manifest.of_folder(folder).to_bytes()
    for position in range(len(raw)):
        for bit in (0, 5):
            damaged = bytearray(raw)
            damaged[position] ^= 1 << bit
            with pytest.raises(StoreCorrupt, match="manifest is damaged"):
                Manifest.from_bytes(bytes(damaged), "s")


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000, b'{"sha256": 1}'])
def test_what_is_no_manifest_is_corrupt(raw: bytes) -> None:
    with pytest.raises(StoreCorrupt):
        Manifest.from_bytes(raw, "s")


def test_a_newer_format_is_told_apart_whatever_else_it_says() -> None:
    record = {"format_version": FORMAT_VERSION + 1, "files": "elsewhere", "novelty": [1, 2]}
    sealed = json.dumps({**record, "sha256": hashlib.sha256(canonical(record)).hexdigest()}).encode()
    with pytest.raises(StoreVersion):
        Manifest.from_bytes(sealed, "s")


@pytest.mark.parametrize("files", ["x", {"a": 1}, {"a": {"bytes": 1}}, {"a": {"bytes": "1", "sha256": "0" * 64}}])
def test_a_sealed_manifest_of_the_wrong_form_is_corrupt(files: object) -> None:
    record = {"format_version": 1, "files": files}
    sealed = canonical({**record, "sha256": hashlib.sha256(canonical(record)).hexdigest()}) + b"\n"
    with pytest.raises(StoreCorrupt):
        Manifest.from_bytes(sealed, "s")


def test_differences_name_missing_strange_and_resized_files(folder: Path) -> None:
    manifest = Manifest.of_folder(folder)
    (folder / "empty").unlink()
    (folder / "new").write_bytes(b"1")
    (folder / "zarr.json").write_bytes(b"{ }")
    assert manifest.differences(list_files(folder)) == {
        "empty": "missing",
        "new": "not a file of this store",
        "zarr.json": "3 bytes instead of 2",
    }


def test_write_file_leaves_the_old_content_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "a", b"old")

    def refuse(_: int) -> None:
        raise OSError(28, "full")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match="full"):
        write_file(tmp_path / "a", b"new")
    assert list_files(tmp_path) == {"a": 3}
    assert (tmp_path / "a").read_bytes() == b"old"
