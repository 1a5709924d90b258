"""Every released weight goes on decoding what it encoded: committed stores against the pixels they decoded to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsicomp.pipeline.view import LatentSlide
from wsicomp.store.verify import verify

GOLDEN = Path(__file__).parents[1] / "golden"
STORES = sorted(GOLDEN.glob("*-depth-*.zarr.zip"))


def test_there_is_a_golden_store_of_each_codec() -> None:
    study = [f"perticarari2023-depth-{depth}" for depth in (1, 2, 3, 4)]
    names = [*study, "wsic-depth-3", "wsic-depth-4-floor", "wsic-open-depth-4"]
    assert [path.name for path in STORES] == [f"{name}.zarr.zip" for name in names]


@pytest.mark.parametrize("store", STORES, ids=lambda path: path.name)
def test_a_golden_store_decodes_to_its_pixels(store: Path) -> None:
    assert verify(store) == []
    expected = np.asarray(Image.open(store.with_name(store.name.replace(".zarr.zip", ".png")))).astype(int)
    with LatentSlide(store) as slide:
        assert slide.header.format_version == 1
        width, height = slide.dimensions
        pixels = slide.read_rgb(0, 0, 0, width, height).astype(int)
    # Processors differ in whether they have bfloat16, and round a little differently.
    assert np.abs(pixels - expected).max() <= 6
    assert np.abs(pixels - expected).mean() < 0.5
