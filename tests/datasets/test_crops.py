"""Training crops: batches are pure functions of seed and step, sources have their shares, variations theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tests.datasets.test_restain import noise, plain, stained
from wsicomp.datasets import crops
from wsicomp.datasets.crops import (
    ALIGNED,
    BLOCK_PX,
    FADED,
    IMMUNOSTAINED,
    JPEG_KINDS,
    NO_VARIATION,
    STAINED,
    CropSampler,
    Variation,
    through_jpeg,
)
from wsicomp.datasets.patches import Patch, PatchTable
from wsicomp.errors import ConfigError, DataError

Pixels = NDArray[np.uint8]


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
    sampler = CropSampler(images, crop_px=8, variation=NO_VARIATION)
    drawn = sampler.batch(3000, seed=0, step=0)[:, 0, 0, 0]
    shares = [float(np.mean(drawn == value)) for value in (10, 20, 30)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.05)  # five standard deviations


def test_images_of_an_organ_and_their_edges_are_all_reached() -> None:
    image = np.arange(24 * 20, dtype=np.uint16).reshape(24, 20)
    places = np.stack([image // 256, image % 256, image * 0], axis=2).astype(np.uint8)
    sampler = CropSampler(
        {"lung": [places, places + np.array([0, 0, 1], np.uint8)]}, crop_px=16, variation=NO_VARIATION
    )
    drawn = sampler.batch(1000, seed=1, step=0)
    assert set(np.unique(drawn[:, 2])) == {0, 1}
    place = drawn[:, 0].astype(int) * 256 + drawn[:, 1]
    assert set(np.unique(place)) == set(range(24 * 20))


def test_without_restaining_a_crop_is_a_turned_or_flipped_piece_of_an_image() -> None:
    image = noise(12, 10)
    sampler = CropSampler({"lung": [image]}, crop_px=9, variation=NO_VARIATION)
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


@pytest.mark.parametrize("scaled", [0.0, 0.25, 1.0])
def test_a_share_of_the_crops_is_cut_larger_or_smaller_and_resampled(scaled: float) -> None:
    sampler = CropSampler({"lung": [gradient(100)]}, crop_px=32, variation=replace(NO_VARIATION, scaled=scaled))
    drawn = slopes(sampler.batch(600, seed=0, step=0))
    resampled = np.abs(drawn - 2) > 0.03
    assert resampled.mean() == pytest.approx(scaled, abs=0.08)
    if scaled:
        octaves = np.log2(drawn[resampled] / 2)
        assert np.abs(octaves).max() <= 1.1
        assert np.quantile(octaves, [0.25, 0.5, 0.75]) == pytest.approx([-0.5, 0, 0.5], abs=0.15)


def test_a_scaled_crop_is_no_larger_than_its_image() -> None:
    sampler = CropSampler({"lung": [gradient(40)[:, :36]]}, crop_px=32, variation=replace(NO_VARIATION, scaled=1))
    drawn = sampler.batch(200, seed=0, step=0)
    assert drawn.shape == (200, 3, 32, 32)
    assert slopes(drawn).max() <= 2 * 36 / 32 + 0.1


def test_a_scaled_crop_keeps_its_mean_and_its_place() -> None:
    image = gradient(64)
    sampler = CropSampler({"lung": [image]}, crop_px=32, variation=replace(NO_VARIATION, scaled=1))
    scaled = sampler.batch(400, seed=0, step=0)[:, :2].astype(float)
    middles = scaled.mean(axis=(2, 3))
    assert middles.min() >= image[:16, :16, 0].mean() - 1
    assert middles.max() <= image[-16:, -16:, 0].mean() + 1
    assert middles.mean() == pytest.approx(image[..., 0].mean(), abs=1.5)


def test_most_crops_begin_where_a_jpeg_block_does() -> None:
    rows, columns = np.mgrid[:200, :250]
    sampler = CropSampler(
        {"lung": [np.stack([rows, columns, 0 * rows], 2).astype(np.uint8)]}, 32, variation=NO_VARIATION
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


@pytest.mark.parametrize("recoded", [0.0, 0.35, 1.0])
def test_a_share_of_the_crops_is_jpeg_whose_blocks_begin_with_the_crop(recoded: float) -> None:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(60, 200, (24, 24, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((240, 240), Image.Resampling.BICUBIC))
    untouched = CropSampler({"lung": [smooth]}, 64, NO_VARIATION).batch(300, seed=0, step=0)
    drawn = CropSampler({"lung": [smooth]}, 64, replace(NO_VARIATION, recoded=recoded)).batch(300, seed=0, step=0)
    blocky = jumps(drawn) > np.quantile(jumps(untouched), 0.99)
    # A JPEG of high quality hides its blocks.
    assert 0.3 * recoded < blocky.mean() < 1.2 * recoded + 0.02


def test_a_crop_becomes_jpeg_after_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def grey(image: Pixels, kind: str, quality: int) -> Pixels:
        kinds.append(kind)
        qualities.append(quality)
        return np.full_like(image, 128)

    kinds: list[str] = []
    qualities: list[int] = []
    monkeypatch.setattr(crops, "through_jpeg", grey)
    everything = Variation(stain=0.2, scaled=0.5, halved=0.5, refocused=1, recoded=1)
    drawn = CropSampler({"lung": [noise(70, 70)]}, 32, everything).batch(1000, seed=0, step=0)
    assert (drawn == 128).all()
    for kind, share in JPEG_KINDS.items():
        assert kinds.count(kind) / 1000 == pytest.approx(share, abs=0.06)
    assert set(qualities) == set(range(25, 96))


def red_and_blue() -> Pixels:
    """Stripes of red and blue, a pixel wide, whose luma is nearly the same."""
    stripes = np.empty((32, 32, 3), np.uint8)
    stripes[:, 0::2], stripes[:, 1::2] = (150, 60, 60), (90, 60, 233)
    return stripes


@pytest.mark.parametrize(("kind", "kept"), [("RGB", True), ("4:4:4", True), ("4:2:0", False)])
def test_all_kinds_of_jpeg_but_one_keep_chroma(kind: str, kept: bool) -> None:
    coded = through_jpeg(red_and_blue(), kind, 95).astype(int)
    contrast = np.abs(np.diff(coded[..., 0] - coded[..., 2], axis=1)).mean() / 203
    assert (contrast > 0.9) if kept else (contrast < 0.3)


def test_rgb_is_quantised_each_by_itself() -> None:
    """Noise in red alone leaves green and blue as they are; in YCbCr it spreads to both."""
    image = plain(128, 32).copy()
    image[..., 0] = noise(32, 32)[..., 0]
    alone, mixed = (through_jpeg(image, kind, 30)[..., 1:].astype(int) - 128 for kind in ("RGB", "4:4:4"))
    assert np.abs(alone).max() == 0
    assert np.abs(mixed).mean() > 3


def test_a_halved_crop_is_averaged_two_by_two() -> None:
    image = noise(64, 64)
    sampler = CropSampler({"lung": [image]}, 32, replace(NO_VARIATION, halved=1))
    halves = image.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    for crop in sampler.batch(20, seed=0, step=0).transpose(0, 2, 3, 1):
        turned = [np.rot90(crop, k)[:, :: 1 - 2 * flip] for k in range(4) for flip in range(2)]
        assert min(np.abs(turn - halves).max() for turn in turned) <= 1


def test_a_halved_crop_of_a_picture_of_quarter_chroma_has_all_of_it() -> None:
    """What 4:2:0 keeps of stripes two pixels wide is stripes of one pixel at half the size."""
    image = through_jpeg(np.tile(np.repeat(red_and_blue(), 2, axis=1), (2, 1, 1)), "4:2:0", 95)
    contrasts = []
    for halved in (0.0, 1.0):
        sampler = CropSampler({"lung": [image]}, 32, replace(NO_VARIATION, halved=halved))
        drawn = sampler.batch(50, seed=0, step=0).astype(int)
        chroma = drawn[:, 0] - drawn[:, 2]
        along = [np.abs(np.diff(chroma, axis=axis)).mean(axis=(1, 2)) for axis in (1, 2)]
        contrasts.append(float(np.maximum(*along).mean()) / 203)
    assert contrasts[1] > max(0.4, 1.3 * contrasts[0])


@pytest.mark.parametrize("side", [32, 33, 40, 63, 64, 100])
def test_a_halved_crop_takes_what_its_image_has(side: int) -> None:
    sampler = CropSampler({"lung": [gradient(side)]}, 32, replace(NO_VARIATION, halved=1))
    drawn = sampler.batch(20, seed=0, step=0)
    assert drawn.shape == (20, 3, 32, 32)
    assert slopes(drawn) == pytest.approx(2 * min(side, 64) / 32, abs=0.15)


@pytest.mark.parametrize("halved", [0.0, 0.25, 1.0])
def test_a_share_of_the_crops_is_halved(halved: float) -> None:
    sampler = CropSampler({"lung": [gradient(100)]}, 32, replace(NO_VARIATION, halved=halved))
    found = slopes(sampler.batch(600, seed=0, step=0)) > 3
    assert found.mean() == pytest.approx(halved, abs=0.08)


@pytest.mark.parametrize("refocused", [0.0, 0.25, 1.0])
def test_a_share_of_the_crops_is_made_sharper_or_softer(refocused: float) -> None:
    rows, columns = np.mgrid[:64, :64]
    squares = np.where((rows // 2 + columns // 2) % 2, 148, 108).astype(np.uint8)
    sampler = CropSampler(
        {"lung": [np.stack([squares] * 3, 2)]}, 32, variation=replace(NO_VARIATION, refocused=refocused)
    )
    drawn = sampler.batch(600, seed=0, step=0)[:, 0, 4:-4, 4:-4].astype(float)
    contrast = drawn.std(axis=(1, 2)) / 20
    changed = np.abs(contrast - 1) > 0.05
    assert changed.mean() == pytest.approx(0.9 * refocused, abs=0.08)  # some are changed too little to tell
    assert drawn.mean(axis=(1, 2)) == pytest.approx(128, abs=2)
    if refocused:
        assert np.quantile(contrast[changed], [0.1, 0.9]) == pytest.approx([0.5, 2.1], abs=0.2)


def test_crops_are_restained_each_in_its_own_way() -> None:
    grey = plain(128)
    drawn = CropSampler({"lung": [grey]}, 16, replace(NO_VARIATION, stain=0.12)).batch(500, seed=0, step=0)
    assert (drawn == drawn[:, :, :1, :1]).all()  # one mixing for a whole crop
    colours = drawn[:, :, 0, 0]
    own = (colours == 128).all(axis=1)
    assert own.mean() == pytest.approx(STAINED, abs=0.1)  # the others keep their laboratory's
    restained = colours[~own]
    assert len({colour.tobytes() for colour in restained}) > 0.9 * len(restained)
    assert (restained.std(axis=1) > 1).mean() > 0.9  # the channels part: hue moves, not only brightness
    assert np.abs(np.median(restained, axis=0) - 128).max() < 20


def test_some_crops_are_faded_towards_glass() -> None:
    drawn = CropSampler({"lung": [plain(60)]}, 8, replace(NO_VARIATION, stain=0.12)).batch(1000, seed=0, step=0)[
        :, :, 0, 0
    ]
    faded = drawn.min(axis=1) > 110  # half of the density or less
    assert faded.mean() == pytest.approx(STAINED * FADED, abs=0.03)


def test_the_sampler_restains_as_much_as_it_is_told() -> None:
    spreads = [
        CropSampler({"a": [plain(128)]}, 16, replace(NO_VARIATION, stain=stain)).batch(50, seed=0, step=0).std()
        for stain in (0.01, 0.05, 0.2)
    ]
    assert 0 < spreads[0] < spreads[1] < spreads[2]


def test_some_crops_become_immunostains() -> None:
    drawn = CropSampler({"a": [stained(1, 0.3)]}, 8, replace(NO_VARIATION, stain=0.01)).batch(1000, seed=0, step=0)[
        :, :, 0, 0
    ]
    brown = drawn[:, 2] < drawn[:, 1]  # eosin takes green, DAB takes blue
    assert brown.mean() == pytest.approx(STAINED * IMMUNOSTAINED, abs=0.03)


@pytest.mark.parametrize(("height", "width"), [(31, 64), (64, 31)])
def test_an_image_smaller_than_the_crop_is_refused_by_organ(height: int, width: int) -> None:
    with pytest.raises(DataError, match="breast: an image of 31 px is smaller than the crop of 32 px"):
        CropSampler({"lung": [noise(40, 40)], "breast": [noise(40, 40), noise(height, width)]}, crop_px=32)


def test_an_image_of_the_crops_own_size_will_do() -> None:
    sampler = CropSampler({"lung": [plain(7, 32)]}, crop_px=32, variation=NO_VARIATION)
    assert (sampler.batch(2, seed=0, step=0) == 7).all()


def table(folder: Path, name: str, values: dict[str, int], share: float | None = None) -> PatchTable:
    """Table of one plain image of each organ."""
    patches = []
    for organ, value in values.items():
        path = folder / f"{name}-{organ}.png"
        Image.fromarray(plain(value)).save(path)
        patches.append(Patch(path, "", organ, None, organ))
    return PatchTable(name, tuple(patches), share)


def test_tables_are_joined_by_organ(tmp_path: Path) -> None:
    tables = [table(tmp_path, "a", {"lung": 1, "oral": 2}), table(tmp_path, "b", {"lung": 3})]
    sampler = CropSampler.load(tables, crop_px=16)
    assert sampler.sources == ("lung", "oral")
    assert [int(image[0, 0, 0]) for image in sampler.images["lung"]] == [1, 3]
    assert [int(image[0, 0, 0]) for image in sampler.images["oral"]] == [2]


def test_a_table_with_a_share_has_it_and_the_other_organs_divide_the_rest(tmp_path: Path) -> None:
    tables = [
        table(tmp_path, "a", {"lung": 1, "oral": 2}),
        table(tmp_path, "b", {"lung": 3, "brain": 4}, 0.5),
        table(tmp_path, "c", {"bone": 5}),
    ]
    loaded = CropSampler.load(tables, crop_px=16)
    drawn = replace(loaded, variation=NO_VARIATION).batch(4000, seed=0, step=0)[:, 0, 0, 0]
    shares = [float(np.mean(drawn == value)) for value in range(1, 6)]
    assert shares == pytest.approx([1 / 6, 1 / 6, 1 / 4, 1 / 4, 1 / 6], abs=0.04)


def test_tables_may_all_have_shares(tmp_path: Path) -> None:
    tables = [table(tmp_path, "a", {"lung": 1}, 0.9), table(tmp_path, "b", {"oral": 2}, 0.1)]
    loaded = CropSampler.load(tables, crop_px=16)
    drawn = replace(loaded, variation=NO_VARIATION).batch(2000, seed=0, step=0)[:, 0, 0, 0]
    assert np.mean(drawn == 1) == pytest.approx(0.9, abs=0.04)


def test_tables_of_one_name_add_their_shares(tmp_path: Path) -> None:
    tables = [table(tmp_path, "a", {"lung": 1}, 0.25), table(tmp_path, "a", {"lung": 1}, 0.25)]
    sampler = CropSampler.load([*tables, table(tmp_path, "b", {"oral": 2})], crop_px=16)
    assert dict(zip(sampler.sources, sampler.chances, strict=True)) == pytest.approx({"a: lung": 0.5, "oral": 0.5})


@pytest.mark.parametrize("shares", [(0.5, 0.6, None), (0.5, 0.5, None), (0.5, 0.4, 0.2), (0.2, 0.3, 0.4)])
def test_shares_that_do_not_make_a_whole_are_refused(
    tmp_path: Path, shares: tuple[float | None, float | None, float | None]
) -> None:
    tables = [table(tmp_path, name, {name: 1}, share) for name, share in zip("abc", shares, strict=True)]
    with pytest.raises(ConfigError, match="the shares of the data are"):
        CropSampler.load(tables, crop_px=16)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_is_a_part_of_the_whole(share: float) -> None:
    with pytest.raises(ConfigError, match="chroma: a share of"):
        PatchTable("chroma", (), share)


def test_an_image_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    table = PatchTable("a", (Patch(tmp_path / "missing.png", "", "g", None, "lung"),))
    with pytest.raises(DataError, match=r"missing\.png"):
        CropSampler.load([table], crop_px=16)
