"""The classifier's recipe: it learns, keeps its best epoch, resumes as if never stopped, and sees no test patch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.training.contents import contents
from wsicomp.datasets.labelled import LabelledTiles
from wsicomp.errors import ConfigError, DataError
from wsicomp.metrics.classification import youden_threshold
from wsicomp.models.classifier import StudyClassifier
from wsicomp.models.registry import CLASSIFIER, load_model
from wsicomp.progress import Progress, silent
from wsicomp.training.classifier import (
    ClassifierRecipe,
    augment,
    score,
    train_classifier,
)
from wsicomp.training.run import Run

CPU = torch.device("cpu")
RECIPE = ClassifierRecipe(width=1 / 8, epochs=4, batch_size=8, learning_rate=5e-3, seed=3)


class Interrupted(Exception):
    """What stops a run in these tests."""


def stop_in_epoch(epoch: int) -> Progress:
    def progress(done: int, total: int, note: str = "") -> None:
        if note.startswith(f"epoch {epoch},"):
            raise Interrupted

    return progress


def train(
    tiles: LabelledTiles,
    val: LabelledTiles,
    folder: Path,
    recipe: ClassifierRecipe = RECIPE,
    *,
    resume: bool = False,
    progress: Progress = silent,
) -> tuple[Run, float]:
    run = Run.open(folder, resume=resume)
    return run, train_classifier(tiles, val, recipe, run, device=CPU, progress=progress)


@pytest.fixture(scope="module")
def trained(
    train_tiles: LabelledTiles, val_tiles: LabelledTiles, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, float]:
    return train(train_tiles, val_tiles, tmp_path_factory.mktemp("run"))


def logged(run: Run) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]


def loaded(run: Run) -> StudyClassifier:
    module = load_model(run.weights, key=CLASSIFIER).module
    assert isinstance(module, StudyClassifier)
    return module


class TestTraining:
    def test_two_colours_are_told_apart_in_a_few_epochs(self, trained: tuple[Run, float]) -> None:
        assert trained[1] > 0.9

    def test_the_threshold_in_the_notes_parts_the_classes(
        self, trained: tuple[Run, float], val_tiles: LabelledTiles
    ) -> None:
        run, auc = trained
        notes = load_model(run.weights).notes
        assert (notes["negative"], notes["positive"], notes["data"]) == (*val_tiles.classes, "toy")
        assert notes["val_auc"] == f"{auc:.4f}"
        probs = 1 / (1 + np.exp(-score(loaded(run), val_tiles.tiles, CPU)))
        assert np.mean((probs >= float(notes["threshold"])) == val_tiles.labels) > 0.9

    @pytest.mark.parametrize("half", [False, True])
    def test_the_weights_kept_are_those_of_the_best_epoch(
        self, train_tiles: LabelledTiles, val_tiles: LabelledTiles, tmp_path: Path, half: bool
    ) -> None:
        rng = np.random.default_rng(0)  # labels by chance, so that epochs differ
        val = dataclasses.replace(val_tiles, labels=rng.permutation(val_tiles.labels))
        run, auc = train(train_tiles, val, tmp_path, dataclasses.replace(RECIPE, half=half))
        aucs = [entry["val_auc"] for entry in logged(run)]
        assert len(aucs) == RECIPE.epochs
        assert len(set(aucs)) > 1
        assert auc == pytest.approx(max(aucs), abs=1e-6)
        assert load_model(run.weights).notes["epoch"] == str(1 + aucs.index(max(aucs)))
        # With half, the epoch was judged on the very weights that the file holds.
        logits = score(loaded(run), val.tiles, CPU)
        assert roc_auc_score(val.labels, logits) == pytest.approx(auc)
        threshold = float(load_model(run.weights).notes["threshold"])
        assert threshold == pytest.approx(youden_threshold(logits, val.labels), rel=1e-6)

    def test_half_stores_float16_that_come_back_as_they_are(
        self, train_tiles: LabelledTiles, val_tiles: LabelledTiles, tmp_path: Path
    ) -> None:
        recipe = dataclasses.replace(RECIPE, epochs=1)
        full, _ = train(train_tiles, val_tiles, tmp_path / "full", recipe)
        half, _ = train(train_tiles, val_tiles, tmp_path / "half", dataclasses.replace(recipe, half=True))
        assert half.weights.stat().st_size < 0.6 * full.weights.stat().st_size
        for a, b in zip(loaded(full).parameters(), loaded(half).parameters(), strict=True):
            assert torch.equal(a.half().float(), b)

    def test_a_training_set_smaller_than_a_batch_is_one_batch(
        self, train_tiles: LabelledTiles, val_tiles: LabelledTiles, tmp_path: Path
    ) -> None:
        _, auc = train(train_tiles, val_tiles, tmp_path, dataclasses.replace(RECIPE, batch_size=1000, epochs=1))
        assert 0 <= auc <= 1

    @pytest.mark.parametrize(
        "change", [{"width": 0.0}, {"width": -1.0}, {"width": 5.0}, {"epochs": 0}, {"batch_size": 1}]
    )
    def test_settings_that_cannot_be_are_refused(self, change: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="|".join(change)):
            ClassifierRecipe(**change)  # type: ignore[arg-type]


class TestResume:
    @pytest.mark.parametrize("epoch", [1, 2, 4])
    def test_an_interrupted_and_resumed_run_ends_bit_for_bit_as_an_uninterrupted_one(
        self,
        trained: tuple[Run, float],
        train_tiles: LabelledTiles,
        val_tiles: LabelledTiles,
        tmp_path: Path,
        epoch: int,
    ) -> None:
        with pytest.raises(Interrupted):
            train(train_tiles, val_tiles, tmp_path, progress=stop_in_epoch(epoch))
        assert Run(tmp_path).checkpoint.exists() == (epoch > 1)
        torch.rand(3)  # a new process has another state of the global generator
        run, auc = train(train_tiles, val_tiles, tmp_path, resume=True)
        assert auc == trained[1]
        assert contents(run.checkpoint) == contents(trained[0].checkpoint)
        assert contents(run.weights) == contents(trained[0].weights)
        assert logged(run) == logged(trained[0])

    def test_a_finished_run_is_resumed_without_training(
        self, train_tiles: LabelledTiles, val_tiles: LabelledTiles, tmp_path: Path
    ) -> None:
        recipe = dataclasses.replace(RECIPE, epochs=1)
        run, auc = train(train_tiles, val_tiles, tmp_path, recipe)
        before = run.weights.read_bytes()
        assert train(train_tiles, val_tiles, tmp_path, recipe, resume=True, progress=stop_in_epoch(1))[1] == auc
        assert run.weights.read_bytes() == before
        assert len(logged(run)) == 1

    @pytest.mark.parametrize("change", [{"epochs": 5}, {"learning_rate": 1e-3}, {"half": True}, {"seed": 4}], ids=str)
    def test_a_checkpoint_of_other_settings_is_refused(
        self,
        trained: tuple[Run, float],
        train_tiles: LabelledTiles,
        val_tiles: LabelledTiles,
        change: dict[str, float],
    ) -> None:
        before = trained[0].weights.read_bytes()
        recipe = dataclasses.replace(RECIPE, **change)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="other settings"):
            train(train_tiles, val_tiles, trained[0].folder, recipe, resume=True)
        assert trained[0].weights.read_bytes() == before

    def test_a_checkpoint_of_other_patches_is_refused(
        self, trained: tuple[Run, float], train_tiles: LabelledTiles, val_tiles: LabelledTiles
    ) -> None:
        with pytest.raises(ConfigError, match="other settings"):
            train(dataclasses.replace(train_tiles, name="other"), val_tiles, trained[0].folder, resume=True)
        fewer = dataclasses.replace(
            train_tiles, tiles=train_tiles.tiles[:-2], labels=train_tiles.labels[:-2], groups=train_tiles.groups[:-2]
        )
        with pytest.raises(ConfigError, match="other settings"):
            train(fewer, val_tiles, trained[0].folder, resume=True)


class TestTiles:
    @pytest.mark.parametrize("label", [0, 1])
    def test_one_class_only_is_refused(
        self, train_tiles: LabelledTiles, val_tiles: LabelledTiles, tmp_path: Path, label: int
    ) -> None:
        alike = dataclasses.replace(val_tiles, labels=np.full_like(val_tiles.labels, label))
        for tiles, val in ((alike, val_tiles), (train_tiles, alike)):
            with pytest.raises(DataError, match="patches of one class only; training needs both"):
                train(tiles, val, tmp_path)


class TestAugment:
    @pytest.mark.parametrize(("height", "width", "turns"), [(6, 6, 8), (6, 8, 4)])
    def test_every_turn_and_flip_occurs_and_nothing_else(self, height: int, width: int, turns: int) -> None:
        tile = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        allowed = {
            np.rot90(tile[:, :: 1 - 2 * flip], k).tobytes()
            for flip in range(2)
            for k in (range(4) if height == width else (0, 2))
        }
        assert len(allowed) == turns
        x = augment(np.stack([tile] * 200), np.random.default_rng(1), 0.0, CPU)
        assert x.shape == (200, 3, height, width)
        seen = {np.rint(255 * picture.permute(1, 2, 0).numpy()).astype(np.uint8).tobytes() for picture in x}
        assert seen == allowed

    def test_tint_stays_within_its_bounds_and_within_0_to_1(self) -> None:
        tiles = np.stack([np.full((4, 4, 3), value, np.uint8) for value in (100, 255)] * 100)
        x = augment(tiles, np.random.default_rng(0), 0.1, CPU)
        assert (x == x[:, :, :1, :1]).all()
        dark, bright = x[::2] * 255 / 100, x[1::2]
        assert 0.899 < float(dark.min()) < 0.92
        assert 1.08 < float(dark.max()) < 1.101
        assert 0.899 < float(bright.min()) < float(bright.max()) <= 1


class TestScore:
    @pytest.mark.parametrize("batch_size", [1, 7, 32])
    def test_scores_do_not_depend_on_the_batch(self, val_tiles: LabelledTiles, batch_size: int) -> None:
        torch.manual_seed(0)
        model = StudyClassifier(1 / 16)
        logits = score(model, val_tiles.tiles, CPU, batch_size)
        assert logits.shape == (len(val_tiles.tiles),)
        assert logits.dtype == np.float64
        np.testing.assert_allclose(logits, score(model, val_tiles.tiles, CPU), atol=1e-5)
