"""A command line run in this process, and small classifiers and patches for it to work on."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from wsicomp.cli.main import execute
from wsicomp.datasets.phantom import phantom_patches
from wsicomp.models.autoencoder import StudyAutoencoder
from wsicomp.models.classifier import StudyClassifier
from wsicomp.models.registry import CLASSIFIER, STUDY_CODEC, save_model


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document

    def failed(self, code: int, *words: str) -> str:
        """Check that this is a failure in one line, which holds these words; return the line."""
        assert self.code == code, self.err
        lines = self.err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("wsicomp: error: ")
        assert "Traceback" not in self.out
        for word in words:
            assert word in lines[0]
        return lines[0]


Cli = Callable[..., Ended]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command line in this process."""

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        code = execute([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return run


@pytest.fixture(scope="module", autouse=True)
def _no_sync_and_one_thread(one_torch_thread: None) -> Iterator[None]:
    """Skip fsync, which is of use in a power cut only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def _shown_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder under a folder, with the files' content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def fails(
    cli: Cli, folder: Path, code: int, words: tuple[str, ...], *arguments: object, command: str = "encode"
) -> None:
    """Check both faces of a failure, and that it changes nothing on the disk."""
    before = listing(folder)
    ended = cli(command, *arguments)
    ended.failed(code, *words)
    assert ended.out == ""
    ended = cli(command, *arguments, "--json")
    line = ended.failed(code, *words)
    document = ended.document
    assert (document["command"], document["status"]) == (command, "error")
    message = line.removeprefix("wsicomp: error: ")
    assert message in [document.get("error"), *(failure["error"] for failure in document.get("failures", []))]
    assert listing(folder) == before


@pytest.fixture(scope="session")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of classes, `dark` and `light`, and beside them an index.csv with groups and splits.

    24 patches of 64 px: every dark one is darker than every light one, all of them darker than middle grey.
    """
    folder = tmp_path_factory.mktemp("data") / "patches"
    tiles = phantom_patches(24, size=64, seed=3, split="test").tiles.astype(float)
    rows = []
    for index, tile in enumerate(tiles):
        label = ("dark", "light")[index % 2]
        target = (40 if label == "dark" else 90) + index % 12
        path = folder / label / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(tile * target / tile.mean(), 0, 255).astype(np.uint8)).save(path)
        split = ("train", "train", "val", "test", "test", "test")[index // 4]
        rows.append([path.relative_to(folder), label, f"slide-{index // 4}-{index % 4}", split])
    with (folder / "index.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([["path", "label", "group", "split"], *rows])
    return folder


@pytest.fixture(scope="session")
def classes_only(tmp_path_factory: pytest.TempPathFactory, patches: Path) -> Path:
    """The same patches as a folder of classes and nothing else."""
    folder = tmp_path_factory.mktemp("data") / "classes"
    for path in patches.glob("*/*.png"):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        os.link(path, folder / path.parent.name / path.name)
    return folder


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study's classifier at a sixteenth of its width, untrained."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(0)
    notes = {"data": "none", "negative": "dark", "positive": "light", "threshold": "0.4"}
    save_model(path, StudyClassifier(0.0625), key=CLASSIFIER, settings={"width": 0.0625}, notes=notes)
    return path


@pytest.fixture(scope="session")
def bright_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Positive from a mean of 70 of 255 on: it tells light patches from dark ones without a mistake."""
    path = tmp_path_factory.mktemp("weights") / "bright.onnx"
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["tiles"], ["mean"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Sub", ["mean", "threshold"], ["above"]),
            helper.make_node("Mul", ["above", "slope"], ["logits"]),
        ],
        "brightness",
        [helper.make_tensor_value_info("tiles", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [
            helper.make_tensor("threshold", TensorProto.FLOAT, (1,), [70 / 255]),
            helper.make_tensor("slope", TensorProto.FLOAT, (1,), [100.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="session")
def white_codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec of two depths that makes everything white."""
    path = tmp_path_factory.mktemp("weights") / "white.safetensors"
    codec = StudyAutoencoder(2)
    with torch.no_grad():
        for decoder in codec.decoders:
            convolution = [layer for layer in decoder.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
            convolution.weight.zero_()
            convolution.bias.fill_(20.0)  # type: ignore[union-attr]
    save_model(path, codec, key=STUDY_CODEC, settings={"depths": 2}, notes={})
    return path
