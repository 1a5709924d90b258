"""Labelled tiles of one size in memory, from a table of patches or the phantom: what is trained on and scored.

    PatchTable -> one split, two classes -> LabelledTiles (tiles, labels, groups)
    phantom    -> one split              ---^

What this does not do: it splits nothing. A table carries its splits, or `splits` makes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from wsicomp.datasets.patches import PatchTable
from wsicomp.datasets.phantom import PHANTOM_CLASSES, PHANTOM_COUNTS, phantom_patches
from wsicomp.errors import DataError

__all__ = ["LabelledTiles"]


@dataclass(frozen=True)
class LabelledTiles:
    """Tiles of one size with their binary labels.

    Parameters
    ----------
    name
        How reports and weights call the data, such as "lung".
    tiles
        (N, H, W, 3) uint8 originals, N at least 1.
    labels
        (N,) int64, 0 or 1.
    groups
        (N,) names: the slide, patient or original that each tile was cut from.
    classes
        Names of label 0 and of label 1, the positive one.

    Raises
    ------
    DataError
        If the arrays do not fit one another.
    """

    name: str
    tiles: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    classes: tuple[str, str]

    def __post_init__(self) -> None:
        if self.tiles.dtype != np.uint8 or self.tiles.ndim != 4 or self.tiles.shape[3] != 3:
            raise DataError(f"{self.name}: tiles must be (N, H, W, 3) uint8, not {self.tiles.shape} {self.tiles.dtype}")
        count = len(self.tiles)
        if not count or self.labels.shape != (count,) or self.groups.shape != (count,):
            raise DataError(
                f"{self.name}: {count} tiles, {self.labels.shape} labels and {self.groups.shape} groups; "
                "there must be one of each per tile, and at least one"
            )
        if not np.isin(self.labels, (0, 1)).all():
            raise DataError(f"{self.name}: labels must be 0 ({self.classes[0]}) or 1 ({self.classes[1]})")

    @classmethod
    def load(cls, table: PatchTable, classes: tuple[str, str] | None, split: str | None) -> Self:
        """Read the patches of one split and two classes.

        Parameters
        ----------
        classes
            Names of the negative and the positive class; None takes a table of two classes in alphabetical order.
        split
            Split to take; None takes every patch.

        Raises
        ------
        ConfigError
            If the table has not two classes and none are named.
        DataError
            If patches are missing, unreadable or of several sizes, or a class has none.
        """
        classes = classes or table.two_classes()
        chosen = table.select(split=split, classes=classes)
        images = chosen.images()
        if len({image.shape for image in images}) > 1:
            raise DataError(f"{table.name}: patches differ in size; a classifier needs one size")
        return cls(table.name, np.stack(images), chosen.labels(classes[1]), chosen.groups(), classes)

    @classmethod
    def phantom(cls, split: str) -> Self:
        """Draw one split of the procedural phantom."""
        patches = phantom_patches(PHANTOM_COUNTS[split], seed=0, split=split)
        return cls("phantom", patches.tiles, patches.labels, patches.groups, PHANTOM_CLASSES)
