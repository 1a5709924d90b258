"""Checkpoints: module, moments and position come back bit for bit, or the file is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wsicomp.errors import ConfigError, DataError
from wsicomp.training.checkpoint import load_checkpoint, restore_moments, save_checkpoint
from wsicomp.training.optimiser import MuonAdamW

POSITION = {"depth": 2, "step": 500}
Trained = tuple[nn.Module, Any]


def build(kind: Callable[..., Any] = torch.optim.Adam) -> Trained:
    torch.manual_seed(0)
    # More than ten parameters, so that an order by name, 0, 1, 10, 2, would show.
    layers = [layer for _ in range(6) for layer in (nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))]
    module = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module, kind(module.parameters(), 1e-2)


def advance(module: nn.Module, optimizer: Any, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.rand(2, 8, 8, 8, generator=generator)
        module.zero_grad()
        (module(x) - x.flip(1)).square().mean().backward()
        optimizer.step()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    module, optimizer = build()
    advance(module, optimizer, 2, seed=1)
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, module, optimizer, recipe="mine", position=POSITION)
    return path


@pytest.mark.parametrize("kind", [torch.optim.Adam, partial(torch.optim.AdamW, fused=True), MuonAdamW])
def test_training_goes_on_bit_for_bit(tmp_path: Path, kind: Callable[..., Any]) -> None:
    path = tmp_path / "checkpoint.safetensors"
    module, optimizer = build(kind)
    advance(module, optimizer, 3, seed=1)
    save_checkpoint(path, module, optimizer, recipe="mine", position=POSITION)
    advance(module, optimizer, 3, seed=2)

    resumed, fresh = build(kind)
    state, moments, position = load_checkpoint(path, recipe="mine")
    resumed.load_state_dict(state)
    restore_moments(fresh, moments)
    advance(resumed, fresh, 3, seed=2)
    assert position == POSITION
    for (name, a), b in zip(module.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_an_optimiser_that_has_not_stepped_leaves_no_moments(tmp_path: Path) -> None:
    module, optimizer = build()
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, module, optimizer, recipe="mine", position=POSITION)
    state, moments, _ = load_checkpoint(path, recipe="mine")
    assert moments == {}
    assert state.keys() == module.state_dict().keys()


def test_saving_replaces_the_checkpoint_and_leaves_nothing_beside_it(checkpoint: Path) -> None:
    module, optimizer = build()
    save_checkpoint(checkpoint, module, optimizer, recipe="mine", position={"depth": 3, "step": 0})
    assert load_checkpoint(checkpoint, recipe="mine")[2] == {"depth": 3, "step": 0}
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


def test_a_checkpoint_of_other_settings_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="of a run with other settings"):
        load_checkpoint(checkpoint, recipe="yours")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(checkpoint: Path, share: float) -> None:
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match="damaged checkpoint"):
        load_checkpoint(checkpoint, recipe="mine")


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.path,)


def test_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    path, sprung = tmp_path / "checkpoint.safetensors", tmp_path / "sprung"
    path.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(DataError, match="damaged checkpoint"):
        load_checkpoint(path, recipe="mine")
    assert not sprung.exists()


@pytest.mark.parametrize("header", [None, {}, {"recipe": "mine"}, {"recipe": "mine", "position": "not json"}])
def test_a_checkpoint_of_another_program_is_refused(tmp_path: Path, header: dict[str, str] | None) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_file({"module.x": torch.zeros(1)}, path, metadata=header)
    with pytest.raises(DataError, match="damaged checkpoint"):
        load_checkpoint(path, recipe="mine")
