from __future__ import annotations

import pytest

from wsicomp.errors import ConfigError, DataError
from wsicomp.evaluation.gate import check
from wsicomp.evaluation.report import ORIGINAL, Report, Row


def row(codec: str, depth: int, accuracy: float, recall: float | None, auc: float | None) -> Row:
    return {"codec": codec, "depth": depth, "quality": None, "accuracy": accuracy, "recall": recall, "auc": auc}


REPORT = Report(
    [row(ORIGINAL, 0, 0.90, 0.80, 0.95), row("wsic", 1, 0.91, 0.81, 0.96), row("wsic", 3, 0.87, 0.70, 0.94)], {}, {}, {}
)


@pytest.mark.parametrize(
    ("limits", "missed"),
    [
        ({}, []),
        ({"max_accuracy_drop": 0.03}, []),  # exactly on the limit
        ({"max_accuracy_drop": 0.029}, ["accuracy"]),
        ({"max_recall_drop": 0.1}, []),
        ({"max_recall_drop": 0.05}, ["recall"]),
        ({"max_auc_drop": 0.01}, []),
        ({"max_auc_drop": 0.0}, ["auc"]),
        ({"max_accuracy_drop": 0.0, "max_recall_drop": 0.0, "max_auc_drop": 0.5}, ["accuracy", "recall"]),
    ],
)
def test_names_the_row_and_the_score_that_missed(limits: dict[str, float], missed: list[str]) -> None:
    lines = check(REPORT, **limits)
    assert [line.split(":")[0] for line in lines] == ["wsic depth 3"] * len(missed)
    assert [line.split()[3] for line in lines] == missed


def test_a_miss_tells_the_figures() -> None:
    assert check(REPORT, max_accuracy_drop=0.01) == [
        "wsic depth 3: accuracy fell by 0.0300, from 0.9000 to 0.8700; the limit is 0.01"
    ]


def test_an_undefined_score_does_not_pass() -> None:
    rows = [row(ORIGINAL, 0, 0.9, 0.8, None), row("wsic", 3, 0.9, 0.8, None)]
    report = Report(rows, {}, {}, {})
    assert check(report, max_accuracy_drop=0) == []
    assert [line.split(":")[0] for line in check(report, max_auc_drop=1)] == ["original", "wsic depth 3"]


@pytest.mark.parametrize("limit", [-0.01, 3, float("nan")])
def test_a_limit_is_a_fraction(limit: float) -> None:
    with pytest.raises(ConfigError, match="fraction"):
        check(REPORT, max_recall_drop=limit)


def test_there_must_be_an_original() -> None:
    with pytest.raises(DataError, match="original"):
        check(Report(REPORT.rows[1:], {}, {}, {}), max_accuracy_drop=0.1)
