"""A tile's quality as a store writes it: whole steps of 1/16, in 0 to 15, so that it fits a byte.

    quality 4.5 --to_steps--> 72 --from_steps--> 4.5

No other module knows the size of a step. Which qualities a model has is the model's own business.
"""

from __future__ import annotations

from typing import Any

__all__ = ["HIGHEST_QUALITY", "check_quality", "from_steps", "to_steps"]

HIGHEST_QUALITY = 15
"""The highest quality that the format can write."""

STEPS = 16
"""Steps from one whole quality to the next."""


def to_steps(quality: float | None) -> int:
    """Return the whole number of steps nearest to a quality; 0 for a codec without qualities, which is None."""
    return round((quality or 0) * STEPS)


def from_steps(steps: int) -> float:
    """Return the quality of a whole number of steps."""
    return int(steps) / STEPS


def check_quality(quality: Any) -> None:
    """Refuse what the format cannot write as a quality.

    Raises
    ------
    ValueError
        If it is not a number in 0 to 15, or lies between two steps.
    """
    is_number = isinstance(quality, int | float) and not isinstance(quality, bool)
    if not is_number or not 0 <= quality <= HIGHEST_QUALITY or from_steps(to_steps(quality)) != quality:
        raise ValueError(f"quality is {quality!r}, not a number in 0..{HIGHEST_QUALITY} in steps of 1/{STEPS}")
