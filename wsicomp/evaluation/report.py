"""The study's results as plain data, and as report.json, report.csv and a markdown table.

    study.evaluate --> Report --> report.json: {"rows": [...], "classifier", "data", "machine"}, strict JSON
                              --> report.csv: the rows, nested values flattened
                              --> to_markdown: the rows for a README
    report_folder --> an empty folder to write into, whole or not there, made before the study computes anything

A row is a dictionary of exactly ROW_KEYS, JSON values only, None where a value is undefined. It holds no path of the
machine it was made on. Numbers are written in full; only the markdown table rounds.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wsicomp.disk import sync_folder, write_file
from wsicomp.errors import ConfigError, DataError
from wsicomp.store.place import check_place

__all__ = [
    "CALIBRATED_KEYS",
    "DROPS",
    "FIDELITY",
    "ORIGINAL",
    "ROW_KEYS",
    "STATISTICS",
    "Report",
    "Row",
    "original_row",
    "read_report",
    "report_folder",
    "row_name",
    "to_markdown",
    "write_report",
]

ORIGINAL = "original"
"""Codec of the row of the uncompressed tiles."""

FIDELITY = ("psnr_db", "ssim", "ms_ssim", "loss")
"""What is said of the pixels, each with an interval but for the original's."""

STATISTICS = ("bce", "accuracy", "precision", "recall", "auc", "flip_rate")
"""What is said of the classifier, each with an interval."""

DROPS = tuple(f"{statistic}_drop" for statistic in STATISTICS if statistic != "flip_rate")
"""Intervals of paired differences, original minus row: positive is a loss, except for bce, where it is a gain."""

ROW_KEYS = (
    *("codec", "depth", "quality", "latent_elements", "element_ratio", "bytes_per_tile", "bits_per_pixel"),
    *FIDELITY,
    *STATISTICS,
    *("intervals", "calibrated"),
)
"""Keys of a row, in order."""

REPORT_SUFFIXES = (".json", ".csv", ".png")
"""What a folder of a report holds, and nothing else."""

WITH_INTERVALS = (*FIDELITY, *STATISTICS, *DROPS)

CALIBRATED_KEYS = ("threshold", "accuracy", "precision", "recall", "flip_rate")
"""Keys under a row's "calibrated"."""

Row = dict[str, Any]
"""One codec at one setting; `ROW_KEYS` are its keys."""


@dataclass(frozen=True)
class Report:
    """Everything the study found, JSON values only.

    Parameters
    ----------
    rows
        The original first, then the reconstructions in the order they were given.
    classifier
        Its name and thresholds.
    data
        Name, counts, classes, tile size and the bootstrap's settings.
    machine
        From `machine.describe_machine`.
    """

    rows: list[Row]
    classifier: dict[str, Any]
    data: dict[str, Any]
    machine: dict[str, Any]


def original_row(rows: Sequence[Row]) -> Row:
    """Row of the uncompressed tiles.

    Raises
    ------
    DataError
        If there is none.
    """
    for row in rows:
        if row["codec"] == ORIGINAL:
            return row
    raise DataError("the report has no row of the original (depth 0) to compare with; evaluate again")


def row_name(row: Row) -> str:
    """How messages and pictures call a row, such as "wsic depth 3 quality 5"."""
    parts = [row["codec"]]
    if row["depth"] is not None and row["codec"] != ORIGINAL:
        parts.append(f"depth {row['depth']}")
    if row["quality"] is not None:
        parts.append(f"quality {row['quality']:g}")
    return " ".join(parts)


@contextmanager
def report_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a new folder to write a report into; on success it takes the name `path`, on any error it is removed.

    The folder is made at once, so that a place that cannot be written to is found before anything is computed.

    Parameters
    ----------
    path
        Folder of the report; its parents are made if they do not exist.
    overwrite
        Whether an older report may be replaced. A folder that holds anything else is never replaced.

    Raises
    ------
    ConfigError
        If something stands there that may not be replaced, or the folder would lie inside a store.
    OSError
        If the folder cannot be written.
    """
    check_place(path)
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path}: is a file; give a folder for the report")
    held = sorted(path.iterdir()) if path.is_dir() else []
    if held and not overwrite:
        raise ConfigError(f"{path}: exists already; give another folder, or --overwrite to replace the report in it")
    foreign = [found.name for found in held if found.suffix not in REPORT_SUFFIXES or not found.is_file()]
    if held and (foreign or not (path / "report.json").exists()):
        what = f"holds {foreign[0]}" if foreign else "holds no report.json"
        raise ConfigError(f"{path}: {what}, so it is more than an older report; give another folder")
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, older = (path.with_name(f".{path.name}.{kind}-{os.getpid()}") for kind in ("partial", "older"))
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            path.replace(older)
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if older.exists() and not path.exists():
            older.replace(path)
        shutil.rmtree(older, ignore_errors=True)


def write_report(report: Report, directory: str | Path) -> list[Path]:
    """Write report.json and report.csv, each whole or not at all.

    Parameters
    ----------
    report
        What to write.
    directory
        Folder of the two files; it is made if it does not exist.

    Returns
    -------
    The two files.

    Raises
    ------
    ValueError
        If a value is NaN or infinite, which JSON does not have; nothing is written then.
    OSError
        If the folder cannot be written.
    """
    contents = {"report.json": _to_json(report), "report.csv": _to_csv(report.rows)}
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_file(directory / name, content.encode())
    return [directory / name for name in contents]


def read_report(path: str | Path) -> Report:
    """Read a report.json.

    Raises
    ------
    DataError
        If the file cannot be read or is not a report.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        report = Report(**document)
        complete = all(set(ROW_KEYS) <= set(row) for row in report.rows)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a report that can be read: {error}") from error
    if not complete:
        raise DataError(f"{path}: rows without {', '.join(ROW_KEYS)}; evaluate again")
    return report


def to_markdown(rows: Sequence[Row]) -> str:
    """Rows as a markdown table with 95 % intervals in brackets; a dash stands for what is undefined."""
    columns: dict[str, Callable[[Row], str]] = {
        "codec": lambda row: str(row["codec"]),
        "depth": lambda row: _number(row["depth"], "d"),
        "quality": lambda row: _number(row["quality"], "g"),
        "elements": lambda row: _number(row["element_ratio"], ".2%"),
        "bits/px": lambda row: _number(row["bits_per_pixel"], ".3f"),
        "PSNR dB": lambda row: _number(row["psnr_db"], ".2f"),
        "SSIM": lambda row: _number(row["ssim"], ".3f"),
        "MS-SSIM": lambda row: _number(row["ms_ssim"], ".4f"),
        "loss": lambda row: _number(row["loss"], ".4f"),
        "BCE": lambda row: _estimate(row, "bce"),
        "accuracy": lambda row: _estimate(row, "accuracy"),
        "precision": lambda row: _estimate(row, "precision"),
        "recall": lambda row: _estimate(row, "recall"),
        "AUC": lambda row: _estimate(row, "auc"),
        "flipped": lambda row: _estimate(row, "flip_rate"),
    }
    lines = [list(columns), [":--", *["--:"] * (len(columns) - 1)]]
    lines += [[cell(row) for cell in columns.values()] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _estimate(row: Row, statistic: str) -> str:
    value, interval = row[statistic], row["intervals"].get(statistic)
    if value is None or interval is None:
        return _number(value, ".3f")
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _to_json(report: Report) -> str:
    return json.dumps(asdict(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _to_csv(rows: Sequence[Row]) -> str:
    scalars = [key for key in ROW_KEYS if key not in ("intervals", "calibrated")]
    header = [
        *scalars,
        *(f"{statistic}_{end}" for statistic in WITH_INTERVALS for end in ("low", "high")),
        *(f"calibrated_{key}" for key in CALIBRATED_KEYS),
    ]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        ends = [row["intervals"].get(statistic) or (None, None) for statistic in WITH_INTERVALS]
        calibrated = row["calibrated"] or dict.fromkeys(CALIBRATED_KEYS)
        writer.writerow(
            [*(row[key] for key in scalars), *(end for pair in ends for end in pair)]
            + [calibrated[key] for key in CALIBRATED_KEYS]
        )
    return table.getvalue()
