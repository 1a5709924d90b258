"""Splits for tables that come without one: by group, so that no slide is on both sides."""

from __future__ import annotations

from dataclasses import replace

from sklearn.model_selection import StratifiedGroupKFold

from wsicomp.datasets.patches import PatchTable
from wsicomp.errors import DataError

__all__ = ["split_by_group"]

FOLDS = 5
"""One fold of five is for validation."""


def split_by_group(table: PatchTable, *, seed: int = 0) -> PatchTable:
    """Give every patch the split "train" or "val", four groups to one, each class about alike in both.

    Raises
    ------
    DataError
        If there are fewer than five groups in a class.
    """
    labels, groups = [p.label for p in table.patches], [p.group for p in table.patches]
    for label in table.classes():
        found = len({patch.group for patch in table.patches if patch.label == label})
        if found < FOLDS:
            raise DataError(
                f"{table.name}: class '{label}' has {found} groups and a split by group needs {FOLDS}; "
                "add a column 'split'"
            )
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(labels, labels, groups)
    validation = set(next(iter(folds))[1].tolist())
    patches = (
        replace(patch, split="val" if index in validation else "train") for index, patch in enumerate(table.patches)
    )
    return PatchTable(table.name, tuple(patches))
