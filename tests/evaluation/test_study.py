from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.evaluation.toy import SIDE, GreyClassifier, darkened, toy_data
from wsicomp.errors import DataError
from wsicomp.evaluation.report import CALIBRATED_KEYS, DROPS, FIDELITY, ROW_KEYS, STATISTICS
from wsicomp.evaluation.samples import Samples
from wsicomp.evaluation.study import Reconstruction, evaluate
from wsicomp.metrics.distortion import MAX_PSNR_DB


def test_the_original_is_depth_0() -> None:
    (row,) = evaluate(toy_data(), GreyClassifier(), []).rows
    # greys 110 (label 0), 120, 130, 140 are predicted positive
    expected = {
        "codec": "original",
        "depth": 0,
        "quality": None,
        "latent_elements": SIDE * SIDE * 3,
        "element_ratio": 1.0,
        "bytes_per_tile": SIDE * SIDE * 3,
        "bits_per_pixel": 24.0,
        "psnr_db": None,
        "ssim": 1.0,
        "ms_ssim": 1.0,
        "loss": 0.0,
        "accuracy": 5 / 6,
        "precision": 3 / 4,
        "recall": 1.0,
        "auc": 1.0,
        "flip_rate": 0.0,
        "calibrated": None,
    }
    assert {key: row[key] for key in expected} == expected
    assert all(row["intervals"][drop] == [0, 0] for drop in DROPS)
    assert row["intervals"]["flip_rate"] == [0, 0]


def test_a_reconstruction_by_hand() -> None:
    data = toy_data()
    # 25 greys darker: 120 -> 95 is missed, 110 -> 85 is put right, and nothing else changes sides
    report = evaluate(data, GreyClassifier(), [darkened(data, 25)], calibrated_threshold=0.1)
    row = report.rows[1]
    assert tuple(row) == ROW_KEYS
    assert row["element_ratio"] == 96 / (SIDE * SIDE * 3)
    assert row["bytes_per_tile"] == 96
    assert row["bits_per_pixel"] == 8 * 96 / SIDE**2
    assert row["psnr_db"] == pytest.approx(-20 * np.log10(25 / 255))
    assert 0.9 < row["ms_ssim"] < 1  # the tiles are mirrored out to five scales
    assert row["loss"] == pytest.approx(0.5 * (25 / 255) ** 2 + 0.5 * 25 / 255 + 0.5 * (1 - row["ssim"]))
    assert (row["accuracy"], row["precision"], row["recall"]) == (5 / 6, 1.0, 2 / 3)
    assert row["auc"] == 1
    assert row["flip_rate"] == 2 / 6
    # 0.1 is the logit -2.2, the grey 78: every original is positive; darkened, 80, 90 -> 55, 65 are not
    calibrated = row["calibrated"]
    assert tuple(calibrated) == CALIBRATED_KEYS
    assert calibrated == {"threshold": 0.1, "accuracy": 5 / 6, "precision": 3 / 4, "recall": 1.0, "flip_rate": 2 / 6}


def test_intervals_are_of_every_statistic_and_of_paired_drops() -> None:
    data = toy_data()
    report = evaluate(data, GreyClassifier(), [darkened(data, 0), darkened(data, 25)], n_resamples=200)
    same, worse = report.rows[1]["intervals"], report.rows[2]["intervals"]
    assert set(same) == {*FIDELITY, *STATISTICS, *DROPS}
    assert same["psnr_db"] == [MAX_PSNR_DB] * 2
    assert worse["psnr_db"][0] <= report.rows[2]["psnr_db"] <= worse["psnr_db"][1]
    assert all(same[drop] == [0, 0] for drop in DROPS)  # paired: the same resamples, so no spread at all
    assert worse["recall_drop"][0] == 0
    assert worse["recall_drop"][1] > 1 / 3
    assert worse["precision_drop"][0] < 0  # precision rises, as in the founding study
    assert report.rows[1]["psnr_db"] == MAX_PSNR_DB


def test_intervals_are_clustered_by_group() -> None:
    greys, labels = [80, 110, 120, 90] * 10, [0, 0, 1, 1] * 10
    alone = toy_data(greys, labels)
    by_slide = toy_data(greys, labels, groups=["a", "b", "c", "d"] * 10)
    widths = []
    for data in (alone, by_slide):
        low, high = evaluate(data, GreyClassifier(), []).rows[0]["intervals"]["accuracy"]
        widths.append(high - low)
    assert widths[1] > 2 * widths[0]


def test_one_group_has_no_intervals() -> None:
    row = evaluate(toy_data(groups=["a"] * 6), GreyClassifier(), []).rows[0]
    assert set(row["intervals"].values()) == {None}


def test_one_class_has_no_auc_and_dropped_resamples_are_reported() -> None:
    report = evaluate(toy_data(labels=[0] * 6), GreyClassifier(), [], n_resamples=50)
    row = report.rows[0]
    assert (row["auc"], row["recall"], row["intervals"]["auc"]) == (None, None, None)
    assert report.data["bootstrap"]["dropped"]["auc"] == 50
    assert report.data["bootstrap"]["dropped"]["accuracy"] == 0


def test_the_report_says_what_was_measured() -> None:
    report = evaluate(toy_data(), GreyClassifier(), [], threshold=0.4, calibrated_threshold=0.3, seed=7, n_resamples=20)
    assert report.classifier == {"name": "grey", "threshold": 0.4, "calibrated_threshold": 0.3}
    assert report.data["tiles"] == 6
    assert report.data["groups"] == 6
    assert report.data["positives"] == 3
    assert (report.data["negative"], report.data["positive"]) == ("pale", "dark")
    assert report.data["bootstrap"]["resamples"] == 20
    assert report.data["bootstrap"]["seed"] == 7


def test_a_codec_without_latents_has_bytes_alone() -> None:
    data = toy_data()
    row = evaluate(data, GreyClassifier(), [darkened(data, 1, "jpeg", depth=None, quality=20)]).rows[1]
    assert (row["depth"], row["latent_elements"], row["element_ratio"]) == (None, None, None)
    assert row["bits_per_pixel"] == 3


@pytest.mark.parametrize("watched", [False, True])
def test_one_reconstruction_is_in_memory_at_a_time(watched: bool) -> None:
    data = toy_data()
    alive: list[weakref.ref[Any]] = []

    def produce() -> Iterator[Reconstruction]:
        for by in range(1, 4):
            assert not [ref for ref in alive if ref() is not None]
            reconstruction = darkened(data, by)
            alive.append(weakref.ref(reconstruction.x_hat))
            yield reconstruction
            del reconstruction

    reconstructions = Samples(data).watch(produce()) if watched else produce()
    assert len(evaluate(data, GreyClassifier(), reconstructions, n_resamples=5).rows) == 4


def test_a_reconstruction_of_other_tiles_is_refused() -> None:
    data = toy_data()
    short = dataclasses.replace(darkened(data, 1), x_hat=data.tiles[:-1])
    with pytest.raises(DataError, match="wsic at depth 3"):
        evaluate(data, GreyClassifier(), [short])


@pytest.mark.parametrize(
    "change",
    [{"codec": "original"}, {"depth": 0}, {"bytes": 0}, {"latent_elements": 0}],
    ids=lambda change: next(iter(change)),
)
def test_a_reconstruction_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"own row|must be positive"):
        dataclasses.replace(darkened(toy_data(), 1), **change)
