"""The pages are right about what can be seen without running anything: commands, options, links, length.

`test_docs_run.py` runs their blocks, and `test_docs_figures.py` holds their figures against the results.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from tests.docs_pages import BLOCKS, PAGES, REASONS, ROOT, Block
from tests.reference import PAGE, commands, names, options, render

COMMANDS = dict(commands())
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
LINKED = [*PAGES, *sorted((ROOT / "benchmarks").glob("*.md")), ROOT / "CHANGELOG.md"]
NO_RUN_BLOCKS = 14
"""As many blocks are not run; a new one must be worth it."""


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_help_with_an_example(path: str) -> None:
    text = " ".join((COMMANDS[path].help or "").split())
    assert f"Example: {path}" in text
    check_words(text.partition("Example: ")[2].split())


OPTIONS = {f"{path} {names(option)}": option for path, command in COMMANDS.items() for option in options(command)}


@pytest.mark.parametrize("parameter", OPTIONS.values(), ids=OPTIONS)
def test_every_option_has_help(parameter: Any) -> None:
    assert (parameter.help or "").strip().endswith((".", "]"))


def test_the_reference_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run `make docs`"


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_its_place_in_a_page(path: str) -> None:
    """A command that only the reference knows is one that nobody finds."""
    assert any(path in page.read_text(encoding="utf-8") for page in PAGES if page != PAGE)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "sh"], ids=lambda block: block.name)
def test_every_command_line_is_one_that_there_is(block: Block) -> None:
    for words in block.commands():
        check_words(words)


def test_inline_command_lines_are_ones_that_there_are() -> None:
    for page in PAGES:
        for text in re.findall(r"`((?:wsicomp|make|python\s-m)\s[^`]+)`", prose(page)):
            check_words([word for word in text.split() if word not in {"NAME", "COMMAND", "DEPTH"}], whole=False)


def check_words(words: list[str], *, whole: bool = True) -> None:
    """Fail unless a command line names a command, options, a target or a module that exist."""
    if "wsicomp" in words[:4]:
        check_wsicomp(words[words.index("wsicomp") + 1 :], whole=whole)
    elif words[0] == "make":
        for target in (word for word in words[1:] if "=" not in word):
            assert re.search(rf"^{re.escape(target)}:", MAKEFILE, re.M), f"make has no target {target}"
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]), f"there is no module {words[2]}"


def check_wsicomp(words: list[str], *, whole: bool) -> None:
    """Parse the words that follow `wsicomp`; without `whole`, only look whether command and options exist."""
    if not words or words[0] in {"--help", "--version"}:
        return
    taken = 2 if f"wsicomp {' '.join(words[:2])}" in COMMANDS else 1
    path = f"wsicomp {' '.join(words[:taken])}"
    if path == "wsicomp train" and not whole:
        return
    assert path in COMMANDS, f"there is no command `{path}`"
    command, rest = COMMANDS[path], words[taken:]
    known = {name for option in command.params for name in [*option.opts, *option.secondary_opts]} | {"--help"}
    for word in rest:
        assert not word.startswith("-") or word in known, f"`{path}` has no option {word}"
    if whole:
        command.make_context(path, list(rest))


def test_every_benchmark_is_listed() -> None:
    folder = ROOT / "benchmarks"
    runnable = {path.stem for path in folder.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    runnable |= {path.parent.name for path in folder.glob("*/__main__.py")}
    listed = re.findall(r"python -m benchmarks\.(\w+)`?[ `*]", (folder / "README.md").read_text(encoding="utf-8"))
    assert set(listed) == runnable


def test_every_room_is_named() -> None:
    rooms = {path.parent.name for path in (ROOT / "wsicomp").glob("*/__init__.py")}
    assert rooms <= set(re.findall(r"`(\w+)`", (ROOT / "docs" / "install.md").read_text(encoding="utf-8")))


def test_few_blocks_are_not_run() -> None:
    reasons = [block.no_run for block in BLOCKS if block.no_run is not None]
    assert set(reasons) <= REASONS
    assert len(reasons) <= NO_RUN_BLOCKS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_code_is_looked_at(page: Path) -> None:
    fences = re.findall(r"^```(\S.*)$", page.read_text(encoding="utf-8"), re.M)
    assert len(fences) == sum(block.page == page for block in BLOCKS), f"a fence is not understood: {fences}"


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "python"], ids=lambda block: block.name
)
def test_every_python_block_compiles(block: Block) -> None:
    compile(block.code, block.name, "exec")


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_dead(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        if path.startswith(("https://", "http://")):
            continue
        found = page.parent / path if path else page
        assert found.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in anchors(found), f"{target}: no such heading"


def prose(page: Path) -> str:
    """Text of a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
