"""The pages of the documentation, cut into their fenced blocks, and the command lines that stand in them.

    page -> ```sh and ```python blocks -> command lines -> words

A block that a test cannot run says why in its fence: "```sh no-run: cluster".
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
REASONS = {"cluster", "data", "hours", "install", "make", "needs jq"}
FENCE = re.compile(r"^```(sh|python)(?: no-run: ([^\n]+))?\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Parameters
    ----------
    line
        Line of the page that its fence stands in, from 1 on.
    language
        "sh" or "python".
    no_run
        Why the tests do not run it; None if they do.
    """

    page: Path
    line: int
    language: str
    no_run: str | None
    code: str

    @property
    def name(self) -> str:
        """Such as "docs/codec.md:31"."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[list[str]]:
        """Words of each command of a sh block; of a pipe, those of its first command."""
        lines = re.sub(r"\\\n\s*", " ", self.code).splitlines()
        found = [shlex.split(line, comments=True) for line in lines]
        return [words[: words.index("|")] if "|" in words else words for words in found if words]


def blocks(page: Path) -> Iterator[Block]:
    """Blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        language, no_run, code = found.groups()
        yield Block(page, text.count("\n", 0, found.start()) + 1, language, no_run, code)


BLOCKS = [block for page in PAGES for block in blocks(page)]
