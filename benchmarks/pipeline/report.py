"""The rows as a Markdown table; what misses its target says by how much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["table", "to_markdown"]

HEAD = """# The pipeline

`{command}` on {slide}, made larger, half of it glass; cores: {cores}, readers: {readers},
model {model} at depth {depth}{quality}. Medians of interleaved rounds ({rounds}), with the smallest and the largest of
them. A larger ratio is better, but for regions, whose seconds are compared, and for the exponent of cost. Peak memory
is in `{peak_memory}`, by `python -m benchmarks.memory`.

"""


def to_markdown(document: dict[str, Any]) -> str:
    """Write a run's rows."""
    quality = "" if document["quality"] is None else f", quality {document['quality']:g}"
    lines = [
        [row["what"], row["against"], ratio(row), spread(row), row["target_words"] or "-", outcome(row), row["note"]]
        for row in document["rows"]
    ]
    header = ["what", "against", "ratio", "spread", "to reach", "outcome", "note"]
    return HEAD.format(**{**document, "quality": quality}) + table(header, lines)


def ratio(row: dict[str, Any]) -> str:
    """Write the ratio, where there is one."""
    return "-" if row["ratio"] is None else f"{row['ratio']:.3g}"


def spread(row: dict[str, Any]) -> str:
    """Write the smallest and the largest of the rounds."""
    return "-" if row["spread"] is None else "{:.3g} to {:.3g}".format(*row["spread"])


def outcome(row: dict[str, Any]) -> str:
    """Say whether the target is reached."""
    if row["ratio"] is None:
        return "not measured"
    if not row["target_words"]:
        return "-"
    return "reached" if row["reached"] else f"missed by {100 * row['missed_by']:.0f} %"


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Markdown table whose first column is text."""
    rows = [header, [":--", *["--:"] * (len(header) - 1)], *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
