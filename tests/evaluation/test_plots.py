from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.toy import GreyClassifier, darkened, toy_data
from wsicomp.evaluation.plots import _curves, _series, write_plots
from wsicomp.evaluation.report import Report
from wsicomp.evaluation.samples import Samples
from wsicomp.evaluation.study import evaluate


def make(*, latents: bool = True, groups: list[str] | None = None) -> tuple[Report, Samples]:
    data = toy_data(groups=groups)
    reconstructions = [darkened(data, 5, "jpeg", None, quality, 50 * quality) for quality in (1, 2)]
    if latents:
        reconstructions += [darkened(data, 10 * depth, depth=depth, bytes_per_tile=400 // depth) for depth in (1, 2, 3)]
    samples = Samples(data)
    return evaluate(data, GreyClassifier(), samples.watch(reconstructions), n_resamples=20), samples


@pytest.mark.parametrize("groups", [None, ["one"] * 6], ids=["intervals", "no intervals"])
def test_every_figure_is_drawn(tmp_path: Path, groups: list[str] | None) -> None:
    report, samples = make(groups=groups)
    paths = write_plots(report, samples, tmp_path / "figures")
    assert {path.name for path in paths} == {
        "loss-ssim.png", "samples.png", "classifier-elements.png", "classifier-bytes.png",
    }  # fmt: skip
    assert set((tmp_path / "figures").iterdir()) == set(paths)
    for path in paths:
        with Image.open(path) as image:
            assert min(image.size) > 300
            assert np.asarray(image.convert("L")).std() > 5


def test_without_latents_or_samples_their_figures_are_left_out(tmp_path: Path) -> None:
    report, _ = make(latents=False)
    assert [path.name for path in write_plots(report, None, tmp_path)] == ["classifier-bytes.png"]


def test_panels_show_the_rows_and_their_intervals() -> None:
    report, _ = make()
    figure = _curves(report, "bits_per_pixel", ("accuracy", "flip_rate"))
    panel = figure.axes[0]
    lines = {line.get_label(): line for line in panel.get_lines()}
    assert set(lines) == {"original", "jpeg", "wsic"}
    rows = sorted((row for row in report.rows if row["codec"] == "wsic"), key=lambda row: row["bits_per_pixel"])
    np.testing.assert_array_equal(lines["wsic"].get_xdata(), [row["bits_per_pixel"] for row in rows])
    np.testing.assert_array_equal(lines["wsic"].get_ydata(), [row["accuracy"] for row in rows])
    assert lines["original"].get_ydata()[0] == report.rows[0]["accuracy"]
    drawn = sorted(tuple(np.ravel(line.get_segments()).round(9)) for line in panel.collections)
    expected = [
        (row["bits_per_pixel"], row["intervals"]["accuracy"][0], row["bits_per_pixel"], row["intervals"]["accuracy"][1])
        for row in report.rows[1:]
    ]
    np.testing.assert_allclose(drawn, sorted(expected))  # one for every point
    assert panel.get_xscale() == "log"


@pytest.mark.parametrize("statistic", ["loss", "ssim", "accuracy", "recall"])
def test_every_depth_has_a_tick_and_every_point_an_interval(statistic: str) -> None:
    report, _ = make()
    panel = _curves(report, "element_ratio", (statistic,)).axes[0]
    rows = [row for row in report.rows if row["codec"] == "wsic"]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["0.125\ndepth 1, 2, 3"]
    assert len(panel.collections) == len(rows) == 3
    (line,) = (line for line in panel.get_lines() if line.get_label() == "wsic")
    across = np.array(line.get_xdata())
    assert (np.diff(across) > 0).all()  # of one size, beside one another
    np.testing.assert_allclose(np.sqrt(across[0] * across[2]), 0.125)


@pytest.mark.parametrize(
    ("statistic", "low", "high"), [("accuracy", 0, 1), ("flip_rate", 0, 1), ("loss", 0, 99), ("ssim", -1, 1)]
)
def test_axes_end_where_values_do(statistic: str, low: float, high: float) -> None:
    report, _ = make()
    for x in ("element_ratio", "bits_per_pixel"):
        bottom, top = _curves(report, x, (statistic,)).axes[0].get_ylim()
        assert low <= bottom < top <= high


def test_a_codec_without_latents_stays_out_of_the_legend_by_elements() -> None:
    report, _ = make()
    figure = _curves(report, "element_ratio", ("loss", "ssim"))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["original", "wsic"]


def test_undefined_scores_leave_no_point(tmp_path: Path) -> None:
    data = toy_data(labels=[0] * 6)
    report = evaluate(data, GreyClassifier(), [darkened(data, 5)], n_resamples=5)
    assert len(write_plots(report, None, tmp_path)) == 3


def test_qualities_at_several_depths_are_a_series_each() -> None:
    settings = [("original", 0, None), ("a", 1, None), ("a", 2, None), ("jpeg", None, 1), ("jpeg", None, 2)]
    settings += [("b", 1, 1), ("b", 1, 2), ("b", 2, 1)]
    rows = [dict(zip(("codec", "depth", "quality"), setting, strict=True)) for setting in settings]
    assert {name: len(members) for name, members in _series(rows).items()} == {
        "a": 2, "jpeg": 2, "b depth 1": 2, "b depth 2": 1,
    }  # fmt: skip


def test_samples_come_from_both_classes_and_match_their_originals() -> None:
    data = toy_data(greys=range(100, 120), labels=[0] * 17 + [1] * 3)
    samples = Samples(data, count=4, seed=1)
    passed = list(samples.watch([darkened(data, 10), darkened(data, 20), darkened(data, 30, depth=2)]))
    assert [int(data.tiles[0, 0, 0, 0] - r.x_hat[0, 0, 0, 0]) for r in passed] == [10, 20, 30]
    assert [label.split("\n")[0] for label in samples.labels] == ["pale", "pale", "dark", "dark"]
    for label, tile in zip(samples.labels, samples.columns[0][1], strict=True):
        number = int(label.rpartition(" ")[2])
        assert label.endswith(f"\nslide-{number}, patch {number}")
        np.testing.assert_array_equal(tile, data.tiles[number])
    titles, tiles = zip(*samples.columns, strict=True)
    names = [" ".join(title.split("\n")[:2]).strip() for title in titles]
    assert names == ["original", "wsic depth 3", "wsic depth 2"]
    np.testing.assert_array_equal(tiles[0] - tiles[1], 10)  # of a depth, the first that passes
    np.testing.assert_array_equal(tiles[0] - tiles[2], 30)


def test_few_tiles_give_few_samples() -> None:
    labels = Samples(toy_data(groups=["a/very/long/folder/name-of-a-slide-0123.svs"] * 6), count=50).labels
    assert [label.split("\n")[0] for label in labels] == ["pale"] * 3 + ["dark"] * 3
    assert labels[0].endswith("\n...a-slide-0123.svs, patch 0")


def test_matplotlib_is_imported_only_to_draw() -> None:
    code = "import sys, wsicomp.evaluation.plots as p; assert p; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
