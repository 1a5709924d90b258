"""The command `wsicomp`: its subcommands, and how any of them ends.

    arguments -> typer -> a command -> answer on stdout, exit code
                   |          `-----> exception -> one line on stderr, with --json a document on stdout, exit code
                   `----------------> wrong usage -> the same

`wsicomp.errors` holds the rule of the exit codes.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from wsicomp._version import __version__
from wsicomp.cli import train
from wsicomp.cli.console import emit, log
from wsicomp.cli.decode import decode
from wsicomp.cli.encode import encode
from wsicomp.cli.evaluate import evaluate
from wsicomp.cli.info import info
from wsicomp.cli.models import models
from wsicomp.cli.process import settle
from wsicomp.cli.signals import Interrupted, install
from wsicomp.cli.status import status
from wsicomp.cli.verify import verify
from wsicomp.disk import explain
from wsicomp.errors import WsicompError

__all__ = ["app", "execute", "run"]

TRACEBACK = "WSICOMP_TRACEBACK"
"""Environment variable that has a crash show its traceback."""

app = typer.Typer(
    name="wsicomp",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 crash; 2 another command line mends it; 3 an input or an output is at fault; "
    "4 a gate or a target was missed; 130 and 143 ended by a signal.",
)


def _flowing(text: str) -> str:
    """Join the lines of each paragraph, so that help fills them anew to the terminal's width."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


for command in (info, encode, status, decode, verify, evaluate, models):
    app.command(help=_flowing(command.__doc__ or ""))(command)
app.add_typer(train.app, name="train")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"wsicomp {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Compress whole-slide images with learned codecs, and measure what that costs a diagnostic classifier."""


def execute(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; errors are one line on stderr, and with --json a document too."""
    try:
        code = app(list(arguments), prog_name="wsicomp", standalone_mode=False)
    except typer.TyperException as error:
        # A group without a command has printed its help and has no message.
        return _failed(arguments, error.format_message() or "a command is missing; choose one above", error.exit_code)
    except WsicompError as error:
        return _failed(arguments, str(error), error.exit_code)
    except OSError as error:
        return _failed(arguments, f"{error.filename or 'a file'}: {explain(error)}", 3)
    except Interrupted as interrupted:
        return _failed(arguments, "interrupted; nothing half-written is left", interrupted.exit_code)
    except SystemExit:
        return 1  # nobody reads standard output any more
    except Exception as error:  # noqa: BLE001 - what nobody foresaw ends here, in one line as all else
        return _failed(arguments, _crash(error), 1)
    return code if isinstance(code, int) else 0


def _crash(error: Exception) -> str:
    """Say where an unforeseen exception was raised; its own message may quote a slide and stays in the traceback."""
    import traceback

    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = [frame for frame in frames if "wsicomp" in Path(frame.filename).parts][-1]
    place = f"{Path(where.filename).name} line {where.lineno}"
    return f"this is a defect: {type(error).__name__} in {place}; report it with what {TRACEBACK}=1 shows"


def _failed(arguments: Sequence[str], message: str, code: int) -> int:
    message = " ".join(message.split())
    log(f"wsicomp: error: {message}")
    if "--json" in arguments:
        with contextlib.suppress(OSError):  # standard output may be what failed
            emit({"command": _command(arguments), "status": "error", "error": message, "exit_code": code})
    return code


def _command(arguments: Sequence[str]) -> str:
    names = {command.callback.__name__ for command in app.registered_commands if command.callback}
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    first, *rest = [*arguments, ""]
    if first in groups and rest:
        return f"{first} {rest[0]}"
    return first if first in names else "wsicomp"


def run() -> NoReturn:
    """Run the program's own command line."""
    settle()
    install()
    sys.exit(execute(sys.argv[1:]))
