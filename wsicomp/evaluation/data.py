"""Labelled tiles of a study, from tables of patches or the phantom, and a threshold from validation tiles."""

from __future__ import annotations

import numpy as np

from wsicomp.classification.frozen import FrozenClassifier
from wsicomp.datasets.patches import PatchTable
from wsicomp.datasets.phantom import PHANTOM_CLASSES, PHANTOM_COUNTS, phantom_patches
from wsicomp.errors import DataError
from wsicomp.evaluation.study import StudyData
from wsicomp.metrics.classification import youden_threshold

__all__ = ["calibrate", "phantom_data", "table_data"]


def phantom_data(split: str = "test") -> StudyData:
    """Draw one split of the procedural phantom."""
    patches = phantom_patches(PHANTOM_COUNTS[split], seed=0, split=split)
    return StudyData("phantom", patches.tiles, patches.labels, patches.groups, PHANTOM_CLASSES)


def table_data(table: PatchTable, classes: tuple[str, str] | None, split: str | None) -> StudyData:
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
        If patches are missing, unreadable or of several sizes.
    """
    classes = classes or table.two_classes()
    chosen = table.select(split=split, classes=classes)
    images = chosen.images()
    if len({image.shape for image in images}) > 1:
        raise DataError(f"{table.name}: patches differ in size; evaluate patches of one size at a time")
    return StudyData(table.name, np.stack(images), chosen.labels(classes[1]), chosen.groups(), classes)


def calibrate(classifier: FrozenClassifier, data: StudyData) -> float:
    """Choose the threshold on validation tiles, as a probability.

    Raises
    ------
    DataError
        If the tiles are of one class only.
    """
    return youden_threshold(classifier.logits(data.tiles), data.labels)
