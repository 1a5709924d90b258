from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import rgb2hed

from benchmarks.rd.learned import StoreCodec
from benchmarks.rd.measure import Bench, stain_densities
from benchmarks.rd.tiles import DAB, EOSIN, TileSet, ihc, load_set
from wsicomp.datasets.labelled import LabelledTiles
from wsicomp.evaluation.classical import Coded
from wsicomp.evaluation.reconstruct import reconstruct
from wsicomp.pipeline.tile_codec import TileCodec

CLASSIFIER = "perticarari2023-classifier-lung"

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@dataclass(frozen=True)
class Adds:
    """A codec that makes each value brighter, at no cost."""

    amount: int
    name: str = "adds"

    @property
    def setting(self) -> str:
        return f"amount {self.amount}"

    def run(self, tiles: NDArray[np.uint8]) -> Coded:
        x_hat = np.clip(tiles.astype(np.int16) + self.amount, 0, 255).astype(np.uint8)
        return Coded(tiles.size / 24, x_hat, 2.0, 0.5, payload_bytes=tiles.size // 48)


@pytest.fixture(scope="module")
def tile_set() -> TileSet:
    return ihc()


@pytest.fixture(scope="module")
def labelled(tile_set: TileSet) -> TileSet:
    groups = np.array(["a", "b", "c", "d"])
    study = LabelledTiles("made-up", tile_set.tiles, np.array([0, 1, 0, 1]), groups, ("no", "yes"))
    return replace(tile_set, study=study)


@pytest.mark.parametrize("counterstain", [EOSIN, DAB])
def test_stain_densities_are_those_of_scikit_image(tile_set: TileSet, counterstain: int) -> None:
    tiles = tile_set.tiles[:1, :32, :32]
    expected: NDArray[np.float64] = rgb2hed(tiles[0])[..., [0, counterstain]]
    assert np.allclose(stain_densities(tiles, counterstain)[0], expected.transpose(2, 0, 1), atol=1e-5)


def test_an_unchanged_set_is_perfect_and_costs_what_it_costs(labelled: TileSet) -> None:
    bench = Bench(labelled, CLASSIFIER, resamples=20)
    point = bench.point(Adds(0))
    assert point["bits_per_pixel"] == pytest.approx(1.0)
    assert point["payload_bits_per_pixel"] == pytest.approx(0.5)
    assert point["psnr_db"] == 100.0
    assert min(point[key] for key in ("ssim", "ms_ssim", "ssim_haematoxylin", "ssim_counterstain")) > 0.9999
    assert point["encode_tiles_per_s"] == pytest.approx(2.0)
    assert point["decode_tiles_per_s"] == pytest.approx(8.0)
    assert point["classifier"] == bench.original()
    assert point["classifier"]["flip_rate"] == 0
    assert point["classifier"]["feature_distance"] < 1e-9


def test_a_changed_set_is_worse_in_everything(labelled: TileSet) -> None:
    bench = Bench(labelled, CLASSIFIER, resamples=20)
    small, large = bench.point(Adds(4)), bench.point(Adds(60))
    for key in ("psnr_db", "ssim", "ms_ssim", "ssim_haematoxylin", "ssim_counterstain"):
        assert large[key] < small[key]
    assert 0 < small["classifier"]["feature_distance"] < large["classifier"]["feature_distance"]
    assert set(small["classifier"]["intervals"]) >= {"accuracy", "auc_drop", "recall_drop", "flip_rate"}


def test_without_labels_there_is_no_classifier(tile_set: TileSet) -> None:
    bench = Bench(tile_set, "no such weights")
    assert bench.original() is None
    assert bench.point(Adds(1))["classifier"] is None


def test_a_codec_that_loses_a_tile_is_refused(tile_set: TileSet) -> None:
    class Loses(Adds):
        def run(self, tiles: NDArray[np.uint8]) -> Coded:
            return super().run(tiles[1:])

    with pytest.raises(ValueError, match="adds, amount 0"):
        Bench(tile_set, CLASSIFIER).point(Loses(0))


def test_a_store_costs_and_gives_what_the_evaluation_says(tile_set: TileSet) -> None:
    codec = StoreCodec("study", "perticarari2023", 4)
    coded = codec.run(tile_set.tiles)
    expected = reconstruct("tiles", tile_set.tiles, TileCodec.load("perticarari2023", 4))
    assert coded.bytes == expected.bytes
    assert np.array_equal(coded.x_hat, expected.x_hat)
    assert coded.payload_bytes is not None
    assert 2000 < coded.bytes - coded.payload_bytes < 6000  # metadata and manifest
    assert coded.encode_macs is not None
    # Four 3x3 convolutions from 3, 6, 12, 24 channels to twice as many, at 1, 1/2, 1/4, 1/8 of the resolution.
    assert coded.encode_macs == pytest.approx(4 * 9 * 3 * 6)


def test_the_picture_is_cut_into_tiles_that_tile_it(tile_set: TileSet) -> None:
    assert tile_set.tiles.shape == (4, 256, 256, 3)
    assert len(np.unique(tile_set.tiles.reshape(4, -1), axis=0)) == 4
    seam = np.abs(tile_set.tiles[0, :, -1].astype(int) - tile_set.tiles[1, :, 0]).mean()
    assert seam < np.abs(tile_set.tiles[0, :, -1].astype(int) - tile_set.tiles[2, :, 0]).mean()


def test_a_set_of_patches_needs_the_data() -> None:
    with pytest.raises(ValueError, match="WSICOMP_DATA"):
        load_set("lung", None, split="val", every=1)
