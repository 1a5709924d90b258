"""`wsicomp train`: a few steps of each recipe, from patches to weights that the other commands take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, listing
from wsicomp.cli.options import split_share
from wsicomp.datasets.phantom import PHANTOM_COUNTS
from wsicomp.models.registry import CLASSIFIER, STUDY_CODEC, load_model

AUTOENCODER = ("--depths", "2", "--steps", "3", "--batch-size", "2", "--crop", "32")
CLASSES = ("--classes", "dark,light", "--width", "0.0625", "--epochs", "2", "--batch-size", "4")


def test_autoencoder_from_patches_to_a_slide(cli: Cli, patches: Path, slide: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ended = cli("train", "autoencoder", "--data", patches, "-o", run, *AUTOENCODER, "--json")
    assert (ended.code, ended.err) == (0, "")
    weights = run / "weights.safetensors"
    # the train split alone: 8 of the 24 patches
    assert ended.document == {
        "command": "train autoencoder",
        "status": "ok",
        "weights": str(weights),
        "patches": 8,
    }
    assert load_model(weights, key=STUDY_CODEC).notes["steps"] == "3"
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [entry["depth"] for entry in log] == [1, 2]

    store = slide.with_suffix(".zarr")
    assert cli("encode", slide, "--model", weights, "--depth", "2").code == 0
    assert cli("verify", store, "--against", slide, "--model", weights).code == 0
    assert cli("decode", store, "-o", "a.png", "--model", weights).code == 0
    cli("encode", slide, "--model", weights, "--depth", "3", "--overwrite").failed(2, "1 to 2")


def test_autoencoder_on_several_tables(cli: Cli, patches: Path, classes_only: Path, tmp_path: Path) -> None:
    data = ("--data", patches, "--data", classes_only)
    ended = cli("train", "autoencoder", *data, "-o", tmp_path / "run", *AUTOENCODER)
    assert ended.code == 0
    assert "2 depths trained on 32 patches" in ended.out


def test_a_share_of_the_crops_is_drawn_from_a_table(
    cli: Cli, patches: Path, classes_only: Path, tmp_path: Path
) -> None:
    data = ("--data", f"{patches}:0.25", "--data", classes_only)
    assert cli("train", "autoencoder", *data, "-o", tmp_path / "run", *AUTOENCODER).code == 0
    weights = tmp_path / "run" / "weights.safetensors"
    assert load_model(weights, key=STUDY_CODEC).notes["data"] == f"{patches.name}:0.25, {classes_only.name}"
    (tmp_path / "run" / "weights.safetensors").unlink()
    data = ("--data", f"{patches}:0.5", "--data", classes_only)  # another share is another run
    cli("train", "autoencoder", *data, "-o", tmp_path / "run", *AUTOENCODER, "--resume").failed(2, "other settings")


@pytest.mark.parametrize(
    ("word", "path", "share"),
    [
        ("lung", "lung", None),
        ("lung:0.25", "lung", 0.25),
        ("a/b.csv:1", "a/b.csv", 1.0),
        ("D:/lung", "D:/lung", None),
        ("a:b:0.5", "a:b", 0.5),
        (":0.5", ":0.5", None),
    ],
)
def test_a_share_follows_the_last_colon(word: str, path: str, share: float | None) -> None:
    assert split_share(word) == (Path(path), share)


def test_the_same_seed_gives_the_same_weights(cli: Cli, patches: Path, tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        run = tmp_path / name
        assert cli("train", "autoencoder", "--data", patches, "-o", run, *AUTOENCODER, "--seed", seed).code == 0
        found.append((run / "weights.safetensors").read_bytes())
    assert found[0] == found[1] != found[2]


def test_classifier_from_patches_to_a_report(cli: Cli, patches: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ended = cli("train", "classifier", "--data", patches, "-o", run, *CLASSES, "--json")
    assert (ended.code, ended.err) == (0, "")
    document = ended.document
    assert document["command"] == "train classifier"
    assert 0 <= document["val_auc"] <= 1
    weights = run / "weights.safetensors"
    notes = load_model(weights, key=CLASSIFIER).notes
    assert (notes["negative"], notes["positive"]) == ("dark", "light")
    ended = cli("evaluate", patches, "--classifier", weights, "--depths", "0,4", "--resamples", "20", "--json")
    assert ended.code == 0
    assert [row["depth"] for row in ended.document["rows"]] == [0, 4]


def test_classifier_on_the_phantom(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "val"):
        monkeypatch.setitem(PHANTOM_COUNTS, split, 8)
    ended = cli(
        "train",
        "classifier",
        "--data",
        "phantom",
        "-o",
        tmp_path / "run",
        "--classes",
        "benign,malignant",
        *CLASSES[2:],
    )
    assert ended.code == 0
    assert "best validation AUC" in ended.out


@pytest.mark.parametrize("recipe", ["autoencoder", "classifier"])
def test_a_run_is_gone_on_with_or_refused(cli: Cli, patches: Path, tmp_path: Path, recipe: str) -> None:
    run = tmp_path / "run"
    options = AUTOENCODER if recipe == "autoencoder" else CLASSES
    arguments = ("train", recipe, "--data", patches, "-o", run, *options)
    assert cli(*arguments).code == 0
    weights = (run / "weights.safetensors").read_bytes()
    before = listing(run)
    cli(*arguments).failed(2, "--resume")
    assert listing(run) == before
    assert cli(*arguments, "--resume").code == 0
    assert (run / "weights.safetensors").read_bytes() == weights
    cli(*arguments, "--resume", "--seed", "9").failed(2, "other settings")


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("autoencoder", "--data", "none"), 3, "none"),
        (("autoencoder", "--data", "D", "--crop", "40"), 2, "crop_px"),
        (("autoencoder", "--data", "D", "--crop", "128"), 3, "smaller than the crop"),
        (("autoencoder", "--data", "D", "--depths", "7"), 2, "--depths"),
        (("codec", "--data", "none"), 3, "none"),
        (("codec", "--data", "D", "--crop", "40"), 2, "crop_px"),
        (("codec", "--data", "D", "--crop", "128"), 3, "smaller than the crop"),
        (("codec", "--data", "D", "--depths", "3,7"), 2, "depths are some of 1, 2, 3, 4"),
        (("codec", "--data", "D", "--depths", "4,3"), 2, "ascending"),
        (("codec", "--data", "D", "--depths", "two"), 2, "whole numbers"),
        (("codec", "--data", "D", "--from", "nothing"), 3, "no such weights"),
        (("codec", "--data", "D", "--from", "perticarari2023"), 3, "where 'wsic' is needed"),
        (("classifier", "--data", "D", "--classes", "dark"), 2, "--classes"),
        (("classifier", "--data", "D", "--classes", "dark,dark"), 2, "--classes"),
        (("classifier", "--data", "D", "--classes", "dark,red"), 3, "'red'"),
        (("classifier", "--data", "D", "--classes", "dark,light", "--width", "0"), 2, "width"),
        (("classifier", "--data", "D", "--classes", "dark,light", "--label-column", "kind"), 3, "'kind'"),
    ],
)
def test_refusals(
    cli: Cli,
    patches: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    word: str,
) -> None:
    words = [str(patches) if argument == "D" else argument for argument in arguments]
    ended = cli("train", *words, "-o", tmp_path / "run", "--json")
    ended.failed(code, word)
    assert ended.document["command"] == f"train {arguments[0]}"
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("recipe", ["autoencoder", "codec", "classifier"])
@pytest.mark.parametrize("name", ["notes.txt", "notes.txt/run"])
def test_a_run_where_a_file_stands(cli: Cli, patches: Path, tmp_path: Path, recipe: str, name: str) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    cli("train", recipe, "--data", patches, "-o", tmp_path / name).failed(2, "is a file where a folder is needed")
    assert notes.read_text() == "mine"


def test_a_folder_of_classes_is_split_by_group_and_needs_no_names(cli: Cli, classes_only: Path, tmp_path: Path) -> None:
    tiny = ("--width", "0.0625", "--epochs", "1", "--batch-size", "2")
    ended = cli("train", "classifier", "--data", classes_only, "-o", tmp_path / "run", "--json", *tiny)
    assert ended.code == 0, ended.err
    notes = load_model(tmp_path / "run/weights.safetensors").notes
    assert (notes["negative"], notes["positive"]) == ("dark", "light")


def test_a_damaged_patch_is_named(cli: Cli, classes_only: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data/dark"
    folder.mkdir(parents=True)
    (folder / "broken.png").write_bytes(next(classes_only.glob("*/*.png")).read_bytes()[:200])
    ended = cli("train", "autoencoder", "--data", tmp_path / "data", "-o", tmp_path / "run", *AUTOENCODER)
    ended.failed(3, "broken.png", "cannot be read as an image")


@pytest.mark.parametrize("below", [".", "new/run"])
def test_a_run_is_not_written_into_a_store(cli: Cli, patches: Path, store: Path, below: str) -> None:
    before = listing(store)
    cli("train", "codec", "--data", patches, "-o", store / below).failed(2, "lies inside the store")
    assert listing(store) == before
