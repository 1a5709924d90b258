"""Patches that are small, real and written once: tissue for the codec, two colours for the classifier."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from wsicomp.datasets.labelled import LabelledTiles
from wsicomp.datasets.patches import PatchTable


@pytest.fixture(scope="module", autouse=True)
def no_sync() -> Iterator[None]:
    """Skip fsync, most of a small checkpoint's time and only of use in a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def one_thread(one_torch_thread: None) -> None:
    """Run every module of this room on one thread."""


@pytest.fixture(scope="session")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> PatchTable:
    """Eight patches of real tissue, 48 px, of two organs by name."""
    folder = tmp_path_factory.mktemp("tissue")
    picture: NDArray[np.uint8] = skimage.data.immunohistochemistry()  # type: ignore[no-untyped-call]
    lines = ["path,organ"]
    for k in range(8):
        y, x = 60 * k, 50 * (k % 4) + 100
        Image.fromarray(picture[y : y + 48, x : x + 48]).save(folder / f"{k}.png")
        lines.append(f"{k}.png,{'lung' if k % 2 else 'prostate'}")
    (folder / "index.csv").write_text("\n".join(lines))
    return PatchTable.load(folder)


def coloured(count: int, seed: int) -> LabelledTiles:
    """Noisy 32 px patches: the negative class is blue and the positive red, which any classifier learns."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 2
    colours = np.array([[90, 90, 180], [180, 90, 90]])[labels]
    tiles = np.clip(colours[:, None, None] + rng.normal(0, 20, (count, 32, 32, 3)), 0, 255).astype(np.uint8)
    return LabelledTiles("toy", tiles, labels, np.arange(count).astype(str), ("benign", "malignant"))


@pytest.fixture(scope="session")
def train_tiles() -> LabelledTiles:
    return coloured(48, seed=1)


@pytest.fixture(scope="session")
def val_tiles() -> LabelledTiles:
    return coloured(20, seed=2)
