"""One rule of exit codes for every command, and one JSON document on stdout however a command ends.

`wsicomp.errors` writes the rule down. Each command has a row for each code that it can end with; what any command can
meet, a crash, a full disk or a signal, is put where the command does its work.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, Ended
from tests.reference import commands
from wsicomp.cli.main import TRACEBACK
from wsicomp.cli.signals import Interrupted
from wsicomp.datasets.phantom import PHANTOM_COUNTS
from wsicomp.slides.local import open_native

STUDY = "--model perticarari2023"
WORKS = {
    "info": "info SLIDE",
    "encode": f"encode SLIDE -o out.zarr --depth 4 {STUDY}",
    "status": "status BATCH",
    "decode": "decode STORE -o out.png",
    "verify": "verify STORE",
    "evaluate": f"evaluate PATCHES --classifier CLASSIFIER --depths 0,4 --resamples 5 {STUDY}",
    "models": "models",
    "train autoencoder": "train autoencoder --data PATCHES -o run --depths 1 --steps 1 --batch-size 1 --crop 16",
    "train codec": "train codec --data PATCHES -o run --depths 4 --steps 1 --batch-size 1 --crop 32",
    "train classifier": "train classifier --data PATCHES -o run --width 0.0625 --epochs 1 --batch-size 4",
}
"""A command line of each command that ends with 0."""

CALLED = {
    "info": "wsicomp.slides.describe.describe",
    "encode": "wsicomp.pipeline.target.codec_choice",
    "status": "wsicomp.pipeline.status.read_status",
    "decode": "wsicomp.models.device.resolve_device",
    "verify": "wsicomp.store.verify.verify",
    "evaluate": "wsicomp.models.device.resolve_device",
    "models": "wsicomp.models.registry.describe_shipped",
    "train autoencoder": "wsicomp.training.run.Run.open",
    "train codec": "wsicomp.training.run.Run.open",
    "train classifier": "wsicomp.training.run.Run.open",
}
"""A function that each command calls."""

MENDED_BY_ANOTHER_COMMAND_LINE = {
    "info": ["info"],
    "encode": [
        "encode",
        "encode EMPTY",
        "encode SLIDE --device abacus",
        "encode SLIDE --depth 9",
        "encode SLIDE --quality 8",
        "encode SLIDE --mpp 0.1",
        "encode SLIDE --reader fast",
        "encode SLIDE --tile-size 100",
        "encode SLIDE -o STORE",
        "encode SLIDE --overwrite --resume",
        "encode SLIDE --psnr 30 --max-bytes 9",
    ],
    "status": ["status"],
    "decode": [
        "decode STORE",
        "decode STORE -o out.bmp",
        "decode STORE -o EMPTY",
        "decode STORE -o none/out.png",
        "decode STORE -o out.png --region 0,0,9999,9",
        "decode STORE -o out.png --level 7",
        "decode STORE -o out.png --device abacus",
    ],
    "verify": ["verify", "verify STORE STORE --against SLIDE"],
    "evaluate": [
        "evaluate PATCHES",
        "evaluate --depths one",
        "evaluate --qualities fine",
        "evaluate --device abacus",
        "evaluate --classes dark",
    ],
    "models": ["models a b"],
    "train autoencoder": ["train autoencoder", "train autoencoder --data PATCHES --crop 40 -o run"],
    "train codec": ["train codec", "train codec --data PATCHES --depths 9 -o run"],
    "train classifier": ["train classifier", "train classifier --data PATCHES --width 0 -o run"],
}
FILE_AT_FAULT = {
    "info": ["info none.svs", "info none.zarr", "info TEXT", "info EMPTY"],
    "encode": [
        "encode none.svs",
        "encode TEXT",
        "encode --list none.csv",
        "encode --list TEXT",
        "encode SLIDE --model nope",
        "encode SLIDE none.svs --skip-errors -o out --depth 4",
    ],
    "status": ["status EMPTY", "status none"],
    "decode": ["decode none.zarr -o out.png", "decode SLIDE -o out.png", "decode DAMAGED -o out.png"],
    "verify": ["verify none.zarr", "verify SLIDE", "verify DAMAGED", "verify STORE DAMAGED"],
    "evaluate": ["evaluate none.csv --classifier CLASSIFIER", "evaluate PATCHES --classifier TEXT"],
    "models": ["models nope"],
    "train autoencoder": ["train autoencoder --data none -o run"],
    "train codec": ["train codec --data none -o run", "train codec --data PATCHES --from TEXT -o run"],
    "train classifier": ["train classifier --data none -o run"],
}
PROMISE_NOT_KEPT = {
    "encode": [f"encode SLIDE --model WSIC --mpp 2 {target}" for target in ("--max-bytes 2000", "--psnr 90")],
    "evaluate": ["evaluate PATCHES --classifier CLASSIFIER --depths 2 --resamples 5 --model WHITE --max-auc-drop 0.1"],
}


def rows(table: Mapping[str, list[str]], code: int) -> list[tuple[str, str, int]]:
    return [(command, line, code) for command, lines in table.items() for line in lines]


ROWS = [
    *((command, line, 0) for command, line in WORKS.items()),
    *rows(MENDED_BY_ANOTHER_COMMAND_LINE, 2),
    *((command, f"{line} --no-such-option", 2) for command, line in WORKS.items()),
    *rows(FILE_AT_FAULT, 3),
    *rows(PROMISE_NOT_KEPT, 4),
]
RAISED: list[tuple[BaseException, int, str]] = [
    (ZeroDivisionError("of Mrs Smith"), 1, "this is a defect: ZeroDivisionError in"),
    (OSError(errno.ENOSPC, "full", "there"), 3, "there: the disk is full"),
    (Interrupted(signal.SIGINT), 130, "interrupted"),
    (Interrupted(signal.SIGTERM), 143, "interrupted"),
]


@pytest.fixture
def places(
    tmp_path: Path,
    tissue_svs: Path,
    store: Path,
    patches: Path,
    bright_onnx: Path,
    white_codec: Path,
    wsic_weights: Path,
    batch: Path,
) -> dict[str, Path]:
    """What the words in capitals stand for."""
    (tmp_path / "text.svs").write_text("hello")
    (tmp_path / "empty").mkdir()
    damaged = tmp_path / "damaged.zarr"
    os.rename(store, damaged)
    shard = damaged / "latents/0/c/0/0/0"
    shard.write_bytes(bytes(shard.stat().st_size))
    return {
        "SLIDE": tissue_svs,
        "PATCHES": patches,
        "CLASSIFIER": bright_onnx,
        "WHITE": white_codec,
        "WSIC": wsic_weights,
        "BATCH": batch,
        "TEXT": tmp_path / "text.svs",
        "EMPTY": tmp_path / "empty",
        "DAMAGED": damaged,
    }


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """A folder that a batch of one slide was written into."""
    from wsicomp.pipeline.batch import Job
    from wsicomp.pipeline.status import StatusLog

    with StatusLog(tmp_path / "batch", [Job(tmp_path / "a.svs", tmp_path / "batch/a.zarr")]):
        pass
    return tmp_path / "batch"


def words_of(line: str, places: Mapping[str, Path], store: Path) -> list[str]:
    return [str({**places, "STORE": store}.get(word, word)) for word in line.split()]


def one_document(ended: Ended, command: str, code: int) -> None:
    """Check that stdout is one document, which says how the command ended."""
    document = ended.document
    assert document["command"] == command
    assert (document["status"] == "ok") is (code == 0)
    assert "Traceback" not in ended.err
    if code == 0:
        return
    assert document["exit_code"] == code
    assert ended.err


def test_every_command_has_its_rows() -> None:
    every = {path.removeprefix("wsicomp ") for path, _ in commands()}
    for table in (WORKS, CALLED, MENDED_BY_ANOTHER_COMMAND_LINE, FILE_AT_FAULT):
        assert set(table) == every


@pytest.mark.parametrize(("command", "line", "code"), ROWS, ids=[f"{code} {line}" for _, line, code in ROWS])
def test_the_rule(
    cli: Cli,
    places: dict[str, Path],
    encoded_once: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    line: str,
    code: int,
) -> None:
    for split in PHANTOM_COUNTS:
        monkeypatch.setitem(PHANTOM_COUNTS, split, 8)
    monkeypatch.setattr("wsicomp.slides.opening.ReaderProcess", open_native)
    ended = cli(*words_of(line, places, encoded_once), "--json")
    assert ended.code == code, ended.err
    one_document(ended, command, code)
    for text in ended.err.splitlines():
        assert text.startswith("wsicomp: ")


@pytest.mark.parametrize("as_json", [False, True], ids=["", "json"])
@pytest.mark.parametrize(("raised", "code", "word"), RAISED, ids=[str(code) for _, code, _ in RAISED])
@pytest.mark.parametrize("command", WORKS)
def test_what_any_command_can_meet(
    cli: Cli,
    places: dict[str, Path],
    encoded_once: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    raised: BaseException,
    code: int,
    word: str,
    as_json: bool,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(CALLED[command], fail)
    ended = cli(*words_of(WORKS[command], places, encoded_once), *(["--json"] if as_json else []))
    line = ended.failed(code, word)
    assert "Mrs Smith" not in line
    if as_json:
        one_document(ended, command, code)


def test_a_crash_shows_its_traceback_where_that_is_asked_for(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tissue_svs: Path
) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("of Mrs Smith")

    monkeypatch.setattr("wsicomp.slides.describe.describe", broken)
    assert "in info.py line" in cli("info", tissue_svs).failed(1, TRACEBACK)
    monkeypatch.setenv(TRACEBACK, "1")
    ended = cli("info", tissue_svs)
    assert ended.code == 1
    for text in ("Traceback", "Mrs Smith", "wsicomp: error: this is a defect"):
        assert text in ended.err


@pytest.mark.parametrize("words", [["models"], ["models", "--json"], ["info", "none.svs", "--json"], ["--help"]])
@pytest.mark.parametrize("reader", ["gone", "full"])
def test_standard_output_that_nobody_reads_or_that_is_full(words: list[str], reader: str) -> None:
    program = [sys.executable, "-c", "from wsicomp.cli.main import run; run()", *words]
    if reader == "full":
        with open("/dev/full", "w") as stdout:
            ended = subprocess.run(program, stdout=stdout, stderr=subprocess.PIPE, check=False)
    else:
        ours, theirs = os.pipe()
        os.close(ours)
        ended = subprocess.run(program, stdout=theirs, stderr=subprocess.PIPE, check=False)
        os.close(theirs)
    lines = ended.stderr.decode().splitlines()
    if "none.svs" in words:
        assert (ended.returncode, len(lines)) == (3, 1)
    elif reader == "gone":
        assert (ended.returncode, lines) == (1, [])
    else:
        assert (ended.returncode, len(lines)) == (3, 1)
        assert "the disk is full" in lines[0]


def test_help_and_the_errors_module_write_the_rule_down(cli: Cli) -> None:
    from wsicomp import errors

    text = " ".join(cli("--help").out.split())
    for code in ("0 done", "1 crash", "2 another", "3 an input or an output", "4 a", "130", "143"):
        assert code in text
        assert code.split()[0] in (errors.__doc__ or "")
