"""Laws of the phantom: what a patch depends on, and that its class is in the nuclei but not in plain sight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from skimage.filters import gaussian
from skimage.measure import label
from sklearn.metrics import roc_auc_score

from wsicomp.datasets.phantom import GROUP_PATCHES, SPLITS, PhantomPatches, phantom_patches
from wsicomp.errors import ConfigError


@pytest.fixture(scope="module")
def patches() -> PhantomPatches:
    return phantom_patches(120, seed=7, split="val")


@pytest.mark.parametrize("size", [32, 96, 225])
def test_shapes_and_dtypes(size: int) -> None:
    drawn = phantom_patches(3, size=size, seed=1, split="train")
    assert drawn.tiles.shape == (3, size, size, 3)
    assert drawn.tiles.dtype == np.uint8
    assert drawn.labels.shape == (3,)
    assert drawn.labels.dtype == np.int64
    assert drawn.groups.shape == (3,)
    assert drawn.groups.dtype.kind == "U"


def test_no_patches_are_a_valid_answer() -> None:
    drawn = phantom_patches(0, size=64, seed=1, split="train")
    assert drawn.tiles.shape == (0, 64, 64, 3)
    assert len(drawn.labels) == len(drawn.groups) == 0


@settings(max_examples=8, deadline=None)
@given(n=st.integers(1, 6), more=st.integers(1, 6), seed=st.integers(0, 2**63), split=st.sampled_from(SPLITS))
def test_a_patch_depends_on_seed_split_and_index_alone(n: int, more: int, seed: int, split: str) -> None:
    few = phantom_patches(n, size=48, seed=seed, split=split)
    many = phantom_patches(n + more, size=48, seed=seed, split=split)
    np.testing.assert_array_equal(few.tiles, many.tiles[:n])
    np.testing.assert_array_equal(few.labels, many.labels[:n])
    np.testing.assert_array_equal(few.groups, many.groups[:n])


def test_every_split_seed_and_index_draws_another_picture() -> None:
    drawn = [phantom_patches(4, size=48, seed=seed, split=split).tiles for split in SPLITS for seed in (0, 1)]
    pictures = [tile.tobytes() for tiles in drawn for tile in tiles]
    assert len(set(pictures)) == len(pictures)


def test_splits_share_no_drawing_under_another_stain() -> None:
    drawn = [phantom_patches(4, size=96, seed=3, split=split).tiles[..., 0].reshape(4, -1) for split in SPLITS]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        for one, other in zip(drawn[first], drawn[second], strict=True):
            assert abs(np.corrcoef(one, other)[0, 1]) < 0.5


def test_labels_are_balanced_over_all_and_in_each_group(patches: PhantomPatches) -> None:
    assert set(patches.labels) == {0, 1}
    for group in np.unique(patches.groups):
        assert patches.labels[patches.groups == group].mean() == 0.5


def test_groups_hold_as_many_patches_as_said_and_differ_between_splits(patches: PhantomPatches) -> None:
    _, counts = np.unique(patches.groups, return_counts=True)
    assert set(counts) == {GROUP_PATCHES}
    other = phantom_patches(2 * GROUP_PATCHES, size=32, seed=7, split="test").groups
    assert not set(other) & set(patches.groups)


def test_a_group_shares_its_stain(patches: PhantomPatches) -> None:
    # The spread of group means is more than chance leaves of the spread within groups.
    colour = patches.tiles.reshape(len(patches.tiles), -1, 3).mean(axis=1)
    by_group = colour.reshape(-1, GROUP_PATCHES, 3)
    ratio = by_group[..., 0] / by_group[..., 2]  # red against blue: the stain's hue
    assert ratio.mean(axis=1).std() > 2 * ratio.std(axis=1).mean() / np.sqrt(GROUP_PATCHES)


def test_colours_are_those_of_haematoxylin_and_eosin(patches: PhantomPatches) -> None:
    red, green, blue = patches.tiles.reshape(-1, 3).mean(axis=0)
    assert green < red
    assert green < blue
    assert 90 < green < 190


@pytest.mark.parametrize(
    ("n", "size", "seed", "split"),
    [(-1, 64, 0, "train"), (1, 31, 0, "train"), (1, 64, -1, "train"), (1, 64, 0, "validation")],
)
def test_what_cannot_be_drawn_is_refused(n: int, size: int, seed: int, split: str) -> None:
    with pytest.raises(ConfigError, match="phantom"):
        phantom_patches(n, size=size, seed=seed, split=split)


def _optical_density(tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
    return -np.log10((tiles[..., 0].astype(np.float64) + 1) / 256)  # red light: haematoxylin absorbs it, eosin hardly


def _blurred(density: NDArray[np.float64], sigma_px: float) -> NDArray[np.float64]:
    return np.asarray(gaussian(density, sigma_px, mode="nearest"))  # type: ignore[no-untyped-call]


def _nuclear_detail(tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Unevenness of the chromatin: high-passed density where it is dense, against that density."""
    scores = []
    for density in _optical_density(tiles):
        smooth = _blurred(density, 2.5)
        dense = smooth > np.quantile(smooth, 0.9)
        scores.append((_blurred(density, 0.7) - smooth)[dense].std() / smooth[dense].mean())
    return np.array(scores)


def _nuclear_area(tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Area in px of the largest tenth of the nuclei, found by a threshold between stroma and the darkest pixels."""
    scores = []
    for density in _optical_density(tiles):
        smooth = _blurred(density, 1.0)
        stroma, darkest = np.quantile(smooth, (0.4, 0.98))
        nuclei = smooth > stroma + 0.4 * (darkest - stroma)
        areas = np.bincount(label(nuclei).ravel())[1:]  # type: ignore[no-untyped-call]
        scores.append(np.quantile(areas[areas > 15], 0.9))
    return np.array(scores)


def test_nuclear_size_tells_the_classes_apart_with_overlap(patches: PhantomPatches) -> None:
    area = _nuclear_area(patches.tiles)
    assert 0.70 < roc_auc_score(patches.labels, area) < 0.995
    assert area[patches.labels == 0].max() > area[patches.labels == 1].min()


def test_mean_colour_alone_tells_little(patches: PhantomPatches) -> None:
    darkness = -patches.tiles.mean(axis=(1, 2, 3))
    assert 0.25 < roc_auc_score(patches.labels, darkness) < 0.75


def test_blur_takes_the_nuclear_detail_that_tells_the_classes_apart(patches: PhantomPatches) -> None:
    sharp = roc_auc_score(patches.labels, _nuclear_detail(patches.tiles))
    blurred = np.stack(
        [np.asarray(Image.fromarray(tile).filter(ImageFilter.GaussianBlur(3))) for tile in patches.tiles]
    )
    assert sharp > roc_auc_score(patches.labels, _nuclear_detail(blurred)) + 0.05
