"""The program as a whole: its version, its errors in one line, and its exit codes under signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import wsicomp
from benchmarks.memory import peak_rss
from tests.cli.conftest import Cli, listing
from tests.factories import huge_slide
from tests.reference import commands

PROGRAM = [sys.executable, "-c", "from wsicomp.cli.main import run; run()"]


def test_version(cli: Cli) -> None:
    ended = cli("--version")
    assert (ended.code, ended.out) == (0, f"wsicomp {wsicomp.__version__}\n")


@pytest.mark.parametrize("path", [path for path, _ in commands()])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(cli: Cli, path: str, flag: str) -> None:
    ended = cli(*path.split()[1:], flag)
    assert ended.code == 0
    assert f"Usage: {path}" in ended.out
    assert ended.err == ""


@pytest.mark.parametrize("words", [(), ("train",)])
def test_no_command_is_a_usage_error_with_help(cli: Cli, words: tuple[str, ...]) -> None:
    ended = cli(*words)
    ended.failed(2, "a command is missing")
    assert "Usage: wsicomp" in ended.out


@pytest.mark.parametrize(
    ("arguments", "command", "word"),
    [
        (("wat",), "wsicomp", "wat"),
        (("encode",), "encode", "slides"),
        (("encode", "a.svs", "--dept", "3"), "encode", "--dept"),
        (("encode", "a.svs", "--depth", "deep"), "encode", "valid integer"),
        (("encode", "a.svs", "--depth", "0"), "encode", "--depth"),
        (("encode", "a.svs", "--tissue-threshold", "256"), "encode", "--tissue-threshold"),
        (("decode", "a.zarr"), "decode", "--output"),
        (("verify",), "verify", "stores"),
        (("info",), "info", "path"),
        (("train", "autoencoder"), "train autoencoder", "--data"),
        (("train", "classifier", "--data", "x", "--epochs", "0"), "train classifier", "--epochs"),
        (("evaluate", "--depths", "one"), "evaluate", "--depths"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_wrong_usage(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], command: str, word: str, as_json: bool
) -> None:
    ended = cli(*arguments, *(["--json"] if as_json else []))
    line = ended.failed(2, word)
    if as_json:
        message = line.removeprefix("wsicomp: error: ")
        assert ended.document == {"command": command, "status": "error", "error": message, "exit_code": 2}
    else:
        assert ended.out == ""
    assert listing(tmp_path) == {}


@pytest.mark.parametrize("as_json", [False, True])
def test_what_the_system_refuses_is_one_line(cli: Cli, patches: Path, as_json: bool) -> None:
    arguments = ["train", "autoencoder", "--data", patches, "-o", "/proc/run"]
    ended = cli(*arguments, *(["--json"] if as_json else []))
    ended.failed(3, "/proc/run", "no such folder")
    if as_json:
        assert ended.document["exit_code"] == 3


def test_memory_is_bounded_or_refused(cli: Cli, tmp_path: Path) -> None:
    slide = huge_slide(tmp_path / "huge.svs", 0.05)
    before = listing(tmp_path)
    cli("encode", slide, "--depth", "4", "--memory", "100M").failed(2, "100 MB of memory")
    assert listing(tmp_path) == before
    peak, _ = peak_rss([*PROGRAM[1:], "encode", str(slide), "--depth", "4", "--memory", "900M"])
    assert peak < 900 * 2**20


@pytest.mark.parametrize("waited_for", ["huge.zarr.partial", "huge.zarr.partial/latents/0/c"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_the_middle_of_encoding_leaves_nothing(
    tmp_path: Path, number: int, code: int, waited_for: str
) -> None:
    slide = huge_slide(tmp_path / "huge.svs", 0.1)
    before = listing(tmp_path)
    child = subprocess.Popen(
        [*PROGRAM, "encode", str(slide), "--depth", "4", "--tile-size", "64", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while not (tmp_path / waited_for).exists() and child.poll() is None and time.monotonic() < until:
        time.sleep(0.001)
    assert child.poll() is None, "it ended before it could be interrupted"
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == code
    assert [line for line in err.splitlines() if not line.startswith("encode: ")] == [
        "wsicomp: stopping after this batch of tiles",
        "wsicomp: error: interrupted; nothing half-written is left",
    ]
    assert json.loads(out)["status"] == "error"
    assert listing(tmp_path) == before
