"""The exception tree: what is caught by what, and the exit code each ends a command with."""

from __future__ import annotations

import inspect
import re

import pytest

from wsicomp import errors
from wsicomp.errors import WsicompError

CLASSES: dict[str, type[Exception]] = {
    name: thing for name, thing in vars(errors).items() if inspect.isclass(thing) and issubclass(thing, Exception)
}
# One line of the tree in the module's docstring: its branch, the name and, where it is the first to set one, the code.
LINE = re.compile(r"^ {4}(?P<branch>[| `-]*)(?P<name>[A-Z]\w+)(?: \((?P<code>\d)\))?", re.MULTILINE)


def drawn_tree() -> dict[str, tuple[str | None, int]]:
    """Parent and exit code of each class, as the docstring draws them."""
    tree: dict[str, tuple[str | None, int]] = {}
    above: list[str] = []
    for line in LINE.finditer(errors.__doc__ or ""):
        depth = len(line["branch"]) // 4
        parent = above[depth - 1] if depth else None
        code = int(line["code"]) if line["code"] else tree[str(parent)][1]
        tree[line["name"]] = (parent, code)
        above[depth:] = [line["name"]]
    return tree


def test_the_docstring_draws_every_class_and_no_other() -> None:
    assert set(drawn_tree()) == set(CLASSES)


def test_every_class_is_exported() -> None:
    assert sorted(errors.__all__) == sorted(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_parent_and_exit_code_are_as_drawn(name: str) -> None:
    parent, code = drawn_tree()[name]
    error = CLASSES[name]
    assert error.__bases__[0] is (CLASSES[parent] if parent else Exception)
    assert issubclass(error, WsicompError)
    assert error.exit_code == code


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("WsicompError", 1),
        ("ConfigError", 2),
        ("SlideError", 3),
        ("StoreIncomplete", 3),
        ("StoreCorrupt", 3),
        ("StoreVersion", 3),
        ("WeightsMismatch", 3),
        ("DataError", 3),
        ("TargetMissed", 4),
        ("StoreTooLarge", 4),
    ],
)
def test_exit_codes_that_scripts_rely_on(name: str, code: int) -> None:
    error = CLASSES[name]
    assert issubclass(error, WsicompError)
    assert error.exit_code == code


@pytest.mark.parametrize("name", CLASSES)
def test_a_message_is_kept_and_every_class_says_what_it_is(name: str) -> None:
    assert str(CLASSES[name]("a.svs: cannot be opened; check the path")) == "a.svs: cannot be opened; check the path"
    assert CLASSES[name].__doc__
