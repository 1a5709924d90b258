"""Shares of a batch: together they are all of it, and a SLURM array's task knows its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsicomp.errors import ConfigError
from wsicomp.pipeline.part import Part


@given(items=st.integers(0, 50), count=st.integers(1, 20))
def test_parts_are_disjoint_complete_and_even(items: int, count: int) -> None:
    parts = [Part(index, count).of(range(items)) for index in range(1, count + 1)]
    assert sorted(item for part in parts for item in part) == list(range(items))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_every_nth() -> None:
    assert Part.parse("2/3").of("abcdefgh") == ["b", "e", "h"]
    assert str(Part.parse(" 2/3 ")) == "2/3"


@pytest.mark.parametrize(
    "text", ["", "1", "1/", "/4", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/2/3", "1.0/2", "\u0661/4"]
)
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(ConfigError, match="1/4"):
        Part.parse(text)


def slurm(*, task: str, first: str, count: str, **more: str) -> dict[str, str]:
    names = {"ID": task, "MIN": first, "COUNT": count, **more}
    return {f"SLURM_ARRAY_TASK_{name}": value for name, value in names.items()}


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({}, None),
        ({"SLURM_ARRAY_TASK_ID": "3"}, None),
        (slurm(task="1", first="1", count="4"), Part(1, 4)),
        (slurm(task="3", first="0", count="4"), Part(4, 4)),
        (slurm(task="9", first="5", count="3", MAX="9", STEP="2"), Part(3, 3)),
        (slurm(task="7", first="7", count="1", MAX="7", STEP="1"), Part(1, 1)),
    ],
)
def test_the_part_of_a_slurm_task(environment: dict[str, str], part: Part | None) -> None:
    assert Part.of_slurm(environment) == part


@pytest.mark.parametrize(
    "environment",
    [
        slurm(task="7", first="1", count="3", MAX="7", STEP="1"),
        slurm(task="2", first="1", count="3", MAX="7", STEP="3"),
        slurm(task="2", first="1", count="3", STEP="0"),
        slurm(task="9", first="1", count="3"),
        slurm(task="x", first="1", count="3"),
    ],
    ids=["list", "between", "no step", "beyond", "text"],
)
def test_an_array_whose_tasks_have_no_place(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        Part.of_slurm(environment)
