"""A study small enough to check by hand: tiles of one grey each, and a classifier that reads the grey."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsicomp.datasets.labelled import LabelledTiles
from wsicomp.evaluation.study import Reconstruction

SIDE = 16


def grey_tiles(greys: Sequence[int]) -> NDArray[np.uint8]:
    return np.repeat(np.array(greys, np.uint8), SIDE * SIDE * 3).reshape(-1, SIDE, SIDE, 3)


class GreyClassifier:
    """Logit (grey - 100) / 10."""

    name = "grey"

    def logits(self, tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
        logits: NDArray[np.float64] = (tiles.mean(axis=(1, 2, 3)) - 100) / 10
        return logits


def toy_data(
    greys: Sequence[int] = (80, 90, 110, 120, 130, 140),
    labels: Sequence[int] = (0, 0, 0, 1, 1, 1),
    groups: Sequence[str] | None = None,
) -> LabelledTiles:
    names = groups or [f"slide-{i}" for i in range(len(greys))]
    return LabelledTiles("toy", grey_tiles(greys), np.array(labels), np.array(names), ("pale", "dark"))


def darkened(
    data: LabelledTiles,
    by: int,
    codec: str = "wsic",
    depth: int | None = 3,
    quality: int | None = None,
    bytes_per_tile: int = 96,
) -> Reconstruction:
    return Reconstruction(
        codec,
        depth,
        quality,
        None if depth is None else 96,
        bytes_per_tile * len(data.tiles),
        data.tiles - np.uint8(by),
    )
