"""The recipe of `wsic`: weights with all their tables, a resumed run that is the same run, and a loss that falls."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_msssim import ms_ssim
from safetensors import safe_open
from torch import nn

from tests.wsic_weights import random_scales
from wsicomp.codec import rans
from wsicomp.codec.entropy_model import EntropyModel
from wsicomp.datasets.crops import NO_VARIATION, CropSampler
from wsicomp.datasets.patches import PatchTable
from wsicomp.errors import ConfigError, DataError, ModelError
from wsicomp.models.context import SLICES
from wsicomp.models.registry import WSIC, load_model
from wsicomp.models.wsic import LATENT_CHANNELS, QUALITIES, Wsic
from wsicomp.progress import Progress
from wsicomp.training import codec, loop
from wsicomp.training.codec import (
    LMBDA,
    CodecRecipe,
    Objective,
    depth_shares,
    distortion,
    fit_entropy,
    fit_sampler,
    lmbda,
    ms_ssim_window_px,
    train_codec,
)
from wsicomp.training.distributed import Processes
from wsicomp.training.rate import ScaleNetwork, integers
from wsicomp.training.run import Run

CPU = torch.device("cpu")
ALONE = Processes(0, 1, CPU)
RECIPE = CodecRecipe(depths=(1, 3), steps=3, batch_size=2, crop_px=32, seed=5)


class Interrupted(Exception):
    """What stops a run in these tests."""


@pytest.fixture(scope="module")
def small_fit() -> Iterator[None]:
    """Fit tables to few crops, of the 48 px that the patches have."""
    patch = pytest.MonkeyPatch()
    patch.setattr(codec, "FIT_CROPS", 4)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def trained(small_fit: None, tissue: PatchTable, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Wsic]:
    run = Run.open(tmp_path_factory.mktemp("run"), resume=False)
    return run, train_codec([tissue], RECIPE, run, group=ALONE)


def test_the_weights_of_a_run_are_the_model_it_returns(trained: tuple[Run, Wsic], tissue: PatchTable) -> None:
    run, model = trained
    loaded = load_model(run.weights, key=WSIC)
    assert isinstance(loaded.module, Wsic)
    assert loaded.module.depths == RECIPE.depths
    assert loaded.notes == {"data": tissue.name, "steps": "3"}
    state = model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.module.state_dict().items())
    with safe_open(run.weights, framework="pt") as file:
        stored = [file.get_tensor(name).dtype for name in file.keys()]  # noqa: SIM118
    assert stored.count(torch.float16) == len(state)
    assert torch.float32 not in stored


def entropy_of(arrays: Mapping[str, NDArray[np.generic]], depth: int) -> EntropyModel:
    prefix = f"{depth}/"
    return EntropyModel.from_arrays({n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)})


@pytest.mark.parametrize("depth", RECIPE.depths)
def test_every_depth_has_a_sound_entropy_model(trained: tuple[Run, Wsic], depth: int) -> None:
    fitted = entropy_of(load_model(trained[0].weights).arrays, depth)
    channels = LATENT_CHANNELS[depth - 1]
    assert fitted.channels == channels
    assert tuple(fitted.scales.slices) == SLICES[depth]
    latent = np.random.default_rng(0).integers(-9, 10, (channels, 4, 4)).astype(np.int16)
    stream = rans.encode(latent, fitted)
    np.testing.assert_array_equal(rans.decode(stream, (channels, 4, 4), fitted), latent)


def test_no_other_arrays_are_kept(trained: tuple[Run, Wsic]) -> None:
    loaded = load_model(trained[0].weights)
    arrays = loaded.arrays
    assert {name.split("/")[0] for name in arrays} == {str(depth) for depth in RECIPE.depths}
    for depth in RECIPE.depths:
        assert set(loaded.arrays_of(depth)) == {name.split("/")[1] for name in arrays}
    assert len({name.split("/")[1] for name in arrays}) * len(RECIPE.depths) == len(arrays)


def test_tables_are_fitted_to_the_symbols_of_all_qualities(tissue: PatchTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "FIT_CROPS", 5)
    torch.manual_seed(0)
    model = Wsic(RECIPE.depths).eval()
    rates = nn.ModuleDict({str(depth): random_scales(depth) for depth in RECIPE.depths})
    sampler = fit_sampler(CropSampler.load([tissue], crop_px=32))
    arrays = fit_entropy(model, rates, sampler, RECIPE, CPU)
    crops = torch.from_numpy(sampler.batch(5, seed=RECIPE.seed, step=0)).float() / 255
    for depth in RECIPE.depths:
        with torch.inference_mode():
            symbols = [model.encode(x[None], depth, torch.tensor([k * 7 / 4]))[0].numpy() for k, x in enumerate(crops)]
        expected = EntropyModel.fit(
            integers(cast(ScaleNetwork, rates[str(depth)])), [latent.astype(np.int16) for latent in symbols]
        )
        found = entropy_of(arrays, depth)
        assert {name: array.tolist() for name, array in found.scales.arrays().items()} == {
            name: array.tolist() for name, array in expected.scales.arrays().items()
        }
        # Batches of another size round a few symbols differently.
        difference = found.costs[:, 120:136].astype(int) - expected.costs[:, 120:136]
        assert np.abs(difference).mean() < 2


@pytest.mark.parametrize(("sides", "crop_px"), [([400, 300], 192), ([192], 192), ([191, 500], 176), ([32, 99], 32)])
def test_crops_to_fit_to_are_plain_and_no_larger_than_the_images(sides: list[int], crop_px: int) -> None:
    images = [np.full((side, side + 9, 3), 77, np.uint8) for side in sides]
    sampler = fit_sampler(CropSampler({"lung": images[:1], "oral": images[-1:]}, crop_px=32))
    batch = sampler.batch(6, seed=0, step=0)
    assert batch.shape == (6, 3, crop_px, crop_px)
    assert (batch == 77).all()  # not stained
    assert sampler.variation == NO_VARIATION


@pytest.mark.parametrize("depths", [(1,), (1, 3), (1, 2, 3, 4)])
def test_deeper_depths_have_more_of_the_steps(depths: tuple[int, ...]) -> None:
    shares = depth_shares(depths)
    assert shares.sum() == pytest.approx(1)
    assert (np.diff(shares) > 0).all()
    np.testing.assert_allclose(shares / shares[0], np.array(depths) ** 2)


def test_the_log_tells_rate_and_distortion(trained: tuple[Run, Wsic]) -> None:
    (entry,) = [json.loads(line) for line in (trained[0].folder / "log.jsonl").read_text().splitlines()]
    assert entry.keys() == {"step", "depth", "loss", "bits_per_pixel", "psnr_db"}
    assert (entry["step"], entry["depth"] in RECIPE.depths) == (3, True)
    assert entry["bits_per_pixel"] > 0


@pytest.mark.parametrize("stop", [1, 2])
def test_an_interrupted_and_resumed_run_ends_bit_for_bit_as_an_uninterrupted_one(
    trained: tuple[Run, Wsic], tissue: PatchTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    run = Run.open(tmp_path / "run", resume=False)
    save = loop.__dict__["save_checkpoint"]

    def save_and_stop(*arguments: object, position: dict[str, int], **options: object) -> None:
        save(*arguments, position=position, **options)
        if position["step"] == stop:
            raise Interrupted

    monkeypatch.setattr(loop, "save_checkpoint", save_and_stop)
    monkeypatch.setattr(loop.Training, "checkpoint_steps", 1)
    with pytest.raises(Interrupted):
        train_codec([tissue], RECIPE, run, group=ALONE)
    assert not run.weights.exists()
    monkeypatch.setattr(loop, "save_checkpoint", save)
    train_codec([tissue], RECIPE, Run.open(run.folder, resume=True), group=ALONE)
    assert run.weights.read_bytes() == trained[0].weights.read_bytes()


def test_a_checkpoint_of_other_settings_is_refused(trained: tuple[Run, Wsic], tissue: PatchTable) -> None:
    with pytest.raises(ConfigError):
        train_codec([tissue], dataclasses.replace(RECIPE, seed=6), Run(trained[0].folder), group=ALONE)


def test_patches_smaller_than_a_crop_are_refused(tissue: PatchTable, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="smaller than the crop"):
        train_codec([tissue], dataclasses.replace(RECIPE, crop_px=64), Run(tmp_path), group=ALONE)


@pytest.mark.usefixtures("small_fit")
@pytest.mark.parametrize("weight", [(0.002, 0.05), (1e-9, 1e-9)], ids=["loss", "rate alone"])
def test_what_is_trained_for_falls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weight: tuple[float, float]
) -> None:
    picture: NDArray[np.uint8] = skimage.data.immunohistochemistry()  # type: ignore[no-untyped-call]
    for k in range(4):
        Image.fromarray(picture[64 * k : 64 * k + 64, 200:264]).save(tmp_path / f"{k}.png")
    (tmp_path / "index.csv").write_text("path,organ\n" + "".join(f"{k}.png,prostate\n" for k in range(4)))
    losses: list[float] = []
    measure = codec.Objective.forward

    def watch(
        self: codec.Objective, x: torch.Tensor, depth: int, quality: torch.Tensor, noise: torch.Tensor, counted: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            _, bits, mse = measure(self, x, depth, torch.full_like(quality, 4.0), noise, 1.0)
        at = lmbda(3, torch.full_like(quality, 4.0))
        losses.append((bits + at * 255**2 * distortion(mse, at)).mean().item())
        return measure(self, x, depth, quality, noise, counted)

    monkeypatch.setattr(codec.Objective, "forward", watch)
    monkeypatch.setitem(LMBDA, 3, weight)
    recipe = CodecRecipe(depths=(3,), steps=60, batch_size=2, crop_px=64, learning_rate=5e-3)
    monkeypatch.setattr(codec, "plateau", lambda *_, **__: 1.0)  # the warm-up is made for long runs
    train_codec([PatchTable.load(tmp_path)], recipe, Run.open(tmp_path / "run", resume=False), group=ALONE)
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:5])


@pytest.mark.parametrize(("steps", "expected"), [(8, [0.5]), (20, [0.25, 0.5, 0.75])])
def test_bits_come_to_count_over_the_first_steps(
    steps: int, expected: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[float] = []
    measure = codec.Objective.forward

    def watch(self: codec.Objective, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        found.append(arguments[-1])
        x, depth, quality, noise, counted = arguments
        with torch.no_grad():
            none, _, _ = measure(self, x, depth, quality, noise, 0.0)
            some, _, _ = measure(self, x, depth, quality, noise, counted)
            whole, _, _ = measure(self, x, depth, quality, noise, 1.0)
        torch.testing.assert_close(some, torch.lerp(none, whole, counted))
        assert (whole > none).all()
        return measure(self, *arguments)

    monkeypatch.setattr(codec.Objective, "forward", watch)
    monkeypatch.setattr(codec, "RATE_WARMUP", 4)
    (tmp_path / "index.csv").write_text("path,organ\n0.png,prostate\n")
    Image.fromarray(skimage.data.immunohistochemistry()[:64, :64]).save(tmp_path / "0.png")  # type: ignore[no-untyped-call]
    recipe = CodecRecipe(depths=(3,), steps=steps, batch_size=2, crop_px=64)
    monkeypatch.setattr(codec, "fit_entropy", lambda *_: {})
    train_codec([PatchTable.load(tmp_path)], recipe, Run.open(tmp_path / "run", resume=False), group=ALONE)
    assert found == expected + [1.0] * (steps - len(expected))


@pytest.mark.parametrize(("side", "window"), [(32, 1), (64, 3), (128, 7), (160, 9), (161, 11), (512, 11)])
def test_five_scales_of_the_window_fit_into_a_crop(side: int, window: int) -> None:
    assert ms_ssim_window_px(side) == window
    x = torch.rand(1, 3, side, side)
    assert ms_ssim(x, x, data_range=1.0, win_size=window).item() == pytest.approx(1)


def test_a_quarter_of_what_is_lost_is_structure() -> None:
    x, x_hat = torch.rand(2, 3, 128, 128), torch.rand(2, 3, 128, 128)
    mse, weight = torch.tensor([1e-3, 4e-3]), torch.tensor([1e-3, 1e-2])
    similarity = ms_ssim(x_hat, x, data_range=1.0, size_average=False, win_size=7)
    expected = 0.75 * distortion(mse, weight) + 0.25 / 20 * (1 - similarity)
    torch.testing.assert_close(Objective((3,)).error(x, x_hat, mse, weight), expected)


def test_an_outermost_pixel_counts_as_three_others(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, x = Objective((3,)), torch.rand(1, 3, 128, 128)
    x_hat = torch.full_like(x, 0.5, requires_grad=True)
    monkeypatch.setattr(objective.model, "synthesise", lambda *_: x_hat)
    monkeypatch.setattr(objective, "error", lambda x, x_hat, mse, weight: mse)
    loss, _, mse = objective(x, 3, torch.zeros(1), torch.zeros(1, LATENT_CHANNELS[2], 16, 16), 1.0)
    (gradient,) = torch.autograd.grad(loss.sum(), x_hat)
    steepness = gradient / (x_hat - x).detach()
    inside = steepness[..., 1:-1, 1:-1]
    torch.testing.assert_close(inside, inside.mean().expand_as(inside))
    for side in (steepness[..., 0], steepness[..., -1], steepness[..., 0, :], steepness[..., -1, :]):
        assert (side[..., 1:-1] / inside.mean()).mean().item() == pytest.approx(3.1, abs=0.1)
    assert mse.item() == pytest.approx((x_hat - x).square().mean().item())


def test_training_goes_on_from_weights(trained: tuple[Run, Wsic], tissue: PatchTable, tmp_path: Path) -> None:
    start = load_model(trained[0].weights, key=WSIC)
    recipe = dataclasses.replace(RECIPE, depths=(3,), learning_rate=0.0, seed=6)
    train_codec([tissue], recipe, Run(tmp_path), group=ALONE, start=start)
    after = load_model(tmp_path / "weights.safetensors")
    theirs = start.module.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in after.module.state_dict().items())
    for name in ("slices", "spatial", "inner", "mixing", "outer"):
        np.testing.assert_array_equal(after.arrays_of(3)[name], start.arrays_of(3)[name])
    assert after.notes == {"data": tissue.name, "steps": "3", "from": f"{start.name} {start.sha256}"}
    with pytest.raises(ConfigError, match="other settings"):
        train_codec([tissue], recipe, Run(tmp_path), group=ALONE)


def test_from_weights_on_bits_count_from_the_first_step(
    trained: tuple[Run, Wsic], tissue: PatchTable, tmp_path: Path, small_fit: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[float] = []
    measure = codec.Objective.forward

    def watch(self: codec.Objective, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        found.append(arguments[-1])
        return measure(self, *arguments)

    monkeypatch.setattr(codec.Objective, "forward", watch)
    recipe = dataclasses.replace(RECIPE, steps=2)
    train_codec([tissue], recipe, Run(tmp_path), group=ALONE, start=load_model(trained[0].weights))
    assert found == [1.0, 1.0]


def test_weights_to_go_on_from_must_have_the_depths_and_be_sound(trained: tuple[Run, Wsic]) -> None:
    start = load_model(trained[0].weights)
    with pytest.raises(ConfigError, match="depth 4"):
        Objective((3, 4)).take(start)
    with pytest.raises(ModelError, match="depth 3 is damaged"):
        Objective((3,)).take(dataclasses.replace(start, arrays={}))


def test_a_step_without_a_finite_gradient_is_left_out(
    tissue: PatchTable, tmp_path: Path, small_fit: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "ms_ssim", lambda x_hat, *_, **__: x_hat.mean(dim=(1, 2, 3)) * math.nan)
    recipe = dataclasses.replace(RECIPE, depths=(3,), steps=2)
    model = train_codec([tissue], recipe, Run(tmp_path), group=ALONE)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("depth", LMBDA)
def test_the_weight_of_distortion_is_geometric_in_the_quality(depth: int) -> None:
    weights = lmbda(depth, torch.arange(QUALITIES).float())
    torch.testing.assert_close(weights[[0, -1]], torch.tensor(LMBDA[depth]))
    ratios = weights[1:] / weights[:-1]
    torch.testing.assert_close(ratios, ratios[:1].expand(QUALITIES - 1))


@pytest.mark.parametrize("weight", [0.0008, 0.02, 0.4])
def test_distortion_is_as_steep_as_the_squared_error_where_that_is_usual(weight: float) -> None:
    usual = codec.USUAL_MSE * weight ** (-1 / 3)
    mse = torch.tensor([0.0, 0.1 * usual, usual, 10 * usual], dtype=torch.double, requires_grad=True)
    found = distortion(mse, torch.full_like(mse, weight))
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert mse.grad is not None
    assert torch.isfinite(mse.grad).all()
    assert mse.grad[2].item() == pytest.approx(1, rel=1e-2)
    assert mse.grad[1] > 2 > 1 > mse.grad[3]


@pytest.mark.parametrize(
    "settings",
    [
        {"crop_px": 24},
        {"crop_px": 16},
        {"crop_px": 72},
        {"steps": 0},
        {"batch_size": 0},
        {"depths": ()},
        {"depths": (0, 3)},
        {"depths": (3, 3)},
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"crop_px|steps|depths"):
        CodecRecipe(**settings)


def test_progress_is_told(tissue: PatchTable, tmp_path: Path, small_fit: None) -> None:
    calls: list[tuple[int, int]] = []
    progress: Progress = lambda done, total, note="": calls.append((done, total))  # noqa: E731
    train_codec(
        [tissue], dataclasses.replace(RECIPE, depths=(3,), steps=1), Run(tmp_path), group=ALONE, progress=progress
    )
    assert calls == [(1, 1)]
