"""One flipped bit in the package's own weights ends every command that would use them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, fails
from tests.golden.make_golden import FOLDER
from wsicomp.models import shipped


@pytest.fixture
def damaged(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's folder of weights with one bit flipped in the middle of each file."""
    folder = shutil.copytree(shipped.WEIGHTS, tmp_path_factory.mktemp("package") / "weights")
    for path in folder.glob("*.safetensors"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    monkeypatch.setattr(shipped, "WEIGHTS", folder)
    return folder


SOUND = shipped.WEIGHTS
DAMAGED = (".safetensors: damaged", "install wsicomp again")


@pytest.mark.usefixtures("damaged")
def test_nothing_is_encoded_with_them(cli: Cli, tmp_path: Path, slide: Path) -> None:
    fails(cli, tmp_path, 3, DAMAGED, slide, "--depth", "3")
    fails(cli, tmp_path, 3, DAMAGED, slide, "--depth", "3", "--model", "perticarari2023")


@pytest.mark.usefixtures("damaged")
def test_nothing_is_decoded_with_them(cli: Cli, tmp_path: Path, store: Path, slide: Path) -> None:
    fails(cli, tmp_path, 3, DAMAGED, store, "-o", "out.png", command="decode")
    ended = cli("verify", store, "--against", slide, "--json")
    assert ended.code == 3
    assert all(words in ended.err + ended.out for words in DAMAGED)


@pytest.mark.usefixtures("damaged")
def test_nothing_is_evaluated_with_them(cli: Cli, tmp_path: Path, patches: Path, bright_onnx: Path) -> None:
    few = ("--resamples", "20")
    fails(cli, tmp_path, 3, DAMAGED, patches, "--classifier", bright_onnx, "--depths", "4", *few, command="evaluate")
    fails(cli, tmp_path, 3, DAMAGED, "--depths", "0", *few, command="evaluate")


@pytest.mark.usefixtures("damaged")
def test_they_are_not_listed_as_sound(cli: Cli, tmp_path: Path) -> None:
    fails(cli, tmp_path, 3, DAMAGED, command="models")


def test_a_store_is_verified_without_them(cli: Cli, damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = FOLDER / "wsic-open-depth-4.zarr.zip"
    monkeypatch.setattr("wsicomp.codec.zarr_rans._models", {})
    ended = cli("verify", golden)
    assert ended.code == 0
    assert "checked by its checksum but not decoded" in ended.err
    shutil.copy(SOUND / "wsic-open.safetensors", damaged)  # the other files are damaged still
    assert cli("verify", golden).err == ""
