"""Writes the command reference, docs/commands.md, from the commands themselves.

python -m tests.reference      writes the page anew; `make docs` runs this
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from wsicomp.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
HEAD = """# Command reference

`make docs` writes this page from the commands themselves; do not edit it by hand. `wsicomp COMMAND --help` shows the
same in a terminal. The exit codes are explained in [pipelines.md](pipelines.md#exit-codes).
"""


def commands(command: Any = None, path: str = "wsicomp") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words that call it."""
    command = typer.main.get_command(app) if command is None else command
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from commands(child, f"{path} {name}")


def options(command: Any) -> list[Any]:
    """Parameters of a command that a user may give, without --help."""
    return [parameter for parameter in command.params if "--help" not in parameter.opts]


def names(parameter: Any) -> str:
    """How a parameter is written: `--tissue/--all-tiles`, `-o, --output`, `SLIDES`."""
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    return "/".join([", ".join(reversed(parameter.opts)), *parameter.secondary_opts])


def render() -> str:
    """Make the page, as Markdown."""
    parts = [HEAD]
    for path, command in commands():
        text = inspect.cleandoc(command.help or "")
        summary, _, example = text.partition("Example: ")
        parts.append(f"## `{path}`\n\n{' '.join(summary.split())}\n\n```\n{' '.join(example.split())}\n```\n")
        panels: dict[str, list[Any]] = {}
        for option in options(command):
            panels.setdefault(getattr(option, "rich_help_panel", None) or "", []).append(option)
        for panel, members in panels.items():
            rows = [f"| `{names(option)}` | {described(option)} |" for option in members]
            parts.append("\n".join([f"| {panel} | |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def described(option: Any) -> str:
    """Help of an option with its default, unless the help says it or there is none to speak of."""
    text = str(option.help or "")
    default = option.default
    if option.required:
        text += " Required."
    elif isinstance(option.show_default, str):
        text += f" [default: {option.show_default}]"
    elif default not in (None, False, True, ()) and not callable(default):
        text += f" [default: {default}]"
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
