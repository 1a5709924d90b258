from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.pipeline import __main__ as command
from benchmarks.pipeline import profile, timing
from benchmarks.pipeline.gpu import ROWS as GPU_ROWS
from benchmarks.pipeline.report import to_markdown
from benchmarks.pipeline.slides import half_glass, mirrored, write_half_glass
from benchmarks.pipeline.stages import encode_whole, load_latents, load_tiles
from benchmarks.pipeline.timing import Row, Seconds, Target, exponent, interleaved, ratios, timed, walls
from tests.factories import tissue_image
from tests.store.stores import latents_of
from wsicomp.slides import open_source
from wsicomp.store.reader import StoreReader

pytestmark = pytest.mark.usefixtures("one_torch_thread")

QUICK = ["--quick", "--model", "perticarari2023", "--cores", "1", "--readers", "2"]
REGIONS = [f"region-{state}-p{percent}" for state in ("first", "cold", "warm") for percent in (50, 99)]
ENCODE = ["slowest-stage", "cpu-time", "openslide", "direct-reading", "jpeg-xl-effort-7", "avif-speed-6"]
"""Rows that must be there, by key."""


@pytest.mark.parametrize(("power", "constant"), [(1.0, 3.0), (0.5, 1.0), (2.0, 1e-6)])
def test_an_exponent_is_found_in_costs_that_have_it(power: float, constant: float) -> None:
    sizes = [1, 2, 4, 8, 16]
    assert exponent(sizes, [constant * size**power for size in sizes]) == pytest.approx(power)


def test_a_fixed_cost_lowers_the_exponent() -> None:
    assert exponent([1, 2, 4], [1 + 1, 1 + 2, 1 + 4]) < 0.8


@pytest.mark.parametrize(("sizes", "costs"), [([1], [1.0]), ([2, 2], [1.0, 1.0]), ([1, 2], [0.0, 1.0])])
def test_an_exponent_of_nothing_is_refused(sizes: list[float], costs: list[float]) -> None:
    with pytest.raises(ValueError, match="two sizes"):
        exponent(sizes, costs)


def test_cases_take_turns_and_each_comes_first_once() -> None:
    calls: list[str] = []

    def case(name: str) -> int:
        calls.append(name)
        return len(calls)

    found = interleaved({"a": lambda: case("a"), "b": lambda: case("b"), "c": lambda: case("c")}, 3)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"
    assert found == {"a": [4, 9, 11], "b": [5, 7, 12], "c": [6, 8, 10]}  # the first run of each is not counted


def test_a_run_takes_time_on_the_wall_and_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = SimpleNamespace(perf_counter=iter([10.0, 13.0]).__next__, process_time=iter([2.0, 4.5]).__next__)
    monkeypatch.setattr(timing, "time", clocks)
    assert timed(lambda: None)() == Seconds(wall=3.0, cpu=2.5)
    assert walls({"a": [Seconds(3.0, 2.5), Seconds(2.0, 1.0)]}) == {"a": [3.0, 2.0]}


def test_a_row_is_the_median_of_its_rounds_ratios() -> None:
    row = Row("key", "a", "b", ratios([1.0, 4.0, 9.0], [1.0, 2.0, 3.0]), Target(at_least=2.5)).to_json()
    assert (row["ratio"], row["spread"], row["rounds"]) == (2.0, [1.0, 3.0], 3)
    assert row["reached"] is False
    assert row["missed_by"] == pytest.approx(0.2)


def test_rounds_of_unequal_number_are_refused() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        ratios([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("target", "value", "missed_by", "words"),
    [
        (Target(at_least=0.85), 0.85, 0.0, "at least 0.85"),
        (Target(at_least=4.0), 3.0, 0.25, "at least 4"),
        (Target(at_most=2.0), 1.0, 0.0, "at most 2"),
        (Target(at_most=2.0), 3.0, 0.5, "at most 2"),
        (Target(0.95, 1.05), 1.0, 0.0, "0.95 to 1.05"),
        (Target(0.5, 2.0), 3.0, 0.5, "0.5 to 2"),
        (Target(0.5, 2.0), 0.25, 0.5, "0.5 to 2"),
        (Target(), 7.0, 0.0, ""),
    ],
)
def test_targets(target: Target, value: float, missed_by: float, words: str) -> None:
    assert target.reached(value) == (missed_by == 0)
    assert target.missed_by(value) == pytest.approx(missed_by)
    assert str(target) == words


def test_a_row_not_measured_has_nulls_and_says_so() -> None:
    row = Row("key", "a", "b", None, Target(at_least=1.0)).to_json()
    assert [row[name] for name in ("ratio", "spread", "reached", "missed_by")] == [None] * 4
    document = {**HEAD, "rows": [row]}
    assert "| a | b | - | - | at least 1 | not measured |" in to_markdown(document)


HEAD = {
    "command": "run",
    "slide": "slide",
    "cores": 2,
    "readers": 4,
    "model": "model",
    "depth": 3,
    "quality": None,
    "rounds": 5,
    "peak_memory": "memory.json",
}


def test_the_right_half_is_glass_and_the_left_is_the_picture() -> None:
    picture = tissue_image(512, 512, 0, 0)
    image = half_glass(picture, 1536, 768)
    assert image.shape == (768, 1536, 3)
    assert np.array_equal(image[:512, :512], picture)
    assert np.array_equal(image[512:, :512], picture[:256])
    assert np.array_equal(image[:512, 512:640], picture[:, :128])
    assert image[:, 768:].min() > 230


def test_a_picture_is_cropped_or_mirrored_to_a_size() -> None:
    picture = tissue_image(512, 512, 0, 0)
    image = mirrored(picture, 700, 100)
    assert image.shape == (100, 700, 3)
    assert np.array_equal(image[:, :512], picture[:100])
    assert np.array_equal(image[:, 512:], picture[:100, :323:-1])


def test_a_slide_is_coded_by_half(tmp_path: Path) -> None:
    path = write_half_glass(tmp_path / "slide.svs", tissue_image(512, 512, 0, 0), 2048, 1024)
    with open_source(path) as slide:
        tissue = slide.tissue().tiles[0]
    assert tissue[:, :4].all()
    assert not tissue[:, 5:].any()  # JPEG may smear the border of glass
    assert len(load_tiles(path, at_most=5)) == 5
    glass = load_tiles(path, tissue=False, at_most=1000)
    assert len(glass) >= 16
    assert glass[0].min() > 200


def test_latents_of_a_store_make_the_same_store_again(tmp_path: Path) -> None:
    options = command.parse([*QUICK, "--depth", "2"])
    bench = command.prepare(options, tmp_path)
    path = write_half_glass(tmp_path / "slide.svs", tissue_image(512, 512, 0, 0), 600, 500)
    encoded = encode_whole(bench, path, tmp_path / "slide.zarr")
    latents = load_latents(tmp_path / "slide.zarr")
    latents.write(tmp_path / "again.zarr")
    with StoreReader(tmp_path / "slide.zarr") as once, StoreReader(tmp_path / "again.zarr") as again:
        assert again.store_bytes == encoded.store_bytes
        for row in range(2):
            pair = [latents_of(reader, 0, row, 0) for reader in (once, again)]
            assert pair[0] is not None
            assert pair[1] is not None
            assert np.array_equal(pair[0], pair[1])


def test_a_quick_run_measures_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WSICOMP_DATA", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    command.main([*QUICK, "--out", str(tmp_path / "out")])
    document = json.loads((tmp_path / "out" / "pipeline.json").read_text())
    rows = {row["key"]: row for row in document["rows"]}
    assert {*REGIONS, *(f"encode-against-{name}" for name in ENCODE)} < rows.keys()
    assert {"decode-against-jpeg-xl", "cost-against-size"} < rows.keys()
    assert len(rows) == len(document["rows"])
    for key, row in rows.items():
        assert (row["ratio"] is None) == (key in GPU_ROWS)
        if row["ratio"] is not None:
            low, high = row["spread"]
            assert 0 < low <= row["ratio"] <= high or key == "cost-against-size"
            assert row["rounds"] == 1
    assert document["cores"] == 1
    assert document["machine"]["torch"]
    assert (tmp_path / "out" / "pipeline.md").read_text() == to_markdown(document)


def test_a_profile_parts_the_time_into_its_steps(
    tmp_path: Path, wsic_weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WSICOMP_DATA", raising=False)
    monkeypatch.setattr(command, "AREAS", (1, 2, 4))
    command.main([*QUICK, "--model", str(wsic_weights), "--profile", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    for step in ("read", "network", "mean prediction", "entropy tables", "rANS", "zarr", "commit", "tensors"):
        assert f"| {step}" in printed
    assert not list(tmp_path.glob("pipeline*"))


def test_steps_are_counted_and_put_back() -> None:
    original = np.linalg.norm
    with profile.steps(((np.linalg, "norm", "norm", iter([1.0, 2.0, 5.0, 5.5]).__next__),)) as spent:
        assert np.linalg.norm(np.ones(4)) == 2
        np.linalg.norm(np.ones(4))
    assert spent == {"norm": 1.5}
    assert np.linalg.norm is original


@pytest.mark.parametrize("words", [["--cores", "0"], ["--readers", "0"], ["--rounds", "-1"]])
def test_nothing_is_measured_with_nothing(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        command.parse(words)
