"""The command reference is up to date, and every command and option says what it does."""

from __future__ import annotations

from typing import Any

import pytest

from tests.reference import PAGE, commands, names, options, render

COMMANDS = dict(commands())


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_help_with_an_example(path: str) -> None:
    text = COMMANDS[path].help or ""
    assert text.strip()
    assert f"Example: {path}" in " ".join(text.split())


OPTIONS = {f"{path} {names(option)}": option for path, command in COMMANDS.items() for option in options(command)}


@pytest.mark.parametrize("parameter", OPTIONS.values(), ids=OPTIONS)
def test_every_option_has_help(parameter: Any) -> None:
    assert (parameter.help or "").strip().endswith((".", "]"))


def test_the_reference_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run `make docs`"
