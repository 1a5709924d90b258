"""What a person at a terminal sees: help that fits 80 columns, and lines that no progress bar is drawn into."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.cli.conftest import Cli
from tests.cli.test_main import PROGRAM
from tests.reference import commands, names, options
from wsicomp.cli import console

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def words_in(text: str) -> set[str]:
    return set(re.sub(r"[│╭╮╰╯─]", " ", text).split())


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=[path for path, _ in commands()])
def test_help_fits_80_columns(cli: Cli, monkeypatch: pytest.MonkeyPatch, path: str, command: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = cli(*path.split()[1:], "--help").out
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    shown = words_in(text)
    for option in options(command):
        if option.param_type_name == "option":
            assert set(re.split("[ ,/]+", names(option))) <= shown
            assert getattr(option, "rich_help_panel", None), names(option)
        assert words_in(option.help) <= shown
        if isinstance(option.show_default, str):
            assert words_in(f"[default: ({option.show_default})]") <= shown
    assert words_in(command.help) <= shown


def test_help_of_encode_is_in_groups(cli: Cli) -> None:
    text = cli("encode", "--help").out
    titles = ["What to encode", "How much to keep", "What to write", "Where to run", "What to print"]
    places = [text.index(f" {title} ") for title in titles]
    assert places == sorted(places)


def test_lines_stand_above_the_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=terminal, force_terminal=True, width=80))
    long = "wsicomp: warning: " + "a/folder/" * 12 + "slide [red].svs: is odd"
    with console.progress_bar("encode") as bar:
        bar(3, 10, "slide 2 of 40: b.svs")
        console.log(long)
        console.say("to a file")
        bar(4, 10, "slide 2 of 40: b.svs")
    lines = [line.rsplit("\r", 1)[-1] for line in CONTROL.sub("", terminal.getvalue()).split("\n")]
    assert long in lines
    assert any(line.startswith("encode slide 2 of 40: b.svs ━") for line in lines)
    assert all("warning" not in line for line in lines if line != long)
    assert capsys.readouterr().out == "to a file\n"
    console.log("after")
    assert capsys.readouterr().err == "after\n"


def test_plain_lines_say_which_slide(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console, "PLAIN_LINE_S", 0.0)
    with console.progress_bar("encode") as line:
        line(3, 10, "slide 2 of 40: b.svs")
        line(4, 10)
    assert capsys.readouterr().err == "encode: 3 of 10, slide 2 of 40: b.svs\nencode: 4 of 10\n"


def test_an_answer_in_a_file_does_not_go_to_the_terminal(tmp_path: Path, tissue_svs: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*PROGRAM, "encode", str(tissue_svs), "-o", "a.zarr", "--depth", "4", "--mpp", "2"]
    with (tmp_path / "out.txt").open("w") as out:
        subprocess.run(command, stdout=out, stderr=theirs, cwd=tmp_path, check=True)
    os.close(theirs)
    drawn = b""
    while piece := _read(ours):
        drawn += piece
    os.close(ours)
    assert (tmp_path / "out.txt").read_text().startswith("a.zarr: depth 4, ")
    assert b"depth 4" not in drawn
    assert b"encode" in drawn


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other side is closed and nothing is left
        return b""
