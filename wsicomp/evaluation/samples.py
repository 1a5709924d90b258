"""Keeps a few tiles to look at, while the study lets the reconstructions pass.

    reconstructions --> samples.watch(...) --> study.evaluate
                              |
                        Samples.columns --> plots.write_plots

The first reconstruction of each codec and depth is kept. Tiles are picked at random with a seed, the classes in turn:
never by how well they came out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from wsicomp.datasets.labelled import LabelledTiles
from wsicomp.evaluation.study import Reconstruction

__all__ = ["Samples"]

MOST_CHARACTERS = 16
"""How much of a group's name stands beside its tile."""


class Samples:
    """Original tiles of a study and what reconstructions made of them.

    Parameters
    ----------
    data
        The study's data.
    count
        Tiles to keep, shared among the classes; fewer where the data hold fewer.
    seed
        Seed of the choice.

    Attributes
    ----------
    labels
        Class, group and number in the study of each kept tile.
    columns
        Title and (K, H, W, 3) uint8 tiles: the original, then one column for each codec and depth seen.
    """

    def __init__(self, data: LabelledTiles, count: int = 4, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        by_class = [rng.permutation(np.flatnonzero(data.labels == label)).tolist() for label in (0, 1)]
        indices: list[int] = []
        while len(indices) < count and any(by_class):
            indices += [members.pop() for members in by_class if members][: count - len(indices)]
        self._indices = np.array(sorted(indices, key=lambda i: (data.labels[i], i)), dtype=np.intp)
        self._seen: set[tuple[str, int | None]] = set()
        self._pixels = data.tiles.shape[0] * data.tiles.shape[1] * data.tiles.shape[2]
        self.labels: list[str] = [
            f"{data.classes[int(data.labels[i])]}\n{short(str(data.groups[i]))}, patch {i}" for i in self._indices
        ]
        self.columns: list[tuple[str, NDArray[np.uint8]]] = [("original\n\n24 bits/px", data.tiles[self._indices])]

    def watch(self, reconstructions: Iterable[Reconstruction]) -> Iterator[Reconstruction]:
        """Pass reconstructions on one at a time, keeping a copy of the picked tiles."""
        for reconstruction in reconstructions:
            key = (reconstruction.codec, reconstruction.depth)
            if key not in self._seen:
                self._seen.add(key)
                bits_per_pixel = 8 * reconstruction.bytes / self._pixels
                setting = [
                    f"{name} {value:g}"
                    for name, value in (("depth", reconstruction.depth), ("quality", reconstruction.quality))
                    if value is not None
                ]
                title = "\n".join([reconstruction.codec, ", ".join(setting), f"{bits_per_pixel:.2f} bits/px"])
                self.columns.append((title, reconstruction.x_hat[self._indices]))
            yield reconstruction
            del reconstruction  # or it would stay in memory while the next one is made


def short(group: str) -> str:
    """Return the end of a group's name that fits beside a tile."""
    name = group.rpartition("/")[2]
    return name if len(name) <= MOST_CHARACTERS else f"...{name[-MOST_CHARACTERS:]}"
