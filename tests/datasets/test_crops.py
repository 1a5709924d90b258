"""Training crops: each batch a pure function of its seed and step, and every organ as likely as the next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage.color import hed2rgb

from wsicomp.datasets import crops
from wsicomp.datasets.crops import (
    ALIGNED,
    BLOCK_PX,
    FADED,
    IMMUNOSTAINED,
    RECODED,
    STAINED,
    CropSampler,
    immunostain,
    restain,
)
from wsicomp.datasets.patches import Patch, PatchTable
from wsicomp.errors import DataError

Pixels = NDArray[np.uint8]


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def plain(value: int, size: int = 16) -> Pixels:
    return np.full((size, size, 3), value, np.uint8)


SAMPLER = CropSampler({"lung": [noise(40, 50), noise(33, 32, 1)], "breast": [noise(32, 60, 2)]}, crop_px=32)


@given(st.integers(0, 2**31), st.integers(0, 2**31), st.integers(1, 5))
def test_a_batch_depends_on_seed_and_step_alone(seed: int, step: int, size: int) -> None:
    first = SAMPLER.batch(size, seed=seed, step=step)
    np.random.seed(step)  # noqa: NPY002 - whatever other code does to the global state
    SAMPLER.batch(3, seed=seed, step=step + 1)
    assert first.shape == (size, 3, 32, 32)
    assert first.dtype == np.uint8
    assert first.flags.c_contiguous
    np.testing.assert_array_equal(first, SAMPLER.batch(size, seed=seed, step=step))


@pytest.mark.parametrize(("first", "last"), [(0, 4), (2, 4), (3, 3), (5, 6), (1, 12)])
def test_batches_drawn_ahead_are_those_of_their_steps(first: int, last: int) -> None:
    drawn = list(SAMPLER.batches(2, seed=7, first=first, last=last))
    assert len(drawn) == last - first
    for step, batch in enumerate(drawn, first):
        np.testing.assert_array_equal(batch, SAMPLER.batch(2, seed=7, step=step))


def test_other_steps_and_seeds_give_other_batches() -> None:
    batches = [SAMPLER.batch(4, seed=seed, step=step).tobytes() for seed in range(3) for step in range(3)]
    assert len(set(batches)) == len(batches)


def test_organs_are_drawn_evenly_however_many_images_they_have() -> None:
    images = {"lung": [plain(10)] * 97, "breast": [plain(20)] * 2, "oral": [plain(30)]}
    sampler = CropSampler(images, crop_px=8, stain=0, scaled=0, refocused=0)
    drawn = sampler.batch(3000, seed=0, step=0)[:, 0, 0, 0]
    shares = [float(np.mean(drawn == value)) for value in (10, 20, 30)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.05)  # five standard deviations


def test_images_of_an_organ_and_their_edges_are_all_reached() -> None:
    image = np.arange(24 * 20, dtype=np.uint16).reshape(24, 20)
    places = np.stack([image // 256, image % 256, image * 0], axis=2).astype(np.uint8)
    sampler = CropSampler(
        {"lung": [places, places + np.array([0, 0, 1], np.uint8)]}, crop_px=16, stain=0, scaled=0, refocused=0
    )
    drawn = sampler.batch(1000, seed=1, step=0)
    assert set(np.unique(drawn[:, 2])) == {0, 1}
    place = drawn[:, 0].astype(int) * 256 + drawn[:, 1]
    assert set(np.unique(place)) == set(range(24 * 20))


def test_without_restaining_a_crop_is_a_turned_or_flipped_piece_of_an_image() -> None:
    image = noise(12, 10)
    sampler = CropSampler({"lung": [image]}, crop_px=9, stain=0, scaled=0, refocused=0)
    turns = {
        np.rot90(image[y : y + 9, x : x + 9], k)[:, :: 1 - 2 * flip].transpose(2, 0, 1).tobytes(): (k, flip)
        for y in range(4)
        for x in range(2)
        for k in range(4)
        for flip in range(2)
    }
    drawn = sampler.batch(300, seed=0, step=0)
    assert {turns[crop.tobytes()] for crop in drawn} == {(k, flip) for k in range(4) for flip in range(2)}


def gradient(side: int) -> Pixels:
    """Red grows by two grey levels to the right, green down, so a crop's slopes tell what it was cut from."""
    ramp = 2 * np.arange(side)
    return np.stack(np.broadcast_arrays(ramp, ramp[:, None], 0), axis=2).astype(np.uint8)


def slopes(crops: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Grey levels per pixel along a crop's rows, away from the ends that resampling bends; (N,)."""
    red_and_green = crops[:, :2, 4:-4, 4:-4].astype(float)
    steps = [np.abs(np.diff(red_and_green, axis=axis)).mean(axis=(2, 3)).max(axis=1) for axis in (2, 3)]
    found: NDArray[np.float64] = np.maximum(*steps)
    return found


@pytest.fixture
def no_jpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resampled crops stay as they are."""
    monkeypatch.setattr(crops, "RECODED", 0.0)


@pytest.mark.usefixtures("no_jpeg")
@pytest.mark.parametrize("scaled", [0.0, 0.25, 1.0])
def test_a_share_of_the_crops_is_cut_larger_or_smaller_and_resampled(scaled: float) -> None:
    sampler = CropSampler({"lung": [gradient(100)]}, crop_px=32, stain=0, scaled=scaled, refocused=0)
    drawn = slopes(sampler.batch(600, seed=0, step=0))
    resampled = np.abs(drawn - 2) > 0.03
    assert resampled.mean() == pytest.approx(scaled, abs=0.08)
    if scaled:
        octaves = np.log2(drawn[resampled] / 2)
        assert np.abs(octaves).max() <= 1.1
        assert np.quantile(octaves, [0.25, 0.5, 0.75]) == pytest.approx([-0.5, 0, 0.5], abs=0.15)


@pytest.mark.usefixtures("no_jpeg")
def test_a_scaled_crop_is_no_larger_than_its_image() -> None:
    sampler = CropSampler({"lung": [gradient(40)[:, :36]]}, crop_px=32, stain=0, scaled=1, refocused=0)
    drawn = sampler.batch(200, seed=0, step=0)
    assert drawn.shape == (200, 3, 32, 32)
    assert slopes(drawn).max() <= 2 * 36 / 32 + 0.1


def test_a_scaled_crop_keeps_its_mean_and_its_place() -> None:
    image = gradient(64)
    sampler = CropSampler({"lung": [image]}, crop_px=32, stain=0, scaled=1, refocused=0)
    scaled = sampler.batch(400, seed=0, step=0)[:, :2].astype(float)
    middles = scaled.mean(axis=(2, 3))
    assert middles.min() >= image[:16, :16, 0].mean() - 1
    assert middles.max() <= image[-16:, -16:, 0].mean() + 1
    assert middles.mean() == pytest.approx(image[..., 0].mean(), abs=1.5)


def test_most_crops_begin_where_a_jpeg_block_does() -> None:
    rows, columns = np.mgrid[:200, :250]
    sampler = CropSampler(
        {"lung": [np.stack([rows, columns, 0 * rows], 2).astype(np.uint8)]}, 32, stain=0, scaled=0, refocused=0
    )
    drawn = sampler.batch(1000, seed=0, step=0)
    places = drawn[:, :2].min(axis=(2, 3))
    aligned = (places % BLOCK_PX == 0).all(axis=1)
    assert aligned.mean() == pytest.approx(ALIGNED, abs=0.05)
    for axis, side in enumerate((200, 250)):
        assert set(places[aligned][:, axis]) == set(range(0, side - 31, BLOCK_PX))


def jumps(drawn: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Steps of luma between blocks of 8 over those inside them, for each crop."""
    luma = drawn.astype(float).mean(axis=1)
    steps = np.abs(np.diff(luma, axis=2)).mean(axis=1)  # (N, side - 1)
    between = np.arange(1, luma.shape[2]) % 8 == 0
    found: NDArray[np.float64] = steps[:, between].mean(axis=1) / steps[:, ~between].mean(axis=1)
    return found


def test_some_resampled_crops_are_jpeg_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(60, 200, (24, 24, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((240, 240), Image.Resampling.BICUBIC))
    drawn = CropSampler({"lung": [smooth]}, 64, stain=0, scaled=1, refocused=0).batch(300, seed=0, step=0)
    untouched = CropSampler({"lung": [smooth]}, 64, stain=0, scaled=0, refocused=0).batch(300, seed=0, step=0)
    blocky = jumps(drawn) > np.quantile(jumps(untouched), 0.99)
    assert 0.25 * RECODED < blocky.mean() < 1.25 * RECODED  # a JPEG of high quality hides its blocks


@pytest.mark.usefixtures("no_jpeg")
@pytest.mark.parametrize("refocused", [0.0, 0.25, 1.0])
def test_a_share_of_the_crops_is_made_sharper_or_softer(refocused: float) -> None:
    rows, columns = np.mgrid[:64, :64]
    squares = np.where((rows // 2 + columns // 2) % 2, 148, 108).astype(np.uint8)
    sampler = CropSampler({"lung": [np.stack([squares] * 3, 2)]}, 32, stain=0, scaled=0, refocused=refocused)
    drawn = sampler.batch(600, seed=0, step=0)[:, 0, 4:-4, 4:-4].astype(float)
    contrast = drawn.std(axis=(1, 2)) / 20
    changed = np.abs(contrast - 1) > 0.05
    assert changed.mean() == pytest.approx(0.9 * refocused, abs=0.08)  # some are changed too little to tell
    assert drawn.mean(axis=(1, 2)) == pytest.approx(128, abs=2)
    if refocused:
        assert np.quantile(contrast[changed], [0.1, 0.9]) == pytest.approx([0.5, 2.1], abs=0.2)


def test_some_refocused_crops_are_jpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    def grey(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        return Image.new("RGB", image.size, (128,) * 3)

    monkeypatch.setattr(crops, "through_jpeg", grey)
    sampler = CropSampler({"lung": [noise(40, 40)]}, 32, stain=0, scaled=0, refocused=1)
    recoded = (sampler.batch(400, seed=0, step=0) == 128).all(axis=(1, 2, 3))
    assert recoded.mean() == pytest.approx(RECODED, abs=0.1)


def test_crops_are_restained_each_in_its_own_way() -> None:
    grey = plain(128)
    drawn = CropSampler({"lung": [grey]}, crop_px=16).batch(500, seed=0, step=0)
    assert (drawn == drawn[:, :, :1, :1]).all()  # one mixing for a whole crop
    colours = drawn[:, :, 0, 0]
    own = (colours == 128).all(axis=1)
    assert own.mean() == pytest.approx(STAINED, abs=0.1)  # the others keep their laboratory's
    restained = colours[~own]
    assert len({colour.tobytes() for colour in restained}) > 0.9 * len(restained)
    assert (restained.std(axis=1) > 1).mean() > 0.9  # the channels part: hue moves, not only brightness
    assert np.abs(np.median(restained, axis=0) - 128).max() < 20


def test_some_crops_are_faded_towards_glass() -> None:
    drawn = CropSampler({"lung": [plain(60)]}, crop_px=8).batch(1000, seed=0, step=0)[:, :, 0, 0]
    faded = drawn.min(axis=1) > 110  # half of the density or less
    assert faded.mean() == pytest.approx(STAINED * FADED, abs=0.03)


def test_the_sampler_restains_as_much_as_it_is_told() -> None:
    spreads = [CropSampler({"a": [plain(128)]}, 16, s).batch(50, seed=0, step=0).std() for s in (0.01, 0.05, 0.2)]
    assert 0 < spreads[0] < spreads[1] < spreads[2]


def stained(stain: int, strength: float) -> Pixels:
    """A plain picture of one stain: 0 haematoxylin, 1 eosin, 2 DAB."""
    amounts = np.zeros((16, 16, 3))
    amounts[..., stain] = strength
    picture: Pixels = np.rint(255 * hed2rgb(amounts)).astype(np.uint8)
    return picture


@pytest.mark.parametrize(("before", "after", "strength"), [(0, 0, 1.0), (1, 2, 2.0)])
def test_immunostaining_keeps_haematoxylin_and_makes_eosin_brown(before: int, after: int, strength: float) -> None:
    pictures = (stained(before, 0.3), restain(stained(before, 0.3), immunostain(2.0)), stained(after, 0.3))
    eosin, found, expected = (-np.log((picture[0, 0].astype(float) + 1) / 256) for picture in pictures)
    cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
    assert cosine > 0.995
    assert np.linalg.norm(found) == pytest.approx(strength * np.linalg.norm(eosin), rel=0.1)


def test_some_crops_become_immunostains() -> None:
    drawn = CropSampler({"a": [stained(1, 0.3)]}, 8, stain=0.01, scaled=0, refocused=0).batch(1000, seed=0, step=0)[
        :, :, 0, 0
    ]
    brown = drawn[:, 2] < drawn[:, 1]  # eosin takes green, DAB takes blue
    assert brown.mean() == pytest.approx(STAINED * IMMUNOSTAINED, abs=0.03)


ALL_GREYS = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)


@pytest.mark.parametrize("image", [ALL_GREYS, noise(20, 30)], ids=["every grey", "noise"])
def test_the_identity_restains_nothing(image: Pixels) -> None:
    np.testing.assert_array_equal(restain(image, np.eye(3)), image)


@given(st.lists(st.floats(-3, 3), min_size=9, max_size=9))
def test_glass_absorbs_nothing_whatever_the_mixing(values: list[float]) -> None:
    assert (restain(plain(255, 2), np.array(values).reshape(3, 3)) == 255).all()


@given(st.lists(st.floats(-3, 3), min_size=9, max_size=9), st.integers(0, 100))
def test_each_pixel_is_mixed_as_beer_and_lambert_say(values: list[float], seed: int) -> None:
    image, mixing = noise(3, 5, seed), np.array(values).reshape(3, 3)
    density = np.einsum("hwi,ij->hwj", -np.log((image + 1.0) / 256), mixing)
    expected = 256 * np.exp(-np.maximum(density, 0)) - 1
    restained = restain(image, mixing)
    assert restained.dtype == np.uint8
    assert np.abs(restained - np.clip(expected, 0, 255)).max() <= 0.51  # rounded, and float32


@pytest.mark.parametrize(("height", "width"), [(31, 64), (64, 31)])
def test_an_image_smaller_than_the_crop_is_refused_by_organ(height: int, width: int) -> None:
    with pytest.raises(DataError, match="breast: an image of 31 px is smaller than the crop of 32 px"):
        CropSampler({"lung": [noise(40, 40)], "breast": [noise(40, 40), noise(height, width)]}, crop_px=32)


def test_an_image_of_the_crops_own_size_will_do() -> None:
    sampler = CropSampler({"lung": [plain(7, 32)]}, crop_px=32, stain=0, refocused=0)
    assert (sampler.batch(2, seed=0, step=0) == 7).all()


def test_tables_are_joined_by_organ(tmp_path: Path) -> None:
    def table(name: str, values: dict[str, int]) -> PatchTable:
        patches = []
        for organ, value in values.items():
            path = tmp_path / f"{name}-{organ}.png"
            Image.fromarray(plain(value)).save(path)
            patches.append(Patch(path, "", organ, None, organ))
        return PatchTable(name, tuple(patches))

    sampler = CropSampler.load([table("a", {"lung": 1, "oral": 2}), table("b", {"lung": 3})], crop_px=16, stain=0)
    assert sampler.organs == ("lung", "oral")
    assert [int(image[0, 0, 0]) for image in sampler.images["lung"]] == [1, 3]
    assert [int(image[0, 0, 0]) for image in sampler.images["oral"]] == [2]


def test_an_image_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    table = PatchTable("a", (Patch(tmp_path / "missing.png", "", "g", None, "lung"),))
    with pytest.raises(DataError, match=r"missing\.png"):
        CropSampler.load([table], crop_px=16)
