"""The weights that come with the package, each checked against its SHA-256 sum whenever it is read.

    weights/SHA256SUMS         names and sums of all that is shipped
    weights/NAME.safetensors   bytes -> SHA-256 -> the same as in SHA256SUMS, or an error
    weights/NAME.md            card: data, licence, recipe, measures

The tables of an entropy coder lie in the same file as the network, so the sum covers both. After weights have been
added or trained anew, `sha256sum *.safetensors > SHA256SUMS` in that folder writes the sums; a test compares them with
the files. Nothing is parsed here: the registry makes networks of the bytes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from wsicomp.errors import ModelError

__all__ = ["SUFFIX", "find_shipped", "read_card", "read_shipped", "shipped_sums"]

WEIGHTS = Path(__file__).parent / "weights"
SUMS = "SHA256SUMS"
SUFFIX = ".safetensors"


def shipped_sums() -> dict[str, str]:
    """Names of the shipped weights, in order, and the SHA-256 that each file must have.

    Raises
    ------
    ModelError
        If the package has lost its list of sums.
    """
    try:
        lines = (WEIGHTS / SUMS).read_text(encoding="utf-8").splitlines()
        sums = {file.removesuffix(SUFFIX): sha256 for sha256, file in (line.split() for line in lines)}
    except (OSError, ValueError) as error:
        raise ModelError(f"{WEIGHTS / SUMS}: missing or damaged; install wsicomp again") from error
    return dict(sorted(sums.items()))


def find_shipped(sha256: str) -> str | None:
    """Name of the shipped weights whose file has this SHA-256; None if none has."""
    return next((name for name, known in shipped_sums().items() if known == sha256), None)


def read_shipped(name: str) -> tuple[bytes, str]:
    """Bytes of the file of shipped weights, and their SHA-256.

    Raises
    ------
    ModelError
        If no weights of that name are shipped, or the file is missing or damaged.
    """
    path = shipped_path(name)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read; install wsicomp again") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != shipped_sums()[name]:
        raise ModelError(f"{path}: damaged, its SHA-256 is not the one in {SUMS}; install wsicomp again")
    return content, sha256


def read_card(name: str) -> str:
    """Card of shipped weights, Markdown.

    Raises
    ------
    ModelError
        If no weights of that name are shipped, or the card is missing.
    """
    path = shipped_path(name).with_suffix(".md")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read; install wsicomp again") from error


def shipped_path(name: str) -> Path:
    """Path of the file of shipped weights.

    Raises
    ------
    ModelError
        If no weights of that name are shipped.
    """
    known = shipped_sums()
    if name not in known:
        raise ModelError(f"{name}: no such weights; the shipped ones are: {', '.join(known)}")
    return WEIGHTS / f"{name}{SUFFIX}"
