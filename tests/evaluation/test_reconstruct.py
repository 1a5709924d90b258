"""Patches through a real store, with a floor under each."""

from __future__ import annotations

import numpy as np
import pytest

from tests.pipeline.sources import picture
from wsicomp.evaluation.reconstruct import reconstruct
from wsicomp.metrics.distortion import psnr_db
from wsicomp.pipeline.floor import Floor
from wsicomp.pipeline.tile_codec import TileCodec


@pytest.mark.parametrize("min_psnr_db", [34, 200])
def test_no_patch_is_below_the_floor(min_psnr_db: float) -> None:
    codec = TileCodec.load("perticarari2023", 4)
    patches = np.stack([picture(256, 50)[:, x : x + 50] for x in (0, 70, 140, 200)])
    plain = reconstruct("patches", patches, codec)
    assert min(psnr_db(x, x_hat) for x, x_hat in zip(patches, plain.x_hat, strict=True)) < min_psnr_db
    kept = reconstruct("patches", patches, codec, floor=Floor(min_psnr_db=min_psnr_db))
    assert min(psnr_db(x, x_hat) for x, x_hat in zip(patches, kept.x_hat, strict=True)) >= min_psnr_db
    assert kept.bytes > plain.bytes
