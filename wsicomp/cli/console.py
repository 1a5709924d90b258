"""What every command shares: one-line errors, exit codes, one JSON document on stdout, progress on stderr."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from wsicomp.progress import Progress

__all__ = ["JsonOption", "emit", "log", "progress_bar", "say", "table_console"]

PLAIN_LINE_S = 10.0
"""Seconds between two progress lines where there is no terminal."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, also on failure.")]

stderr = Console(stderr=True, highlight=False)


def table_console() -> Console:
    """Console for what a command answers on stdout."""
    return Console(highlight=False)


def say(text: str) -> None:
    """Print one line of an answer on stdout."""
    typer.echo(text)


def log(text: str) -> None:
    """Print one line of a log or a warning on stderr."""
    typer.echo(text, err=True)


def emit(document: dict[str, Any]) -> None:
    """Print the JSON document of a command on stdout."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show progress on stderr: a bar on a terminal, else a plain line now and then."""
    if stderr.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bar(*columns, console=stderr, transient=True) as bar:
            task = bar.add_task(title, total=None)

            def show(done: int, total: int, note: str = "") -> None:
                bar.update(task, completed=done, total=total, description=f"{title} {note}".strip())

            yield show
        return
    last = time.monotonic()

    def line(done: int, total: int, note: str = "") -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_LINE_S:
            last = time.monotonic()
            log(f"{title}: {done} of {total} {note}".rstrip())

    yield line
