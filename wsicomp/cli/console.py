"""What every command prints: answers and JSON on stdout, warnings and progress on stderr, never two on one line.

While a bar is shown, a line for the same terminal goes through the bar's console, which draws it above the bar.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from wsicomp.progress import Progress

__all__ = ["emit", "log", "progress_bar", "say"]

PLAIN_LINE_S = 10.0
"""Seconds between two progress lines where there is no terminal."""

stderr = Console(stderr=True, highlight=False)

_bar: Bar | None = None
"""The bar that is shown now."""


def say(text: str) -> None:
    """Print one line of an answer on stdout."""
    if _bar is not None and os.isatty(1):
        _above(_bar, text)
        return
    try:
        typer.echo(text)
    except OSError as error:
        error.filename = "standard output"
        raise


def log(text: str) -> None:
    """Print one line of a log or a warning on stderr."""
    if _bar is not None:
        _above(_bar, text)
    else:
        typer.echo(text, err=True)


def emit(document: dict[str, Any]) -> None:
    """Print the JSON document of a command on stdout."""
    say(json.dumps(document, indent=2, allow_nan=False))


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show progress on stderr: a bar on a terminal, else a plain line now and then."""
    global _bar
    if stderr.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        # rich would send what is written to stdout to the bar's console, and so a redirected answer to the terminal
        with Bar(*columns, console=stderr, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
            task = bar.add_task(title, total=None)

            def show(done: int, total: int, note: str = "") -> None:
                bar.update(task, completed=done, total=total, description=f"{title} {note}".strip())

            _bar = bar
            try:
                yield show
            finally:
                _bar = None
        return
    last = time.monotonic()

    def line(done: int, total: int, note: str = "") -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_LINE_S:
            last = time.monotonic()
            log(f"{title}: {done} of {total}{note and ', '}{note}")

    yield line


def _above(bar: Bar, text: str) -> None:
    bar.console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)
