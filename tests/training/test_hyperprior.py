"""The recipe of the learned peers: weights that the benchmark finds, and a resumed run that is the same run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.rd.learned import PeerCodec, peer_codecs
from wsicomp.datasets.crops import CropSampler
from wsicomp.errors import ModelError
from wsicomp.evaluation.classical import Coded
from wsicomp.models.hyperprior import PEERS
from wsicomp.models.registry import load_model
from wsicomp.pipeline.transforms import load_codec
from wsicomp.training.hyperprior import HyperpriorRecipe, train_hyperprior
from wsicomp.training.run import Run

pytestmark = pytest.mark.usefixtures("one_torch_thread")

CPU = torch.device("cpu")


def made_up(count: int) -> CropSampler:
    rng = np.random.default_rng(0)
    return CropSampler({"made-up": [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(count)]}, 64)


def test_trained_peers_are_found_and_measured(tmp_path: Path) -> None:
    sampler = made_up(2)
    for name in PEERS:
        recipe = HyperpriorRecipe(name, 0.004, steps=2, batch_size=1, crop_px=64)
        train_hyperprior(sampler, recipe, Run.open(tmp_path / name, resume=False), device=CPU)
        assert load_model(tmp_path / name / "weights.safetensors").family == "peer"
        with pytest.raises(ModelError, match="a peer, where a codec is needed"):
            load_codec(tmp_path / name / "weights.safetensors")
    codecs = peer_codecs(tmp_path)
    assert [(codec.name, codec.setting) for codec in codecs] == [(name, "lmbda 0.0040") for name in PEERS]
    tiles = np.stack(sampler.images["made-up"])
    coded = codecs[0].run(tiles)
    assert isinstance(codecs[0], PeerCodec)
    assert isinstance(coded, Coded)
    assert coded.x_hat.shape == tiles.shape
    assert coded.bytes > 0
    assert coded.decode_macs is not None
    assert coded.decode_macs > 30_000


def test_an_interrupted_training_goes_on_as_it_would_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsicomp.training.loop.Training.checkpoint_steps", 2)
    recipe = HyperpriorRecipe("balle2018-hyperprior", 0.004, steps=3, batch_size=1, crop_px=64)
    whole, cut = (Run.open(tmp_path / name, resume=False) for name in ("whole", "cut"))
    train_hyperprior(made_up(1), recipe, whole, device=CPU)

    class Interrupted(CropSampler):
        def batch(self, size: int, *, seed: int, step: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
            if step == 2:
                raise KeyboardInterrupt
            return super().batch(size, seed=seed, step=step)

    with pytest.raises(KeyboardInterrupt):
        train_hyperprior(Interrupted(made_up(1).images, 64), recipe, cut, device=CPU)
    assert cut.checkpoint.exists()
    assert not cut.weights.exists()
    train_hyperprior(made_up(1), recipe, cut, device=CPU)
    assert cut.weights.read_bytes() == whole.weights.read_bytes()


def test_a_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no weights"):
        peer_codecs(tmp_path)


@pytest.mark.parametrize(
    "settings", [{"name": "unknown"}, {"crop_px": 96}, {"steps": 0}, {"batch_size": 0}], ids=lambda s: next(iter(s))
)
def test_a_recipe_that_cannot_be_is_refused(settings: dict[str, object]) -> None:
    good: dict[str, object] = {"name": "minnen2018-mean", "lmbda": 0.004, "steps": 1}
    with pytest.raises(ValueError, match=r"none of|multiple|at least"):
        HyperpriorRecipe(**(good | settings))  # type: ignore[arg-type]
