"""One machine's part of a batch: every n-th job, so that n parts have every job exactly once.

    --part 2/3         jobs 1 2 3 4 5 6 7 8  ->  2 5 8
    --array=1-3        task 2 of a SLURM array has the same part without being told

Taking every n-th, and not a block, spreads the large slides of a sorted list. A part of a batch has nothing to do with
the shards of a store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from wsicomp.errors import ConfigError

__all__ = ["Part"]

T = TypeVar("T")

SLURM = "SLURM_ARRAY_TASK_"


@dataclass(frozen=True)
class Part:
    """Part `index` of `count`, counted from 1.

    Raises
    ------
    ConfigError
        If there is no such part.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ConfigError(f"part {self.index}/{self.count} cannot be; give i/n with i from 1 to n, such as 1/4")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "i/n".

        Raises
        ------
        ConfigError
            If it is none.
        """
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
        if found is None:
            raise ConfigError(f"part '{text}' is not of the form i/n; give for example 1/4, the first of four")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of_slurm(cls, environment: Mapping[str, str]) -> Self | None:
        """Part of this task of a SLURM array; None outside of one.

        Raises
        ------
        ConfigError
            If the array's numbers are not evenly spaced, so that a task's place cannot be known.
        """
        texts = [environment.get(SLURM + name) for name in ("ID", "MIN", "COUNT", "MAX", "STEP")]
        if None in texts[:3]:
            return None
        try:
            task, first, count = (int(text or "") for text in texts[:3])
            last = first + count - 1 if texts[3] is None else int(texts[3])
            step = 1 if texts[4] is None else int(texts[4])
        except ValueError:
            raise ConfigError(f"{SLURM}* are not numbers; give --part i/n") from None
        place, odd = divmod(task - first, step) if step > 0 else (0, 1)
        if odd or first + (count - 1) * step != last:
            raise ConfigError("the numbers of this SLURM array are not evenly spaced; give --part i/n")
        return cls(place + 1, count)

    def of(self, items: Sequence[T]) -> list[T]:
        """Return the items of this part."""
        return list(items[self.index - 1 :: self.count])
