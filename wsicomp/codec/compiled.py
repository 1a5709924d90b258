"""One way to compile an inner loop: for fixed argument types, once per machine, without the interpreter's lock.

The signature is given, so a call with other types is an error instead of a second compilation, and the machine code is
kept on disk where there is a place for it, so a command pays for the compiler once after an installation. Integers wrap
and divisors are not checked, as in C: loops compiled here check what they read from outside themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

__all__ = ["compiled"]

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(signature: str) -> Callable[[Loop], Loop]:
    """Compile a function of arrays and integers for one signature, in numba's notation."""

    def compile_loop(loop: Loop) -> Loop:
        def compile_with(*, cache: bool) -> Loop:
            decorate = numba.njit(signature, cache=cache, nogil=True, error_model="numpy", boundscheck=False)
            return cast(Loop, decorate(loop))

        try:
            return compile_with(cache=True)
        except RuntimeError:  # neither the package's folder nor the user's can be written
            return compile_with(cache=False)

    return compile_loop
