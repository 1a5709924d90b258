"""Options that several commands have, so that each reads the same everywhere, and the groups that help shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

__all__ = [
    "KEEP",
    "PRINT",
    "READ",
    "RUN",
    "WRITE",
    "DeviceOption",
    "JsonOption",
    "LabelColumnOption",
    "LatentDtypeOption",
    "ModelOption",
    "OverwriteOption",
    "QualityOption",
    "RunOption",
    "StoreArgument",
    "WeightsOption",
    "split_classes",
    "split_numbers",
    "split_share",
]

Number = TypeVar("Number", int, float)
EXAMPLES = {int: "whole numbers such as 0,1,2,3,4", float: "numbers such as 2,2.5,4"}

READ, KEEP, WRITE = "What to read", "How much to keep", "What to write"
RUN, PRINT = "Where to run", "What to print"
"""Groups of options that several commands have, as their help calls them."""

DeviceOption = Annotated[
    str,
    typer.Option("--device", help="auto, cpu, cuda or cuda:N; auto takes CUDA if there is one.", rich_help_panel=RUN),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout, also on failure.", rich_help_panel=PRINT)
]
LabelColumnOption = Annotated[
    str, typer.Option("--label-column", help="Column of the CSV that holds the class.", rich_help_panel=READ)
]
LatentDtypeOption = Annotated[
    str | None,
    typer.Option(
        "--latent-dtype",
        help="For perticarari2023: int8, or float16 or float32 for the study's own numbers.",
        show_default="the model's",
        rich_help_panel=KEEP,
    ),
]
ModelOption = Annotated[
    str,
    typer.Option("--model", help="Shipped codec, or weights of one's own as .safetensors.", rich_help_panel=KEEP),
]
QualityOption = Annotated[
    float | None,
    typer.Option(
        "--quality",
        metavar="N",
        min=0,
        max=7,
        help="For wsic: 0 is smallest, 7 finest, in steps of 1/16.",
        show_default="4",
        rich_help_panel=KEEP,
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace what exists already.", rich_help_panel=WRITE)
]


def _outside_stores(path: Path) -> Path:
    from wsicomp.store.place import check_place

    check_place(path / "weights.safetensors")
    return path


RunOption = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        callback=_outside_stores,
        help="Folder of the run: weights, checkpoint, and log with its curves.",
        rich_help_panel=WRITE,
    ),
]
StoreArgument = Annotated[Path, typer.Argument(help="A latent store.")]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Weights of one's own that the store was encoded with.",
        show_default="the shipped ones",
        rich_help_panel=RUN,
    ),
]


def split_classes(classes: str) -> tuple[str, str]:
    """Read 'NEGATIVE,POSITIVE'.

    Raises
    ------
    typer.BadParameter
        If there are not two different names.
    """
    names = tuple(name.strip() for name in classes.split(","))
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise typer.BadParameter("give two class names, NEGATIVE,POSITIVE", param_hint="--classes")
    return names[0], names[1]


def split_numbers(text: str, option: str, kind: type[Number]) -> list[Number]:
    """Read an option's '0,1,2', of whole numbers or of any.

    Raises
    ------
    typer.BadParameter
        If these are no such numbers from 0 on, or one comes twice.
    """
    try:
        wanted = [kind(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"give {EXAMPLES[kind]}", param_hint=option) from None
    if any(number < 0 for number in wanted) or len(set(wanted)) != len(wanted):
        raise typer.BadParameter("give each number once, from 0 on", param_hint=option)
    return wanted


def split_share(word: str) -> tuple[Path, float | None]:
    """Read PATH or PATH:SHARE; a colon that no number follows is part of the path."""
    path, colon, share = word.rpartition(":")
    try:
        return (Path(path), float(share)) if colon and path else (Path(word), None)
    except ValueError:
        return Path(word), None
