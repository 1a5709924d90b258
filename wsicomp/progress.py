"""How long work reports that it goes on; who shows it, and how, is the caller's affair."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "silent"]


class Progress(Protocol):
    """Called with the work done so far, the whole, and a short note such as a loss; never with a slide's text."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Report."""


def silent(done: int, total: int, note: str = "") -> None:
    """Report to nobody."""
