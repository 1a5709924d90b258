"""A table without splits is split by group, and no group is on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsicomp.datasets.patches import Patch, PatchTable
from wsicomp.datasets.splits import split_by_group
from wsicomp.errors import DataError


def table(groups_per_class: int, patches_per_group: int) -> PatchTable:
    return PatchTable(
        "t",
        tuple(
            Patch(Path(f"{label}-{group}-{k}.png"), label, f"{label}-{group}", None, "t")
            for label in ("benign", "malignant")
            for group in range(groups_per_class)
            for k in range(patches_per_group)
        ),
    )


@given(groups=st.integers(5, 20), patches=st.integers(1, 4), seed=st.integers(0, 1000))
def test_no_group_is_on_both_sides_and_both_sides_have_both_classes(groups: int, patches: int, seed: int) -> None:
    split = split_by_group(table(groups, patches), seed=seed)
    sides = {side: {p.group for p in split.patches if p.split == side} for side in ("train", "val")}
    assert not sides["train"] & sides["val"]
    assert len(sides["train"] | sides["val"]) == 2 * groups
    assert split == split_by_group(table(groups, patches), seed=seed)
    for side in ("train", "val"):
        assert split.select(split=side).classes() == ("benign", "malignant")


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(DataError, match="class 'benign' has 4 groups"):
        split_by_group(table(4, 10))
