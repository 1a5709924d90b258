"""Nothing that names a patient passes through: canaries in every text of the slide, sought in all that comes out."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openslide
import pytest
import zarr

from tests.cli.conftest import Cli, Ended
from tests.factories import CANARIES
from wsicomp.pipeline.view import LatentSlide

FILE_NAME = "Doe-Jane-1970-01-01"
SECRETS = [text.encode() for text in (*CANARIES.values(), "CANARY")]


@pytest.fixture
def planted(tmp_path: Path, canary_svs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The slide under a name that is itself a secret; reading an associated image of it is an error."""

    def refuse(*_: object) -> None:
        raise AssertionError("an associated image was read")

    monkeypatch.setattr(openslide.lowlevel, "read_associated_image", refuse)
    return Path(shutil.copy(canary_svs, tmp_path / f"{FILE_NAME}.svs"))


def contents(store: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of a store as it is on disk, and every array of it decompressed."""
    for path in store.rglob("*"):
        yield path.relative_to(store).as_posix(), path.read_bytes() if path.is_file() else b""
    root = zarr.open_group(store, mode="r")
    with warnings.catch_warnings(action="ignore"):  # the manifest is nothing that zarr knows
        members = root.members(max_depth=None)
    for name, array in members:
        if isinstance(array, zarr.Array):
            yield name, np.asarray(array[...]).tobytes()
        yield name, repr(dict(array.attrs)).encode()
    yield "/", repr(dict(root.attrs)).encode()


def assert_clean(content: bytes, where: str) -> None:
    found = [secret for secret in SECRETS if secret in content]
    assert not found, where


def test_the_search_finds_what_is_there(planted: Path) -> None:
    with pytest.raises(AssertionError):
        assert_clean(planted.read_bytes(), "the slide itself")


@pytest.mark.parametrize("depth", [1, 4])
def test_end_to_end(cli: Cli, planted: Path, tmp_path: Path, depth: int) -> None:
    store = tmp_path / "out/a.zarr"
    store.parent.mkdir()
    ended: dict[str, Ended] = {
        "encode": cli("encode", planted, "-o", store, "--depth", depth, "--all-tiles", "--json"),
        "zip": cli("encode", planted, "-o", tmp_path / "out/a.zarr.zip", "--depth", depth, "--zip"),
        "slide info": cli("info", planted, "--json"),
        "store info": cli("info", store, "--json"),
        "picture": cli("decode", store, "-o", tmp_path / "out/a.png"),
        "pyramid": cli("decode", store, "-o", tmp_path / "out/a.tif"),
        "verify": cli("verify", store, "--against", planted, "--json"),
        "existing": cli("encode", planted, "-o", store),
        "too fine": cli("encode", planted, "-o", tmp_path / "out/b.zarr", "--mpp", "0.1"),
    }
    assert [name for name, command in ended.items() if command.code] == ["existing", "too fine"]
    for name, command in ended.items():
        assert_clean((command.out + command.err).encode(), name)
    for path in (tmp_path / "out").rglob("*"):
        assert_clean(path.name.encode() + (path.read_bytes() if path.is_file() else b""), path.name)
        if path.is_file():
            assert FILE_NAME.encode() not in path.read_bytes()
    seen = 0
    for name, content in contents(store):
        assert_clean(content, name)
        assert FILE_NAME.encode() not in content
        assert str(tmp_path).encode() not in content
        seen += 1
    assert seen > 15
    assert FILE_NAME not in ended["store info"].out
    with LatentSlide(store) as slide:
        assert_clean(repr(dict(slide.properties)).encode(), "properties")
        assert dict(slide.associated_images) == {}


def test_a_slide_cut_short_is_told_without_its_texts(cli: Cli, planted: Path) -> None:
    content = planted.read_bytes()
    for share in (0.3, 0.6, 0.9):
        planted.write_bytes(content[: int(len(content) * share)])
        for words in (("info", planted), ("encode", planted, "--json")):
            ended = cli(*words)
            assert_clean((ended.out + ended.err).encode(), words[0])
            assert "Traceback" not in ended.err
