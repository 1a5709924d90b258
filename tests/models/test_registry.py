"""Weights files: written whole, read back as they were, refused in one line when they are anything else."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from wsicomp.errors import ModelError
from wsicomp.models import registry
from wsicomp.models.autoencoder import StudyAutoencoder
from wsicomp.models.classifier import StudyClassifier
from wsicomp.models.registry import (
    CLASSIFIER,
    STUDY_CODEC,
    load_model,
    save_model,
)

NOTES = {"data": "lung", "threshold": "0.25"}
Case = tuple[str, nn.Module, dict[str, Any]]


def scrambled(module: nn.Module) -> nn.Module:
    """Fill buffers too, so that a lost one shows."""
    generator = torch.Generator().manual_seed(0)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
        else:
            tensor.fill_(70_001)  # more than float16 holds
    return module


@pytest.fixture(params=[STUDY_CODEC, CLASSIFIER])
def case(request: pytest.FixtureRequest) -> Case:
    if request.param == STUDY_CODEC:
        return STUDY_CODEC, scrambled(StudyAutoencoder(2)), {"depths": 2}
    return CLASSIFIER, scrambled(StudyClassifier(1 / 16)), {"width": 1 / 16}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of a codec of one depth."""
    path = tmp_path / "codec.safetensors"
    save_model(path, StudyAutoencoder(1), key=STUDY_CODEC, settings={"depths": 1}, notes=NOTES)
    return path


def refusal(source: str | Path, *, key: str | None = None) -> str:
    """Message of the ModelError that loading ends in."""
    with pytest.raises(ModelError) as caught:
        load_model(source, key=key)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_is_saved_is_loaded(tmp_path: Path, case: Case, dtype: torch.dtype) -> None:
    key, module, settings = case
    path = tmp_path / "mine.safetensors"
    save_model(path, module, key=key, settings=settings, notes=NOTES, dtype=dtype)
    loaded = load_model(path, key=key)
    assert (loaded.key, loaded.name, loaded.notes) == (key, "mine", NOTES)
    assert type(loaded.module) is type(module)
    assert not any(part.training for part in loaded.module.modules())
    saved, read = module.state_dict(), loaded.module.state_dict()
    assert saved.keys() == read.keys()
    for name, tensor in saved.items():
        expected = tensor.to(dtype).to(tensor.dtype) if tensor.is_floating_point() else tensor
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], expected), name


def test_float16_halves_the_file(tmp_path: Path) -> None:
    sizes = []
    for dtype in (torch.float32, torch.float16):
        path = tmp_path / f"{dtype}.safetensors"
        save_model(path, StudyClassifier(1 / 16), key=CLASSIFIER, settings={}, notes={}, dtype=dtype)
        sizes.append(path.stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]


def test_saving_leaves_the_module_as_it_was(tmp_path: Path) -> None:
    module = StudyClassifier(1 / 16).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    save_model(tmp_path / "w.safetensors", module, key=CLASSIFIER, settings={}, notes={}, dtype=torch.float16)
    assert module.training
    for name, tensor in module.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])


def test_the_digest_is_that_of_the_file(weights: Path) -> None:
    assert load_model(weights).sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_the_file_mode_follows_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        path = tmp_path / "w.safetensors"
        save_model(path, StudyAutoencoder(1), key=STUDY_CODEC, settings={"depths": 1}, notes={})
    finally:
        assert os.umask(before) == umask
    assert path.stat().st_mode & 0o777 == mode


def test_a_file_that_cannot_be_written_leaves_the_old_one(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = weights.read_bytes()

    def full_disk(tensors: object, filename: Path, metadata: object) -> None:
        filename.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(registry, "save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_model(weights, StudyAutoencoder(1), key=STUDY_CODEC, settings={"depths": 1}, notes={})
    assert weights.read_bytes() == before
    assert list(weights.parent.iterdir()) == [weights]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.5, 0.999])
def test_a_truncated_file_is_refused(weights: Path, share: float) -> None:
    content = weights.read_bytes()
    weights.write_bytes(content[: int(share * len(content))])
    assert refusal(weights).startswith("codec.safetensors: not a safetensors file, or damaged")


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"\xff" * 64, b"%PDF-1.7", b"path,label\na.png,b\n"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(content)
    assert "not a safetensors file" in refusal(path)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_is_refused_and_never_run(tmp_path: Path, writer: str) -> None:
    path, sprung = tmp_path / "weights.pt", tmp_path / "sprung"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(Trap(sprung)))
    else:
        torch.save(Trap(sprung), path)
    assert "not a safetensors file" in refusal(path)
    assert not sprung.exists()


def test_safetensors_of_another_program_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    save_file(StudyAutoencoder(1).state_dict(), path, metadata={"format": "pt"})
    assert "safetensors of another program" in refusal(path)
    save_file(StudyAutoencoder(1).state_dict(), path)
    assert "safetensors of another program" in refusal(path)


HEADER: dict[str, object] = {"model": STUDY_CODEC, "settings": {"depths": 1}, "notes": {}}


def metadata(header: dict[str, object]) -> dict[str, str]:
    return {"wsicomp": json.dumps(header)}


def test_a_header_that_is_not_json_is_refused(weights: Path) -> None:
    save_file(load_file(weights), weights, metadata={"wsicomp": "not json"})
    with pytest.raises(ModelError, match="damaged"):
        load_model(weights)


def test_equal_weights_have_equal_bytes(tmp_path: Path) -> None:
    model = StudyAutoencoder(2)
    for name in ("a", "b"):
        save_model(tmp_path / name, model, key=STUDY_CODEC, settings={"depths": 2}, notes={"z": "1", "a": "2"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"settings": "not a mapping"},
        {"settings": [1]},
        {"settings": None},
        {"settings": {"depths": 2}},
        {"settings": {"depths": 0}},
        {"settings": {"depths": -1}},
        {"settings": {"depths": 1.5}},
        {"settings": {"colour": "red"}},
        {"notes": "not a mapping"},
        {"notes": None},
        {"notes": "[1]"},
        {"model": CLASSIFIER, "settings": {"width": 0.0625}},
    ],
    ids=json.dumps,
)
def test_a_header_that_does_not_fit_is_refused(weights: Path, change: dict[str, object]) -> None:
    save_file(load_file(weights), weights, metadata=metadata(HEADER | change))
    assert refusal(weights) == "codec.safetensors: damaged, or not made by this version; get the file again"


@pytest.mark.parametrize("damage", ["missing", "extra", "shape"])
def test_tensors_that_do_not_fit_are_refused(weights: Path, damage: str) -> None:
    tensors = load_file(weights)
    if damage == "missing":
        del tensors["latent_scale"]
    elif damage == "extra":
        tensors["surplus"] = torch.zeros(1)
    else:
        tensors["latent_scale"] = torch.ones(1, 7)
    save_file(tensors, weights, metadata=metadata(HEADER))
    assert "damaged" in refusal(weights)


def test_a_model_of_the_future_is_named(weights: Path) -> None:
    save_file(load_file(weights), weights, metadata=metadata(HEADER | {"model": "someone2031"}))
    message = refusal(weights)
    assert "someone2031" in message
    assert "this version does not know" in message


def test_weights_of_the_wrong_model_are_refused_with_both_names(weights: Path) -> None:
    message = refusal(weights, key=CLASSIFIER)
    assert f"weights of '{STUDY_CODEC}'" in message
    assert f"'{CLASSIFIER}' is needed" in message


def test_a_folder_is_no_weights_file(tmp_path: Path) -> None:
    assert "no such weights" in refusal(tmp_path)
