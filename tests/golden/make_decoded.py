"""Make the golden stores of a released codec, with the pixels that they decode to.

    python -m tests.golden.make_decoded FOLDER      MODEL-depth-D.zarr.zip and .png, for each depth

Run once for each release of weights; what is committed is never made again, since every released weight must go on
decoding what it encoded.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image
from skimage import data

from wsicomp.datasets.sheet import PatchSheet
from wsicomp.models.registry import STUDY_CODEC
from wsicomp.pipeline.encode import encode_source
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.view import LatentSlide

SIDE_PX = 64
DEPTHS = (1, 2, 3, 4)


def main(folder: Path) -> None:
    """Write a store and its pixels for each depth."""
    picture = data.immunohistochemistry()[200 : 200 + SIDE_PX, 150 : 150 + SIDE_PX]  # type: ignore[no-untyped-call]
    for depth in DEPTHS:
        store = folder / f"{STUDY_CODEC}-depth-{depth}.zarr.zip"
        codec = TileCodec.load(STUDY_CODEC, depth, device=torch.device("cpu"))
        encode_source(PatchSheet("golden", picture[None]), store, codec, EncodeSettings(zipped=True))
        with LatentSlide(store) as slide:
            pixels = slide.read_rgb(0, 0, 0, SIDE_PX, SIDE_PX)
        Image.fromarray(pixels).save(folder / f"{STUDY_CODEC}-depth-{depth}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
