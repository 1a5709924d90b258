"""The folder of a run, the key that ties a checkpoint to its settings, and the learning rate."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wsicomp.errors import ConfigError
from wsicomp.training.curves import read_log
from wsicomp.training.run import Run, cosine, plateau, recipe_key


def test_a_new_run_makes_its_folder(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "a" / "b", resume=False)
    assert run.folder.is_dir()
    assert not list(run.folder.iterdir())
    assert run.weights.parent == run.checkpoint.parent == run.folder


@pytest.mark.parametrize("name", ["weights", "checkpoint"])
def test_a_folder_that_holds_a_run_is_refused_unless_it_is_to_go_on(tmp_path: Path, name: str) -> None:
    path: Path = getattr(Run(tmp_path), name)
    path.write_bytes(b"earlier work")
    with pytest.raises(ConfigError, match="holds a training run already; give --resume"):
        Run.open(tmp_path, resume=False)
    assert Run.open(tmp_path, resume=True).folder == tmp_path
    assert path.read_bytes() == b"earlier work"


def test_a_folder_that_holds_something_else_is_taken(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    Run.open(tmp_path, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_log_grows_by_a_document_per_line(tmp_path: Path) -> None:
    Run(tmp_path).log(step=1, loss=0.5)
    Run(tmp_path).log(step=2, note="two\nlines")
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 1, "loss": 0.5}, {"step": 2, "note": "two\nlines"}]


@dataclass(frozen=True)
class Recipe:
    steps: int = 3
    rate: float = 0.1


@dataclass(frozen=True)
class OtherRecipe(Recipe):
    pass


def test_a_key_tells_settings_recipes_and_tables_apart() -> None:
    keys = [
        recipe_key(Recipe(), ["a", "b"]),
        recipe_key(replace(Recipe(), steps=4), ["a", "b"]),
        recipe_key(replace(Recipe(), rate=0.2), ["a", "b"]),
        recipe_key(OtherRecipe(), ["a", "b"]),
        recipe_key(Recipe(), ["a"]),
        recipe_key(Recipe(), ["a, b"]),
        recipe_key(Recipe(), ["b", "a"]),
    ]
    assert len(set(keys)) == len(keys)
    assert recipe_key(Recipe(), ["a", "b"]) == keys[0]


@st.composite
def schedules(draw: st.DrawFn) -> tuple[int, int]:
    steps = draw(st.integers(1, 500))
    return steps, draw(st.integers(1, steps))


@pytest.mark.parametrize("schedule_of", [cosine, plateau])
@given(schedule=schedules())
def test_the_learning_rate_warms_up_in_a_line_and_then_only_falls(
    schedule_of: Callable[..., float], schedule: tuple[int, int]
) -> None:
    steps, warmup = schedule
    factors = [schedule_of(step, steps, warmup=warmup) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[:warmup] == pytest.approx([(k + 1) / warmup for k in range(warmup)])
    after = factors[warmup - 1 :]
    assert after == sorted(after, reverse=True)
    if steps > warmup:
        assert schedule_of(steps, steps, warmup=warmup) == pytest.approx(0)


def test_halfway_down_the_cosine_the_rate_is_half() -> None:
    assert cosine(60, 110, warmup=10) == pytest.approx(0.5)
    assert cosine(35, 110, warmup=10) == pytest.approx(0.5 + 0.5 * 2**-0.5)


def test_on_the_plateau_a_run_is_the_beginning_of_a_longer_one() -> None:
    short, long = ([plateau(step, steps, warmup=10) for step in range(61)] for steps in (100, 200))
    assert short == long
    assert plateau(60, 100, warmup=10) == 1 > plateau(61, 100, warmup=10)
    assert plateau(70, 100, warmup=10) == pytest.approx(0.5)


def colours(png: Path) -> set[tuple[int, ...]]:
    """Colours of the thick lines of a picture: those of many pixels."""
    pixels = np.asarray(Image.open(png).convert("RGB")).reshape(-1, 3)
    found, counts = np.unique(pixels, axis=0, return_counts=True)
    return {tuple(int(value) for value in colour) for colour in found[counts > 100]}


def test_the_log_is_drawn_with_a_panel_for_each_quantity_and_a_colour_for_each_depth(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.draw()
    assert not list(tmp_path.iterdir())  # nothing yet
    for step in range(40):
        run.log(step=step, depth=1, loss=1 / (step + 1), psnr_db=20.0 + step)
    run.draw()
    first = np.asarray(Image.open(tmp_path / "log.png"))
    assert first.shape[1] == 1000  # two panels
    blue, orange = (0, 114, 178), (213, 94, 0)
    assert blue in colours(tmp_path / "log.png")
    assert orange not in colours(tmp_path / "log.png")
    for step in range(40):
        run.log(step=step, depth=2, loss=2.0, psnr_db=30.0)
    run.draw()
    assert {blue, orange} <= colours(tmp_path / "log.png")


def test_a_line_that_an_interruption_tore_is_not_drawn(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.log(epoch=1, loss=0.5)
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.write('{"epoch": 2, "lo')
    assert read_log(tmp_path / "log.jsonl") == [{"epoch": 1, "loss": 0.5}]
    run.draw()
    assert (tmp_path / "log.png").exists()
