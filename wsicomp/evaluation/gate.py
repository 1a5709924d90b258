"""Checks limits for a pipeline: which rows of a report lost more than they may against the original.

A drop is the original's score minus the row's, on point estimates: 0.03 is three points. A score that is undefined
although its limit is set counts as missed, so that a broken data set never passes a gate. It does NOT look at the
intervals and ends no process: the command turns misses into its exit code.
"""

from __future__ import annotations

from wsicomp.errors import ConfigError
from wsicomp.evaluation.report import Report, original_row, row_name

__all__ = ["check"]

_ROUNDING = 1e-9
"""0.90 - 0.87 is a little more than 0.03 in floats; a drop equal to its limit keeps it."""


def check(
    report: Report,
    max_accuracy_drop: float | None = None,
    max_recall_drop: float | None = None,
    max_auc_drop: float | None = None,
) -> list[str]:
    """Rows that miss a limit, one line for each row and limit; empty when all are kept.

    Parameters
    ----------
    report
        From `study.evaluate`.
    max_accuracy_drop, max_recall_drop, max_auc_drop
        Largest drop against the original, a fraction in [0, 1]; None sets no limit.

    Raises
    ------
    ConfigError
        If a limit is not in [0, 1].
    DataError
        If the report has no row of the original.
    """
    limits = {"accuracy": max_accuracy_drop, "recall": max_recall_drop, "auc": max_auc_drop}
    for statistic, limit in limits.items():
        if limit is not None and not 0 <= limit <= 1:
            raise ConfigError(f"the largest {statistic} drop is a fraction from 0 to 1, such as 0.03, not {limit}")
    original = original_row(report.rows)
    misses = []
    for row in report.rows:
        for statistic, limit in limits.items():
            if limit is None:
                continue
            before, after = original[statistic], row[statistic]
            if before is None or after is None:
                misses.append(f"{row_name(row)}: {statistic} is undefined, so its limit of {limit:g} cannot be kept")
            elif before - after > limit + _ROUNDING:
                misses.append(
                    f"{row_name(row)}: {statistic} fell by {before - after:.4f}, "
                    f"from {before:.4f} to {after:.4f}; the limit is {limit:g}"
                )
    return misses
