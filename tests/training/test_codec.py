"""The recipe of `wsic`: weights with all their tables, a resumed run that is the same run, and a loss that falls."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image

from wsicomp.codec import rans
from wsicomp.codec.entropy_model import EntropyModel
from wsicomp.datasets.patches import PatchTable
from wsicomp.errors import ConfigError, DataError
from wsicomp.models.registry import WSIC, load_model
from wsicomp.models.wsic import LATENT_CHANNELS, QUALITIES, Wsic
from wsicomp.progress import Progress
from wsicomp.training import codec
from wsicomp.training.codec import LMBDA, CodecRecipe, lmbda, train_codec
from wsicomp.training.run import Run

CPU = torch.device("cpu")
RECIPE = CodecRecipe(depths=(1, 3), steps=3, batch_size=2, crop_px=32, seed=5)


class Interrupted(Exception):
    """What stops a run in these tests."""


@pytest.fixture(scope="module")
def small_fit() -> Iterator[None]:
    """Fit tables to few and small crops."""
    patch = pytest.MonkeyPatch()
    patch.setattr(codec, "FIT_CROPS", 4)
    patch.setattr(codec, "FIT_CROP_PX", 48)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def trained(small_fit: None, tissue: PatchTable, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Wsic]:
    run = Run.open(tmp_path_factory.mktemp("run"), resume=False)
    return run, train_codec([tissue], RECIPE, run, device=CPU)


def test_the_weights_of_a_run_are_the_model_it_returns(trained: tuple[Run, Wsic], tissue: PatchTable) -> None:
    run, model = trained
    loaded = load_model(run.weights, key=WSIC)
    assert isinstance(loaded.module, Wsic)
    assert loaded.module.depths == RECIPE.depths
    assert loaded.notes == {"data": tissue.name, "steps": "3"}
    state = model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.module.state_dict().items())


@pytest.mark.parametrize("depth", RECIPE.depths)
@pytest.mark.parametrize("quality", range(QUALITIES))
def test_every_depth_and_quality_has_sound_tables(trained: tuple[Run, Wsic], depth: int, quality: int) -> None:
    prefix = f"{depth}/{quality}/"
    arrays = load_model(trained[0].weights).arrays
    fitted = EntropyModel.from_arrays({n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)})
    channels = LATENT_CHANNELS[depth - 1]
    assert fitted.channels == channels
    latent = np.random.default_rng(0).integers(-9, 10, (channels, 4, 4)).astype(np.int16)
    stream = rans.encode(latent, fitted)
    np.testing.assert_array_equal(rans.decode(stream, (channels, 4, 4), fitted, dtype=np.int16), latent)


def test_no_other_tables_are_kept(trained: tuple[Run, Wsic]) -> None:
    found = {tuple(name.split("/")[:2]) for name in load_model(trained[0].weights).arrays}
    assert found == {(str(depth), str(quality)) for depth in RECIPE.depths for quality in range(QUALITIES)}


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
    save = codec.__dict__["save_checkpoint"]

    def save_and_stop(*arguments: object, position: dict[str, int], **options: object) -> None:
        save(*arguments, position=position, **options)
        if position["step"] == stop:
            raise Interrupted

    monkeypatch.setattr(codec, "save_checkpoint", save_and_stop)
    monkeypatch.setattr(codec, "CHECKPOINT_STEPS", 1)
    with pytest.raises(Interrupted):
        train_codec([tissue], RECIPE, run, device=CPU)
    assert not run.weights.exists()
    monkeypatch.setattr(codec, "save_checkpoint", save)
    train_codec([tissue], RECIPE, Run.open(run.folder, resume=True), device=CPU)
    assert run.weights.read_bytes() == trained[0].weights.read_bytes()


def test_a_checkpoint_of_other_settings_is_refused(trained: tuple[Run, Wsic], tissue: PatchTable) -> None:
    with pytest.raises(ConfigError):
        train_codec([tissue], dataclasses.replace(RECIPE, seed=6), Run(trained[0].folder), device=CPU)


def test_patches_smaller_than_a_crop_are_refused(tissue: PatchTable, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="smaller than the crop"):
        train_codec([tissue], dataclasses.replace(RECIPE, crop_px=64), Run(tmp_path), device=CPU)


@pytest.mark.usefixtures("small_fit")
def test_the_loss_falls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture: NDArray[np.uint8] = skimage.data.immunohistochemistry()  # type: ignore[no-untyped-call]
    for k in range(4):
        Image.fromarray(picture[64 * k : 64 * k + 64, 200:264]).save(tmp_path / f"{k}.png")
    (tmp_path / "index.csv").write_text("path,organ\n" + "".join(f"{k}.png,prostate\n" for k in range(4)))
    losses: list[float] = []
    measure = codec.bits_and_error

    def watch(*arguments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        bits, mse = measure(*arguments)  # type: ignore[arg-type]
        losses.append((bits + 0.02 * 255**2 * mse).mean().item())
        return bits, mse

    monkeypatch.setattr(codec, "bits_and_error", watch)
    recipe = CodecRecipe(depths=(3,), steps=40, batch_size=2, crop_px=64, learning_rate=5e-3, ema=0.9)
    monkeypatch.setattr(codec, "cosine", lambda *_, **__: 1.0)  # the warm-up is made for long runs
    train_codec([PatchTable.load(tmp_path)], recipe, Run.open(tmp_path / "run", resume=False), device=CPU)
    assert len(losses) == 40
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])


@pytest.mark.parametrize("depth", LMBDA)
def test_the_weight_of_distortion_is_geometric_in_the_quality(depth: int) -> None:
    weights = lmbda(depth, torch.arange(QUALITIES).float())
    torch.testing.assert_close(weights[[0, -1]], torch.tensor(LMBDA[depth]))
    ratios = weights[1:] / weights[:-1]
    torch.testing.assert_close(ratios, ratios[:1].expand(QUALITIES - 1))


@pytest.mark.parametrize(
    "settings", [{"crop_px": 24}, {"crop_px": 16}, {"crop_px": 72}, {"steps": 0}, {"batch_size": 0}, {"ema": 1.0}]
)
def test_settings_that_cannot_be(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"crop_px|steps|ema"):
        CodecRecipe(**settings)  # type: ignore[arg-type]


def test_progress_is_told(tissue: PatchTable, tmp_path: Path, small_fit: None) -> None:
    calls: list[tuple[int, int]] = []
    progress: Progress = lambda done, total, note="": calls.append((done, total))  # noqa: E731
    train_codec(
        [tissue], dataclasses.replace(RECIPE, depths=(3,), steps=1), Run(tmp_path), device=CPU, progress=progress
    )
    assert calls == [(1, 1)]
