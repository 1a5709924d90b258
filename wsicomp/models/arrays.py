"""The integer arrays in a weights file, such as the tables of an entropy coder, read without torch.

    shipped name, or path of weights --> bytes, SHA-256 checked where shipped --> {depth: {name: array}}

The registry, which builds networks, reads the same entries of the same files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from wsicomp.errors import ModelError
from wsicomp.models.shipped import read_shipped, shipped_sums

__all__ = ["ARRAYS", "load_arrays"]

ARRAYS = "arrays/"
"""Begins the names of integer arrays, and of nothing else, in a weights file."""


def load_arrays(source: str | Path) -> dict[int, dict[str, NDArray[Any]]]:
    """Read the arrays of shipped weights by name, or of weights of one's own by path: for each depth, by their names.

    Raises
    ------
    ModelError
        If there are no such weights, or the file is damaged.
    """
    if str(source) in shipped_sums():
        content, _ = read_shipped(str(source))
    else:
        try:
            content = Path(source).read_bytes()
        except OSError as error:
            raise ModelError(f"{source}: no such weights, or they cannot be read; give a file of weights") from error
    found: dict[int, dict[str, NDArray[Any]]] = {}
    try:
        for name, array in load(content).items():
            if name.startswith(ARRAYS):
                depth, _, key = name.removeprefix(ARRAYS).partition("/")
                found.setdefault(int(depth), {})[key] = array
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{source}: not a safetensors file, or damaged") from error
    return found
