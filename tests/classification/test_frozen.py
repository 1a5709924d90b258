from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from wsicomp.classification.frozen import FrozenClassifier, OnnxClassifier, TorchClassifier
from wsicomp.errors import ModelError

WEIGHTS = np.array([[1.0, -2.0, 3.0], [-1.0, 0.5, 2.0]], np.float32)


def some_tiles(count: int, side: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def by_hand(tiles: NDArray[np.uint8], row: int = 0) -> NDArray[np.float64]:
    logits: NDArray[np.float64] = (tiles / 255).mean(axis=(1, 2)) @ WEIGHTS[row].astype(np.float64)
    return logits


def save_onnx(
    path: Path,
    outputs: int = 1,
    *,
    batch: int | str = "batch",
    channels: int = 3,
    side: int | str = "side",
    scale: float = 1.0,
    dtype: int = TensorProto.FLOAT,
) -> Path:
    """Mean colour times WEIGHTS: (B, 3, H, W) -> (B, outputs); 0 outputs flattens to (B,)."""
    weights = np.resize(WEIGHTS[: max(outputs, 1)], (max(outputs, 1), channels)).astype(np.float32).T * scale
    nodes = [
        helper.make_node("Cast", ["tiles"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        helper.make_node("ReduceSum", ["logits", "axes"], ["flat"], keepdims=0),
    ]
    last = "logits" if outputs else "flat"
    graph = helper.make_graph(
        nodes,
        "mean-colour",
        [helper.make_tensor_value_info("tiles", dtype, [batch, channels, side, side])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
        [
            helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel()),
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


class MeanColour(torch.nn.Module):
    def __init__(self, outputs: int | None = None) -> None:
        super().__init__()
        self.outputs = outputs
        self.dropout = torch.nn.Dropout(0.5)
        self.batches: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        self.batches.append(len(x))
        logits: torch.Tensor = (
            self.dropout(x).mean(dim=(2, 3)) @ torch.from_numpy(WEIGHTS[: self.outputs or 1]).T
        )  # (B, outputs)
        return logits if self.outputs else logits[:, 0]


@pytest.mark.parametrize("count", [1, 4, 5])
@pytest.mark.parametrize("outputs", [None, 1])
def test_torch_gives_one_logit_per_tile(outputs: int | None, count: int) -> None:
    classifier: FrozenClassifier = TorchClassifier(MeanColour(outputs), "mean", batch_size=4)
    logits = classifier.logits(some_tiles(count))
    assert logits.dtype == np.float64
    np.testing.assert_allclose(logits, by_hand(some_tiles(count)), atol=1e-5)
    assert classifier.name == "mean"


def test_torch_sees_one_batch_size_and_stays_in_evaluation_mode() -> None:
    module = MeanColour()
    classifier = TorchClassifier(module, "mean", batch_size=4)
    module.train()
    first = classifier.logits(some_tiles(6))
    np.testing.assert_array_equal(first, classifier.logits(some_tiles(6)))  # dropout is off
    assert set(module.batches) == {4}


def test_a_tile_has_the_same_logit_in_any_company() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(1))
    classifier = TorchClassifier(module, "conv", batch_size=4)
    tiles = some_tiles(7)
    together = classifier.logits(tiles)
    alone = np.concatenate([classifier.logits(tile[None]) for tile in tiles])
    np.testing.assert_array_equal(together, alone)


def test_two_logits_count_as_their_difference(tmp_path: Path) -> None:
    tiles = some_tiles(3)
    expected = by_hand(tiles, 1) - by_hand(tiles, 0)
    for classifier in (TorchClassifier(MeanColour(2), "two"), OnnxClassifier(save_onnx(tmp_path / "two.onnx", 2))):
        np.testing.assert_allclose(classifier.logits(tiles), expected, atol=1e-5)


@pytest.mark.parametrize("outputs", [0, 1])
@pytest.mark.parametrize("batch", ["batch", 1, 4])
def test_onnx_gives_one_logit_per_tile(tmp_path: Path, batch: int | str, outputs: int) -> None:
    classifier: FrozenClassifier = OnnxClassifier(save_onnx(tmp_path / "mean.onnx", outputs, batch=batch), batch_size=3)
    tiles = some_tiles(5)
    logits = classifier.logits(tiles)
    assert logits.dtype == np.float64
    np.testing.assert_allclose(logits, by_hand(tiles), atol=1e-5)
    assert classifier.name == "mean"


def test_no_tiles_have_no_logits() -> None:
    assert TorchClassifier(MeanColour(), "mean").logits(some_tiles(0)).shape == (0,)


@pytest.mark.parametrize(
    ("content", "message"), [(b"not a network", "can load"), (b"", "can load"), (None, "no such file")]
)
def test_a_bad_file_is_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "bad.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        OnnxClassifier(path)
    assert "bad.onnx" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_network_is_refused(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "cut.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"cut\.onnx"):
        OnnxClassifier(path)


@pytest.mark.parametrize("kind", ["channels", "dtype"])
def test_another_input_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "other.onnx"
    if kind == "channels":
        save_onnx(path, channels=4)
    else:
        save_onnx(path, dtype=TensorProto.UINT8)
    with pytest.raises(ModelError, match=r"must be tensor\(float\)"):
        OnnxClassifier(path)


def test_tiles_of_another_size_are_refused(tmp_path: Path) -> None:
    classifier = OnnxClassifier(save_onnx(tmp_path / "fixed.onnx", side=8))
    assert classifier.logits(some_tiles(2)).shape == (2,)
    with pytest.raises(ModelError, match="8 x 8 px, not 16 x 16"):
        classifier.logits(some_tiles(2, side=16))


def test_a_failing_run_is_one_line(tmp_path: Path) -> None:
    # The channel count is free in the input and wrong in the weights, which shows only when it runs.
    path = save_onnx(tmp_path / "fails.onnx", channels=4)
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "channels"
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match="failed on tiles") as caught:
        OnnxClassifier(path).logits(some_tiles(2))
    assert "\n" not in str(caught.value)


def test_three_outputs_are_refused() -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(3))
    with pytest.raises(ModelError, match="one or two logits"):
        TorchClassifier(module, "three").logits(some_tiles(2))


def test_logits_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "inf.onnx", scale=float("inf"))
    with pytest.raises(ModelError, match="not finite"):
        OnnxClassifier(path).logits(some_tiles(2))


def test_a_missing_onnxruntime_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"pip install wsicomp\[onnx\]"):
        OnnxClassifier(save_onnx(tmp_path / "mean.onnx"))


def test_what_are_not_tiles_is_refused(tmp_path: Path) -> None:
    wrong = some_tiles(2).transpose(0, 3, 1, 2)
    for classifier in (TorchClassifier(MeanColour(), "mean"), OnnxClassifier(save_onnx(tmp_path / "mean.onnx"))):
        with pytest.raises(ValueError, match=r"\(N, H, W, 3\) uint8"):
            classifier.logits(wrong)
