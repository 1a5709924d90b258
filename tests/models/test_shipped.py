"""The weights that come with the package: listed, found by their sum, and refused when one byte of them has changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from wsicomp.errors import ModelError
from wsicomp.models import shipped as package
from wsicomp.models.autoencoder import StudyAutoencoder
from wsicomp.models.classifier import StudyClassifier
from wsicomp.models.family import Family
from wsicomp.models.registry import CLASSIFIER, STUDY_CODEC, WSIC, describe_shipped, load_model, save_model, shipped
from wsicomp.models.shipped import find_shipped, read_card, read_shipped, shipped_sums

SHIPPED = sorted(shipped())


def write_sums(folder: Path) -> None:
    """What `sha256sum *.safetensors > SHA256SUMS` does."""
    files = sorted(folder.glob("*.safetensors"))
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines))


def test_the_sums_are_those_of_every_file() -> None:
    sums = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in package.WEIGHTS.glob("*.safetensors")}
    assert shipped_sums() == sums, "run `sha256sum *.safetensors > SHA256SUMS` in wsicomp/models/weights"


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's folder of weights, as it is shipped, to be damaged at will."""
    path = shutil.copytree(package.WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr(package, "WEIGHTS", path)
    return path


def flip(path: Path, position: int) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def place(path: Path, part: str) -> int:
    """Position of a byte in the header, in a tensor of the network, or in a table of the entropy coder."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    if part == "header":
        return content.index(b"steps")
    entries = json.loads(content[8 : 8 + size])
    wanted = (entry["data_offsets"] for name, entry in entries.items() if name.startswith(part))
    start, end = next(iter(wanted))
    return 8 + size + int(start + end) // 2


@pytest.mark.parametrize("part", ["header", "trunk", "arrays/"])
def test_one_flipped_bit_in_shipped_weights_is_refused(copied: Path, part: str) -> None:
    path = copied / "wsic.safetensors"
    flip(path, place(path, part))
    for load in (load_model, read_shipped):
        with pytest.raises(ModelError, match=r"wsic\.safetensors: damaged.*install wsicomp again"):
            load(WSIC)
    with pytest.raises(ModelError, match="damaged"):
        describe_shipped()
    assert load_model(STUDY_CODEC).key == STUDY_CODEC
    assert load_model(path).sha256 not in shipped_sums().values()  # given as a file, they are weights of one's own


@pytest.mark.parametrize("damage", ["missing", "flipped sum", "flipped name", "half"])
def test_a_damaged_list_of_sums_lets_nothing_through(copied: Path, damage: str) -> None:
    sums = copied / "SHA256SUMS"
    if damage == "missing":
        sums.unlink()
    elif damage == "half":
        sums.write_bytes(sums.read_bytes()[:-40])
    else:
        flip(sums, sums.read_bytes().index(b"wsic.") + (1 if damage == "flipped name" else -10))
    with pytest.raises(ModelError):
        load_model(WSIC)


@pytest.mark.parametrize("suffix", [".safetensors", ".md"])
def test_a_file_that_is_missing_from_the_package_is_named(copied: Path, suffix: str) -> None:
    (copied / f"wsic{suffix}").unlink()
    with pytest.raises(ModelError, match=rf"wsic\{suffix}: cannot be read; install wsicomp again"):
        _ = load_model(WSIC) if suffix == ".safetensors" else read_card(WSIC)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's folder of weights, with two codecs and a classifier."""
    path = tmp_path / "weights"
    path.mkdir()
    monkeypatch.setattr(package, "WEIGHTS", path)
    for name in ("zebra", "apple"):
        codec = StudyAutoencoder(1)
        save_model(path / f"{name}.safetensors", codec, key=STUDY_CODEC, settings={"depths": 1}, notes={})
    classifier = StudyClassifier(1 / 16)
    save_model(path / "kiwi.safetensors", classifier, key=CLASSIFIER, settings={"width": 1 / 16}, notes={})
    (path / "apple.md").write_text("a card")
    write_sums(path)
    return path


@pytest.mark.parametrize(
    ("family", "names"),
    [(None, ["apple", "kiwi", "zebra"]), ("codec", ["apple", "zebra"]), ("classifier", ["kiwi"]), ("generator", [])],
)
@pytest.mark.usefixtures("folder")
def test_shipped_weights_are_those_of_the_list(family: Family | None, names: list[str]) -> None:
    assert list(shipped(family)) == names


def test_a_description_of_the_shipped_weights_is_what_loading_them_finds(folder: Path) -> None:
    described = describe_shipped()
    assert [entry["name"] for entry in described] == ["apple", "kiwi", "zebra"]
    for entry in described:
        loaded = load_model(entry["name"])
        assert entry == {
            "name": loaded.name,
            "model": loaded.key,
            "family": loaded.family,
            "bytes": (folder / f"{loaded.name}.safetensors").stat().st_size,
            "sha256": loaded.sha256,
            "notes": loaded.notes,
        }
        assert json.loads(json.dumps(entry)) == entry


@pytest.mark.usefixtures("folder")
def test_shipped_weights_are_found_by_their_bytes() -> None:
    for entry in describe_shipped():
        assert find_shipped(entry["sha256"]) == entry["name"]
    assert find_shipped("0" * 64) is None


def test_shipped_weights_are_loaded_by_name(folder: Path) -> None:
    loaded = load_model("kiwi", key=CLASSIFIER)
    assert loaded.name == "kiwi"
    assert loaded.sha256 == hashlib.sha256((folder / "kiwi.safetensors").read_bytes()).hexdigest()


@pytest.mark.usefixtures("folder")
def test_unknown_weights_are_refused_with_the_names_that_would_do() -> None:
    with pytest.raises(ModelError, match=r"^mango: no such weights.*one of: apple, zebra$"):
        load_model("mango", family="codec")
    with pytest.raises(ModelError, match=r"^mango: no such weights.*one of: kiwi$"):
        load_model("mango", family="classifier")
    with pytest.raises(ModelError, match=r"kiwi.*, a classifier, where a codec is needed: apple or zebra$"):
        load_model("kiwi", family="codec")


@pytest.mark.parametrize("name", SHIPPED)
def test_what_the_package_ships_loads_and_is_finite(name: str) -> None:
    loaded = load_model(name)
    assert all(tensor.isfinite().all() for tensor in loaded.module.state_dict().values())
    if isinstance(loaded.module, StudyAutoencoder):
        assert (loaded.module.latent_scale > 0).all()


@pytest.mark.parametrize("name", SHIPPED)
def test_what_the_package_ships_has_a_card(name: str) -> None:
    card = read_card(name)
    assert card.startswith(f"# {name}\n")
    assert all(f"| {row} |" in card for row in ("data", "licence of the data", "recipe", "machine", "test"))
