"""Make the golden stores of released codecs, with the pixels that they decode to.

    python -m tests.golden.make_decoded FOLDER      NAME.zarr.zip and NAME.png, for each name in GOLDEN

Run once for each release of weights; what is committed is never made again, since every released weight must go on
decoding what it encoded.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from wsicomp.datasets.sheet import PatchSheet
from wsicomp.models.registry import STUDY_CODEC
from wsicomp.pipeline.encode import encode_source
from wsicomp.pipeline.floor import Floor
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.view import LatentSlide

SIDE_PX = 64


def tissue(count: int) -> NDArray[np.uint8]:
    """Patches of tissue, one beside the other."""
    image = data.immunohistochemistry()[200 : 200 + SIDE_PX]  # type: ignore[no-untyped-call]
    return np.stack([image[:, start : start + SIDE_PX] for start in range(150, 150 + count * SIDE_PX, SIDE_PX)])


def tissue_and_noise() -> NDArray[np.uint8]:
    """Four patches, of which a floor makes one JPEG XL."""
    patches = tissue(4)
    y, x, c = np.indices((SIDE_PX, SIDE_PX, 3))
    patches[1] = (31 * y * y + 17 * x * x + 7 * c * x * y) % 256
    return patches


GOLDEN: dict[str, tuple[str, int, float | None, Floor | None, NDArray[np.uint8]]] = {
    **{f"{STUDY_CODEC}-depth-{depth}": (STUDY_CODEC, depth, None, None, tissue(1)) for depth in (1, 2, 3, 4)},
    "wsic-depth-3": ("wsic", 3, None, None, tissue_and_noise()),
    "wsic-depth-4-floor": ("wsic", 4, 2.5, Floor(min_psnr_db=29), tissue_and_noise()),
    "wsic-open-depth-4": ("wsic-open", 4, None, None, tissue_and_noise()),
}
"""Weights, depth, quality, floor and patches of each store."""


def main(folder: Path) -> None:
    """Write every store and its pixels."""
    for name, (weights, depth, quality, floor, patches) in GOLDEN.items():
        store = folder / f"{name}.zarr.zip"
        codec = TileCodec.load(weights, depth, quality=quality, device=torch.device("cpu"))
        encode_source(PatchSheet("golden", patches), store, codec, EncodeSettings(floor=floor, zipped=True))
        with LatentSlide(store) as slide:
            pixels = slide.read_rgb(0, 0, 0, *slide.dimensions)
        Image.fromarray(pixels).save(folder / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
