"""Tables of labelled patches, from a folder of classes or a CSV, and their pixels.

    CSV (path, label, group, split)  --+
    folder/index.csv                 --+-> PatchTable -> select(split, classes) -> images()
    folder of classes                --+

Splitting is not done here: a table carries its split by group, and nothing in this package splits patches of one
slide apart.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsicomp.errors import ConfigError, DataError

__all__ = ["IMAGE_SUFFIXES", "Patch", "PatchTable", "read_image"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"})
SPLITS = frozenset({"train", "val", "test"})
GROUP_COLUMNS = ("group", "slide_id")


@dataclass(frozen=True)
class Patch:
    """One image file and what is known of it.

    Parameters
    ----------
    label
        Class name; empty where the table has no labels.
    group
        Slide, or original image, that the patch was cut from; patches of one group are not independent.
    split
        "train", "val" or "test"; None where the table does not say.
    organ
        Organ, or the table's own name; training samples organs evenly.
    """

    path: Path
    label: str
    group: str
    split: str | None
    organ: str


@dataclass(frozen=True)
class PatchTable:
    """An ordered table of patches.

    Parameters
    ----------
    share
        Share of the training crops that are drawn from this table, in (0, 1]; None takes an even part of the rest.
    """

    name: str
    patches: tuple[Patch, ...]
    share: float | None = None

    def __post_init__(self) -> None:
        if self.share is not None and not 0 < self.share <= 1:
            raise ConfigError(f"{self.name}: a share of {self.share:g} is not above 0 and at most 1")

    @classmethod
    def load(cls, data: Path, *, label_column: str = "label") -> PatchTable:
        """Read a table from a CSV file, a folder with an index.csv, or a folder of class folders.

        Parameters
        ----------
        data
            A CSV needs a column `path` (relative to the CSV) and may have `label_column`, `group` or `slide_id`,
            `split` and `organ`. A folder of classes has one folder per class; each patch is then its own group.
        label_column
            Column that holds the class.

        Raises
        ------
        DataError
            If there is no such table, a column is missing, or no patch is listed.
        """
        index = data / "index.csv" if data.is_dir() else data
        name = (data if data.is_dir() else data.parent).resolve().name  # resolved, because Path(".") has no name
        if index.is_file():
            patches = _from_csv(index, label_column, name)
        elif data.is_dir():
            patches = _from_folders(data, name)
        else:
            raise DataError(f"{data}: no such file or folder; give a CSV of patches or a folder of classes")
        if not patches:
            raise DataError(f"{data}: no patches in it; give a CSV with a column 'path' or one folder per class")
        return cls(name, tuple(patches))

    def select(self, *, split: str | None = None, classes: Sequence[str] = ()) -> PatchTable:
        """Keep the patches of one split and of the named classes.

        Raises
        ------
        DataError
            If the table knows no splits, or nothing is left.
        """
        if split is not None and all(patch.split is None for patch in self.patches):
            raise DataError(f"{self.name}: the table has no column 'split', so there is no '{split}' split to take")
        kept = tuple(
            patch
            for patch in self.patches
            if (split is None or patch.split == split) and (not classes or patch.label in classes)
        )
        for wanted in classes:
            if not any(patch.label == wanted for patch in kept):
                found = ", ".join(sorted({patch.label for patch in self.patches}))
                where = f" of split '{split}'" if split else ""
                raise DataError(f"{self.name}: no patch{where} of class '{wanted}'; the classes are: {found}")
        if not kept:
            raise DataError(f"{self.name}: no patch of split '{split}'")
        return replace(self, patches=kept)

    @property
    def source(self) -> str:
        """The table's name, and its share where it has one: what a training records."""
        return self.name if self.share is None else f"{self.name}:{self.share:g}"

    @property
    def has_splits(self) -> bool:
        """Whether the table says which split a patch belongs to."""
        return any(patch.split is not None for patch in self.patches)

    def classes(self) -> tuple[str, ...]:
        """Class names in alphabetical order."""
        return tuple(sorted({patch.label for patch in self.patches}))

    def two_classes(self) -> tuple[str, str]:
        """Return the names of both classes, the negative and the positive, in alphabetical order.

        Raises
        ------
        ConfigError
            If the table has not exactly two, so that they must be named.
        """
        found = self.classes()
        if len(found) != 2:
            names = ", ".join(found)
            raise ConfigError(f"{self.name}: has classes {names}; name two with --classes NEGATIVE,POSITIVE")
        return found[0], found[1]

    def labels(self, positive: str) -> NDArray[np.int64]:
        """1 for patches of the positive class, 0 for the others, (N,) int64."""
        return np.array([patch.label == positive for patch in self.patches], dtype=np.int64)

    def groups(self) -> NDArray[np.str_]:
        """Group of each patch, (N,)."""
        return np.array([patch.group for patch in self.patches], dtype=np.str_)

    def images(self) -> list[NDArray[np.uint8]]:
        """Pixels of every patch, each (H, W, 3) uint8 RGB.

        Raises
        ------
        DataError
            If a file is missing or not an image.
        """
        return [read_image(patch.path) for patch in self.patches]


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image file as (H, W, 3) uint8 RGB.

    Raises
    ------
    DataError
        If the file is missing, damaged or not an image.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: cannot be read as an image; remove it from the table or replace it") from error


def _from_csv(index: Path, label_column: str, name: str) -> list[Patch]:
    try:
        with index.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows, columns = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{index}: cannot be read as a CSV of patches") from error
    if rows and "path" not in columns:
        raise DataError(f"{index}: has no column 'path'")
    if label_column != "label" and label_column not in columns:
        raise DataError(f"{index}: has no column '{label_column}'; its columns are: {', '.join(columns)}")
    group_column = next((column for column in GROUP_COLUMNS if column in columns), "path")
    patches = []
    for line, row in enumerate(rows, start=2):
        split = row.get("split") or None
        if split is not None and split not in SPLITS:
            raise DataError(f"{index}, line {line}: split '{split}' is none of train, val, test")
        if not row["path"] or row[group_column] is None:
            raise DataError(f"{index}, line {line}: a value is missing")
        label = row.get(label_column) or ""
        organ = row.get("organ") or name
        patches.append(Patch(index.parent / row["path"], label, row[group_column], split, organ))
    return patches


def _from_folders(folder: Path, name: str) -> list[Patch]:
    return [
        Patch(path, path.parent.name, str(path.relative_to(folder)), None, name)
        for path in sorted(folder.glob("*/*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
