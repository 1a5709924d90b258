"""The sequential recipe: what a depth may move, that a resumed run is the same run, and the int8 range."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_msssim import ssim
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.training.contents import contents
from wsicomp.codec.quantiser import LatentQuantiser
from wsicomp.datasets.crops import CropSampler
from wsicomp.datasets.patches import PatchTable
from wsicomp.errors import ConfigError, DataError
from wsicomp.models.autoencoder import StudyAutoencoder
from wsicomp.models.registry import STUDY_CODEC, load_model
from wsicomp.progress import Progress
from wsicomp.training.autoencoder import (
    AutoencoderRecipe,
    fix_latent_range,
    freeze_below,
    study_loss,
    train_autoencoder,
    wake,
)
from wsicomp.training.run import Run

CPU = torch.device("cpu")
RECIPE = AutoencoderRecipe(depths=3, steps=3, batch_size=2, crop_px=32, seed=5)

State = dict[str, Tensor]


class Interrupted(Exception):
    """What stops a run in these tests."""


def stop_at(step: int) -> Progress:
    """Progress that ends the run once so many steps of all depths are done."""

    def progress(done: int, total: int, note: str = "") -> None:
        if done == step:
            raise Interrupted

    return progress


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def snapshot(module: nn.Module) -> State:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def moved(before: State, after: State) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.fixture(scope="module")
def trained(tissue: PatchTable, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, StudyAutoencoder, list[State]]:
    """A whole run, with the state before it and after each depth."""
    run = Run.open(tmp_path_factory.mktemp("run"), resume=False)
    torch.manual_seed(RECIPE.seed)
    states = [snapshot(StudyAutoencoder(RECIPE.depths))]

    def progress(done: int, total: int, note: str = "") -> None:
        assert total == RECIPE.depths * RECIPE.steps
        if done > RECIPE.steps:  # the checkpoint is that of the end of the depth before
            tensors = load_file(run.checkpoint)
            states.append({k.removeprefix("module."): t for k, t in tensors.items() if k.startswith("module.")})

    model = train_autoencoder([tissue], RECIPE, run, device=CPU, progress=progress)
    return run, model, [*states, snapshot(model)]


class TestFreezing:
    @pytest.mark.parametrize("depth", [1, 2, 3])
    def test_a_depth_moves_its_own_block_and_decoder_and_nothing_else(
        self, trained: tuple[Run, StudyAutoencoder, list[State]], depth: int
    ) -> None:
        before, after = trained[2][depth - 1], trained[2][depth]
        own = (f"encoder.{depth - 1}.", f"decoders.{depth - 1}.")
        expected = {name for name in before if name.startswith(own)} | {"latent_scale", "latent_offset"}
        assert moved(before, after) == expected
        for name in ("latent_scale", "latent_offset"):  # each depth has a row
            others = [row for row in range(RECIPE.depths) if row != depth - 1]
            assert torch.equal(before[name][others], after[name][others])

    def test_a_depths_batch_norm_has_seen_its_steps_and_no_later_ones(
        self, trained: tuple[Run, StudyAutoencoder, list[State]]
    ) -> None:
        counts = [int(trained[2][-1][f"encoder.{k}.2.num_batches_tracked"]) for k in range(RECIPE.depths)]
        assert len(set(counts)) == 1
        assert RECIPE.steps <= counts[0] <= RECIPE.steps + 2  # waking looks at a batch as well

    @pytest.mark.parametrize("depth", [1, 2, 3])
    def test_only_the_parts_of_a_depth_train(self, depth: int) -> None:
        model = StudyAutoencoder(3)
        parameters = freeze_below(model, depth)
        parts = [model.encoder[depth - 1], model.decoders[depth - 1]]
        own = {id(p) for part in parts for p in part.parameters()}
        assert {id(p) for p in parameters} == own == {id(p) for p in model.parameters() if p.requires_grad}
        training = {id(layer) for layer in model.modules() if layer.training}
        assert training == {id(layer) for part in parts for layer in part.modules()}


class TestRun:
    def test_the_weights_of_a_run_are_the_model_it_returns(
        self, trained: tuple[Run, StudyAutoencoder, list[State]], tissue: PatchTable
    ) -> None:
        run, model, _ = trained
        loaded = load_model(run.weights, key=STUDY_CODEC)
        assert same(loaded.module.state_dict(), model.state_dict())
        assert loaded.notes["data"] == tissue.name
        assert not any(layer.training for layer in model.modules())

    def test_the_log_holds_the_loss_of_each_depth(self, trained: tuple[Run, StudyAutoencoder, list[State]]) -> None:
        entries = [json.loads(line) for line in (trained[0].folder / "log.jsonl").read_text().splitlines()]
        assert [(entry["depth"], entry["step"]) for entry in entries] == [(1, 3), (2, 3), (3, 3)]
        assert all(0 < entry["loss"] < 1.5 for entry in entries)

    @pytest.mark.parametrize("finished", [0, 1, 2])
    def test_an_interrupted_and_resumed_run_ends_bit_for_bit_as_an_uninterrupted_one(
        self,
        trained: tuple[Run, StudyAutoencoder, list[State]],
        tissue: PatchTable,
        tmp_path: Path,
        finished: int,
    ) -> None:
        run = Run.open(tmp_path, resume=False)
        with pytest.raises(Interrupted):
            train_autoencoder([tissue], RECIPE, run, device=CPU, progress=stop_at((finished + 1) * RECIPE.steps))
        assert not run.weights.exists()
        assert run.checkpoint.exists() == (finished > 0)
        torch.rand(3)  # a new process has another state of the global generator
        model = train_autoencoder([tissue], RECIPE, Run.open(tmp_path, resume=True), device=CPU)
        assert same(model.state_dict(), trained[1].state_dict())
        assert contents(run.weights) == contents(trained[0].weights)

    def test_a_run_resumed_within_a_depth_ends_the_same(self, tissue: PatchTable, tmp_path: Path) -> None:
        recipe = AutoencoderRecipe(depths=1, steps=502, batch_size=1, crop_px=16)
        whole, cut = (Run.open(tmp_path / name, resume=False) for name in ("whole", "cut"))

        def progress(done: int, total: int, note: str = "") -> None:
            if done == recipe.steps:  # the checkpoint of step 500 is there, that of the end is not
                shutil.copy(whole.checkpoint, cut.checkpoint)

        expected = train_autoencoder([tissue], recipe, whole, device=CPU, progress=progress)
        model = train_autoencoder([tissue], recipe, cut, device=CPU)
        assert len((cut.folder / "log.jsonl").read_text().splitlines()) == 1  # two steps were left to do
        assert same(model.state_dict(), expected.state_dict())

    def test_a_finished_run_is_resumed_without_training(
        self, trained: tuple[Run, StudyAutoencoder, list[State]], tissue: PatchTable, tmp_path: Path
    ) -> None:
        run = Run.open(tmp_path, resume=False)
        shutil.copy(trained[0].checkpoint, run.checkpoint)
        train_autoencoder([tissue], RECIPE, run, device=CPU, progress=stop_at(0))
        assert contents(run.weights) == contents(trained[0].weights)
        assert not (run.folder / "log.jsonl").exists()

    @pytest.mark.parametrize(
        "change",
        [{"depths": 2}, {"steps": 4}, {"batch_size": 3}, {"crop_px": 16}, {"learning_rate": 1e-3}, {"seed": 6}],
        ids=str,
    )
    def test_a_checkpoint_of_other_settings_is_refused(
        self,
        trained: tuple[Run, StudyAutoencoder, list[State]],
        tissue: PatchTable,
        tmp_path: Path,
        change: dict[str, int],
    ) -> None:
        run = Run.open(tmp_path, resume=False)
        shutil.copy(trained[0].checkpoint, run.checkpoint)
        with pytest.raises(ConfigError, match="other settings"):
            train_autoencoder([tissue], dataclasses.replace(RECIPE, **change), run, device=CPU)
        assert not run.weights.exists()

    def test_a_checkpoint_of_other_tables_is_refused(
        self, trained: tuple[Run, StudyAutoencoder, list[State]], tissue: PatchTable, tmp_path: Path
    ) -> None:
        run = Run.open(tmp_path, resume=False)
        shutil.copy(trained[0].checkpoint, run.checkpoint)
        with pytest.raises(ConfigError, match="other settings"):
            train_autoencoder([dataclasses.replace(tissue, name="other")], RECIPE, run, device=CPU)

    def test_another_seed_gives_other_weights(self, tissue: PatchTable, tmp_path: Path) -> None:
        recipe = AutoencoderRecipe(depths=1, steps=1, batch_size=1, crop_px=16)
        models = [
            train_autoencoder([tissue], dataclasses.replace(recipe, seed=seed), run, device=CPU)
            for seed in (0, 1)
            for run in [Run.open(tmp_path / str(seed), resume=False)]
        ]
        assert not same(models[0].state_dict(), models[1].state_dict())

    def test_training_lowers_the_loss(self, tissue: PatchTable, tmp_path: Path) -> None:
        recipe = AutoencoderRecipe(depths=1, steps=100, batch_size=4, crop_px=16, learning_rate=1e-2)
        run = Run.open(tmp_path, resume=False)
        train_autoencoder([tissue], recipe, run, device=CPU)
        early, late = (json.loads(line)["loss"] for line in (run.folder / "log.jsonl").read_text().splitlines())
        x = torch.from_numpy(CropSampler.load([tissue], crop_px=16).batch(4, seed=0, step=0)).float() / 255
        assert late < early < float(study_loss(torch.full_like(x, 0.5), x))

    def test_images_smaller_than_a_crop_are_refused(self, tissue: PatchTable, tmp_path: Path) -> None:
        recipe = AutoencoderRecipe(depths=1, steps=1, crop_px=64)
        with pytest.raises(DataError, match="an image of 48 px is smaller than the crop of 64 px"):
            train_autoencoder([tissue], recipe, Run.open(tmp_path, resume=False), device=CPU)


class TestRecipe:
    @pytest.mark.parametrize(
        "change", [{"depths": 0}, {"depths": 7}, {"crop_px": 100}, {"crop_px": 8}, {"steps": 0}, {"batch_size": 0}]
    )
    def test_settings_that_cannot_be_are_refused(self, change: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="|".join(change)):
            AutoencoderRecipe(**change)


class TestLoss:
    def test_it_is_the_studys_formula(self) -> None:
        generator = torch.Generator().manual_seed(0)
        x_hat, x = (torch.rand(2, 3, 24, 32, generator=generator) for _ in range(2))
        error = (x_hat - x).numpy().astype(np.float64)
        structure = float(ssim(x_hat, x, data_range=1.0))
        expected = 0.5 * (error**2).mean() + 0.5 * np.abs(error).mean() + 0.5 * (1 - structure)
        assert float(study_loss(x_hat, x)) == pytest.approx(expected, rel=1e-5)

    def test_of_plain_pictures_it_is_known_by_hand(self) -> None:
        x = torch.full((1, 3, 16, 16), 0.25)
        luminance = (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)  # SSIM of two constants
        expected = 0.5 * 0.25 + 0.5 * 0.5 + 0.5 * (1 - luminance)
        assert float(study_loss(x + 0.5, x)) == pytest.approx(expected, abs=1e-4)

    def test_it_is_zero_for_the_picture_itself(self) -> None:
        x = torch.rand(2, 3, 16, 16)
        assert float(study_loss(x, x)) == pytest.approx(0, abs=1e-6)


def channel_values(z: Tensor) -> Tensor:
    return z.detach().movedim(1, 0).flatten(1)  # (N, C, h, w) -> (C, n)


@pytest.fixture(scope="module")
def crops(tissue: PatchTable) -> Tensor:
    sampler = CropSampler.load([tissue], crop_px=32)
    return torch.from_numpy(sampler.batch(8, seed=9, step=9)).float() / 255


class TestWake:
    @pytest.mark.parametrize("depth", [1, 2, 3])
    @pytest.mark.parametrize("seed", range(4))
    def test_every_channel_is_positive_on_most_pixels(self, crops: Tensor, depth: int, seed: int) -> None:
        torch.manual_seed(seed)
        model = StudyAutoencoder(3)
        freeze_below(model, depth)
        with torch.no_grad():
            z = model.encode(crops, depth - 1) if depth > 1 else crops
        wake(model, depth, z)
        with torch.no_grad():
            for block in [model.encoder[depth - 1], *model.decoders[depth - 1].children()][:-1]:
                for layer in block.children():
                    z = layer(z)
                    if isinstance(layer, nn.Conv2d):
                        assert (channel_values(z) > 0).double().mean(dim=1).min() == pytest.approx(0.9, abs=0.02)

    def test_without_it_channels_start_dead(self, crops: Tensor) -> None:
        dead = 0
        for seed in range(4):
            torch.manual_seed(seed)
            values = channel_values(StudyAutoencoder(1).encode(crops, 1))
            dead += int((values.std(dim=1) < 1e-6).sum())
        assert dead > 0

    @pytest.mark.parametrize("seed", range(4))
    def test_a_run_has_every_channel_of_every_latent_alive(
        self, tissue: PatchTable, crops: Tensor, tmp_path: Path, seed: int
    ) -> None:
        recipe = AutoencoderRecipe(depths=3, steps=1, batch_size=2, crop_px=16, learning_rate=1e-6, seed=seed)
        model = train_autoencoder([tissue], recipe, Run.open(tmp_path, resume=False), device=CPU)
        for depth in (1, 2, 3):
            assert (channel_values(model.encode(crops, depth)).std(dim=1) > 1e-3).all()

    def test_it_moves_nothing_of_another_depth(self, crops: Tensor) -> None:
        model = StudyAutoencoder(3)
        freeze_below(model, 2)
        before = snapshot(model)
        wake(model, 2, model.encode(crops, 1))
        biases = {name for name in moved(before, snapshot(model)) if "bias" in name}
        assert biases == {"encoder.1.0.bias", "decoders.1.0.1.bias"}
        assert all(name.startswith(("encoder.1.", "decoders.1.")) for name in moved(before, snapshot(model)))


class TestLatentRange:
    @pytest.mark.parametrize("depth", [1, 2, 3])
    def test_training_latents_fill_int8_and_few_are_clipped(
        self, trained: tuple[Run, StudyAutoencoder, list[State]], tissue: PatchTable, depth: int
    ) -> None:
        model = trained[1]
        sampler = CropSampler.load([tissue], crop_px=32)
        x = np.concatenate([sampler.batch(2, seed=RECIPE.seed + depth, step=RECIPE.steps + k) for k in range(16)])
        z = model.encode(torch.from_numpy(x).float() / 255, depth).detach()
        scale, offset = model.latent_range(depth)
        quantiser = LatentQuantiser("int8", scale, offset)
        q = quantiser.quantise(z)
        levels = channel_values(q).int()
        assert (levels.max(dim=1).values == 127).all()
        assert (levels.min(dim=1).values == -127).all()
        off = (quantiser.dequantise(q) - z).abs() > 0.501 * scale.view(1, -1, 1, 1)
        assert channel_values(off).double().mean(dim=1).max() <= 2e-4

    def test_outliers_do_not_stretch_the_range(self) -> None:
        model = StudyAutoencoder(1).eval()
        model.encoder[0] = nn.Identity()  # the latent is the picture, of six channels
        z = torch.rand(1, 6, 200, 200)
        z[0, :, 0, :2] = torch.tensor([1e4, -1e4])
        fix_latent_range(model, 1, [z])
        scale, offset = model.latent_range(1)
        torch.testing.assert_close(scale, torch.full((6,), 1 / 254), rtol=0.01, atol=0)
        torch.testing.assert_close(offset, torch.full((6,), 0.5), rtol=0.01, atol=0)

    def test_a_constant_channel_keeps_its_value(self) -> None:
        model = StudyAutoencoder(1).eval()
        model.encoder[0] = nn.Identity()
        z = torch.full((1, 6, 8, 8), 0.75)
        fix_latent_range(model, 1, [z])
        quantiser = LatentQuantiser("int8", *model.latent_range(1))
        torch.testing.assert_close(quantiser.dequantise(quantiser.quantise(z)), z)
