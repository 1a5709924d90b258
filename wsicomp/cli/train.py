"""`wsicomp train`: the study's autoencoder, the byte-true codec, and the classifier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsicomp.cli.console import emit, progress_bar, say
from wsicomp.cli.options import (
    READ,
    WRITE,
    DeviceOption,
    JsonOption,
    LabelColumnOption,
    RunOption,
    split_classes,
    split_numbers,
    split_share,
)

if TYPE_CHECKING:
    from wsicomp.datasets.patches import PatchTable

HOW = "How to train"

app = typer.Typer(no_args_is_help=True, help="Train a codec or a classifier on labelled patches.")

DataOption = Annotated[
    list[str],
    typer.Option(
        "--data",
        help="CSV of patches, or folder of classes; repeat for more. The train split is used. FOLDER:0.25 draws a "
        "quarter of the crops from it; without a number, organs share the rest evenly.",
        rich_help_panel=READ,
    ),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on with the run that the folder holds.", rich_help_panel=WRITE)
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, help="Seed of the weights and of every random choice.", rich_help_panel=HOW)
]


@app.command()
def autoencoder(
    data: DataOption,
    output: RunOption = Path("runs/autoencoder"),
    depths: Annotated[int, typer.Option("--depths", min=1, max=6, help="Number of depths.", rich_help_panel=HOW)] = 4,
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Optimiser steps per depth.", rich_help_panel=HOW)
    ] = 3000,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Crops per step.", rich_help_panel=HOW)] = 16,
    crop: Annotated[int, typer.Option("--crop", min=16, help="Side of a crop in pixels.", rich_help_panel=HOW)] = 128,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", min=0, help="Peak learning rate of Adam.", rich_help_panel=HOW)
    ] = 2e-3,
    seed: SeedOption = 0,
    resume: ResumeOption = False,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Train the study's autoencoder, one depth after the other.

    Example: wsicomp train autoencoder --data lung --data prostate -o runs/autoencoder
    """
    from wsicomp.models.device import resolve_device
    from wsicomp.training.autoencoder import AutoencoderRecipe, train_autoencoder
    from wsicomp.training.run import Run

    try:
        recipe = AutoencoderRecipe(depths, steps, batch_size, crop, learning_rate, seed)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    tables = _training_tables(data)
    run = Run.open(output, resume=resume)
    with progress_bar("train autoencoder") as progress:
        train_autoencoder(tables, recipe, run, device=resolve_device(device), progress=progress)
    patches = sum(len(table.patches) for table in tables)
    if json:
        emit({"command": "train autoencoder", "status": "ok", "weights": str(run.weights), "patches": patches})
    else:
        say(f"{run.weights}: {depths} depths trained on {patches} patches")


@app.command()
def codec(
    data: DataOption,
    output: RunOption = Path("runs/codec"),
    depths: Annotated[
        str, typer.Option("--depths", help="Depths to train, out of 1,2,3,4.", rich_help_panel=HOW)
    ] = "1,2,3,4",
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Optimiser steps over all depths.", rich_help_panel=HOW)
    ] = 20_000,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Crops per step.", rich_help_panel=HOW)] = 8,
    crop: Annotated[int, typer.Option("--crop", min=32, help="Side of a crop in pixels.", rich_help_panel=HOW)] = 128,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", min=0, help="Peak learning rate of AdamW.", rich_help_panel=HOW)
    ] = 1.5e-3,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Weights of wsic to go on from: a shipped name, or a file.", rich_help_panel=HOW),
    ] = None,
    seed: SeedOption = 0,
    resume: ResumeOption = False,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Train the byte-true codec on rate plus distortion, all depths and qualities together; torchrun shares the work.

    Example: wsicomp train codec --data lung --data prostate -o runs/codec
    """
    from wsicomp.models.device import resolve_device
    from wsicomp.models.registry import WSIC, load_model
    from wsicomp.training.codec import CodecRecipe, train_codec
    from wsicomp.training.distributed import processes
    from wsicomp.training.run import Run

    chosen = tuple(split_numbers(depths, "--depths", int))
    try:
        recipe = CodecRecipe(chosen, steps, batch_size, crop, learning_rate, seed=seed)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    tables = _training_tables(data)
    origin = None if start is None else load_model(start, key=WSIC)
    run = Run.open(output, resume=resume)
    with processes(resolve_device(device)) as group:
        with progress_bar("train codec") as progress:
            train_codec(tables, recipe, run, group=group, start=origin, progress=progress)
        if not group.writes:
            return
    patches = sum(len(table.patches) for table in tables)
    if json:
        emit({"command": "train codec", "status": "ok", "weights": str(run.weights), "patches": patches})
    else:
        say(f"{run.weights}: depths {depths} trained on {patches} patches")


@app.command()
def classifier(
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="CSV of patches or folder of classes (split by group if unsplit), or the word phantom.",
            rich_help_panel=READ,
        ),
    ],
    classes: Annotated[
        str | None,
        typer.Option("--classes", help="NEGATIVE,POSITIVE.", show_default="the two there are", rich_help_panel=READ),
    ] = None,
    output: RunOption = Path("runs/classifier"),
    label_column: LabelColumnOption = "label",
    width: Annotated[
        float, typer.Option("--width", help="Factor on the channels; 1 is the study's network.", rich_help_panel=HOW)
    ] = 1.0,
    epochs: Annotated[
        int, typer.Option("--epochs", min=1, help="Passes over the training patches.", rich_help_panel=HOW)
    ] = 20,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Patches per step.", rich_help_panel=HOW)] = 32,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", min=0, help="Peak learning rate of AdamW.", rich_help_panel=HOW)
    ] = 1e-3,
    half: Annotated[bool, typer.Option("--half", help="Store the weights as float16.", rich_help_panel=WRITE)] = False,
    seed: SeedOption = 0,
    resume: ResumeOption = False,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Train the study's classifier on original patches; the best epoch on the val split is kept.

    Example: wsicomp train classifier --data prostate --classes benign,malignant -o runs/classifier
    """
    from wsicomp.datasets.labelled import LabelledTiles
    from wsicomp.datasets.patches import PatchTable
    from wsicomp.datasets.splits import split_by_group
    from wsicomp.models.device import resolve_device
    from wsicomp.training.classifier import ClassifierRecipe, train_classifier
    from wsicomp.training.run import Run

    try:
        recipe = ClassifierRecipe(width, epochs, batch_size, learning_rate, half=half, seed=seed)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    names = split_classes(classes) if classes else None
    if str(data) == "phantom":
        train, val = LabelledTiles.phantom("train"), LabelledTiles.phantom("val")
    else:
        table = PatchTable.load(data, label_column=label_column)
        names = names or table.two_classes()
        table = table.select(classes=names)
        table = table if table.has_splits else split_by_group(table, seed=seed)
        train, val = (LabelledTiles.load(table, names, split) for split in ("train", "val"))
    run = Run.open(output, resume=resume)
    with progress_bar("train classifier") as progress:
        auc = train_classifier(train, val, recipe, run, device=resolve_device(device), progress=progress)
    if json:
        emit({"command": "train classifier", "status": "ok", "weights": str(run.weights), "val_auc": auc})
    else:
        say(f"{run.weights}: best validation AUC {auc:.4f}")


def _training_tables(data: list[str]) -> list[PatchTable]:
    from dataclasses import replace

    from wsicomp.datasets.patches import PatchTable

    tables = []
    for word in data:
        path, share = split_share(word)
        table = replace(PatchTable.load(path), share=share)
        tables.append(table.select(split="train") if table.has_splits else table)
    return tables
