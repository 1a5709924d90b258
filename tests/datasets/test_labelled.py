"""Labelled tiles: arrays that fit one another, of one split and two classes, in the order of their table."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.toy import toy_data
from wsicomp.datasets.labelled import LabelledTiles
from wsicomp.datasets.patches import PatchTable
from wsicomp.errors import DataError

CLASSES = ("benign", "malignant")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0, 1])}, "one of each per tile"),
        ({"groups": np.array(["a"])}, "one of each per tile"),
        ({"labels": np.arange(6)}, "0 .pale. or 1 .dark."),
        ({"tiles": np.zeros((6, 16, 16, 3))}, "uint8"),
    ],
)
def test_data_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataclasses.replace(toy_data(), **change)


def test_no_tiles_are_refused() -> None:
    with pytest.raises(DataError, match="at least one"):
        LabelledTiles("none", np.zeros((0, 16, 16, 3), np.uint8), np.zeros(0, int), np.zeros(0, str), ("a", "b"))


@pytest.fixture
def table(tmp_path: Path) -> PatchTable:
    """Eight training and four validation patches, and a test patch that no one can read."""
    lines = ["path,label,split"]
    for k in range(12):
        Image.new("RGB", (32, 32), (k, 0, 0)).save(tmp_path / f"{k}.png")
        lines.append(f"{k}.png,{CLASSES[k % 2]},{'train' if k < 8 else 'val'}")
    (tmp_path / "test.png").write_bytes(b"not a picture")
    (tmp_path / "index.csv").write_text("\n".join([*lines, "test.png,benign,test"]))
    return PatchTable.load(tmp_path)


@pytest.mark.parametrize("classes", [CLASSES, None])
def test_one_split_is_read_in_the_tables_order_and_no_other(table: PatchTable, classes: tuple[str, str] | None) -> None:
    train, val = (LabelledTiles.load(table, classes, split) for split in ("train", "val"))
    np.testing.assert_array_equal(train.tiles[:, 0, 0, 0], range(8))
    np.testing.assert_array_equal(val.tiles[:, 0, 0, 0], range(8, 12))
    np.testing.assert_array_equal(train.labels, np.arange(8) % 2)
    assert train.tiles.dtype == np.uint8
    assert train.labels.dtype == np.int64
    assert train.classes == CLASSES
    with pytest.raises(DataError, match=r"test\.png"):
        LabelledTiles.load(table, classes, None)


def test_a_class_without_patches_is_refused(table: PatchTable) -> None:
    with pytest.raises(DataError, match="no patch of split 'test' of class 'malignant'"):
        LabelledTiles.load(table, CLASSES, "test")


def test_patches_of_several_sizes_are_refused(table: PatchTable) -> None:
    Image.new("RGB", (32, 33)).save(table.patches[0].path)
    with pytest.raises(DataError, match="patches differ in size"):
        LabelledTiles.load(table, CLASSES, "train")
