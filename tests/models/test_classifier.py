"""The study's classifier: its size at full width, its logits, and the sizes of pictures that pass."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from wsicomp.models.classifier import StudyClassifier
from wsicomp.models.registry import CLASSIFIER, save_model

COMPACT = 0.1875
TINY = 1 / 16


@pytest.fixture(scope="module")
def tiny() -> StudyClassifier:
    torch.manual_seed(0)
    return StudyClassifier(TINY).eval()


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]


def floored(model: StudyClassifier) -> StudyClassifier:
    """Copy whose pooling rounds sizes down, as the study's does."""
    twin = copy.deepcopy(model)
    for layer in twin.modules():
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = False
    return twin


def test_full_width_is_the_studys_network() -> None:
    with torch.device("meta"):  # 25 million parameters that nobody allocates
        model = StudyClassifier()
    assert [layer.out_channels for layer in convolutions(model)] == [16, 32, 64, 128, 256, 512, 1024, 2048]
    assert {layer.kernel_size for layer in convolutions(model)} == {(3, 3)}
    assert 25e6 <= sum(parameter.numel() for parameter in model.parameters()) < 27e6


@pytest.mark.parametrize("block", range(8))
def test_a_block_is_convolution_relu_norm_pool(tiny: StudyClassifier, block: int) -> None:
    kinds = [type(layer) for layer in tiny.blocks[block].children()]
    assert kinds == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d, nn.MaxPool2d]


def test_the_compact_network_is_small_in_parameters_and_on_disk(tmp_path: Path) -> None:
    model = StudyClassifier(COMPACT)
    assert sum(parameter.numel() for parameter in model.parameters()) < 1e6
    path = tmp_path / "compact.safetensors"
    save_model(path, model, key=CLASSIFIER, settings={"width": COMPACT}, notes={}, dtype=torch.float16)
    assert path.stat().st_size <= 2_000_000


@torch.inference_mode()
def test_at_256_px_rounding_up_changes_nothing(tiny: StudyClassifier) -> None:
    x = torch.rand(2, 3, 256, 256)
    assert tiny.blocks(x).shape[2:] == (1, 1)
    assert torch.equal(tiny(x), floored(tiny)(x))


@pytest.mark.parametrize(("height", "width"), [(256, 256), (224, 224), (100, 100), (97, 33), (28, 28)])
@torch.inference_mode()
def test_pictures_of_any_size_give_one_finite_logit_each(tiny: StudyClassifier, height: int, width: int) -> None:
    logits = tiny(torch.rand(3, 3, height, width))
    assert logits.shape == (3,)
    assert logits.isfinite().all()


@torch.inference_mode()
def test_at_224_px_rounding_down_would_leave_nothing(tiny: StudyClassifier) -> None:
    with pytest.raises(RuntimeError, match="too small"):
        floored(tiny)(torch.rand(1, 3, 224, 224))


@torch.inference_mode()
def test_each_picture_is_scored_alone_and_one_picture_keeps_its_axis(tiny: StudyClassifier) -> None:
    x = torch.rand(3, 3, 64, 64)
    alone = torch.cat([tiny(x[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(tiny(x), alone)


@pytest.mark.parametrize("width", [1e-3, TINY, COMPACT, 1.0, 2.0])
def test_width_scales_every_block(width: int) -> None:
    with torch.device("meta"):
        model = StudyClassifier(width)
    expected = [max(round(width * 16 * 2**block), 1) for block in range(8)]
    assert [layer.out_channels for layer in convolutions(model)] == expected
    assert [layer.in_channels for layer in convolutions(model)] == [3, *expected[:-1]]


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    model = StudyClassifier(TINY, dropout=0.9)
    x = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(model(x), model(x))
        model.eval()
        assert torch.equal(model(x), model(x))
