"""What shipped codecs give on H&E tissue, by depth and quality, from a file beside each one's card.

    weights/NAME.json, made by `python -m benchmarks.rd.references` -> Expected, or None for weights of one's own

What this does not do: it measures nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from wsicomp.errors import ModelError
from wsicomp.models.shipped import find_shipped, shipped_path

__all__ = ["Expected", "expected_of"]


@dataclass(frozen=True)
class Expected:
    """Measures on H&E tissue at one setting.

    Parameters
    ----------
    psnr_db
        The lowest mean PSNR of any test set, in dB.
    drift
        The highest mean squared error of the mean colours of small cells, as `wsicomp.pipeline.fidelity` has it.
    """

    psnr_db: float
    drift: float


def expected_of(weights_sha256: str, depth: int, quality: float | None) -> Expected | None:
    """Return what to expect of a codec on H&E tissue, interpolated between measured qualities.

    Parameters
    ----------
    weights_sha256
        SHA-256 of the codec's weights.
    depth, quality
        Its setting; the quality is None for a codec without qualities.

    Returns
    -------
    Expected or None
        None where the weights are not shipped, or were not measured at that depth.

    Raises
    ------
    ModelError
        If the file is missing or damaged.
    """
    name = find_shipped(weights_sha256)
    if name is None:
        return None
    path = shipped_path(name).with_suffix(".json")
    try:
        rows = [row for row in json.loads(path.read_bytes())["settings"] if row["depth"] == depth]
        qualities = [float(row["quality"] or 0) for row in rows]
        measures = [[float(row[measure]) for row in rows] for measure in ("psnr_db", "drift")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: missing or damaged; install wsicomp again") from error
    return Expected(*(float(np.interp(quality or 0, qualities, values)) for values in measures)) if rows else None
