"""Shares of a batch: together they are all of it, and a SLURM array's task knows its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsicomp.errors import ConfigError
from wsicomp.pipeline.share import Share


@given(items=st.integers(0, 50), count=st.integers(1, 20))
def test_shares_are_disjoint_complete_and_even(items: int, count: int) -> None:
    shares = [Share(index, count).of(range(items)) for index in range(1, count + 1)]
    assert sorted(item for share in shares for item in share) == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_every_nth() -> None:
    assert Share.parse("2/3").of("abcdefgh") == ["b", "e", "h"]
    assert str(Share.parse(" 2/3 ")) == "2/3"


@pytest.mark.parametrize(
    "text", ["", "1", "1/", "/4", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/2/3", "1.0/2", "\u0661/4"]
)
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(ConfigError, match="1/4"):
        Share.parse(text)


def slurm(*, task: str, first: str, count: str, **more: str) -> dict[str, str]:
    names = {"ID": task, "MIN": first, "COUNT": count, **more}
    return {f"SLURM_ARRAY_TASK_{name}": value for name, value in names.items()}


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({}, None),
        ({"SLURM_ARRAY_TASK_ID": "3"}, None),
        (slurm(task="1", first="1", count="4"), Share(1, 4)),
        (slurm(task="3", first="0", count="4"), Share(4, 4)),
        (slurm(task="9", first="5", count="3", MAX="9", STEP="2"), Share(3, 3)),
        (slurm(task="7", first="7", count="1", MAX="7", STEP="1"), Share(1, 1)),
    ],
)
def test_the_share_of_a_slurm_task(environment: dict[str, str], share: Share | None) -> None:
    assert Share.of_slurm(environment) == share


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
        Share.of_slurm(environment)
