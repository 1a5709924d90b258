"""The loop with a recipe that is as small as can be: stages, learning rates, clipping, and interruptions anywhere."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wsicomp.errors import ConfigError
from wsicomp.training.distributed import Processes
from wsicomp.training.loop import Training, train
from wsicomp.training.run import Run

ALONE = Processes(0, 1, torch.device("cpu"))


class Line(Training):
    """Fits a line; counts its stages."""

    steps, stage_steps = 9, 3
    log_steps = 2
    checkpoint_steps = 1

    def __init__(self, *, clip: float | None = None, key: str = "line", stop: int | None = None) -> None:
        self.key, self.clip, self._stop = key, clip, stop
        torch.manual_seed(3)
        self.objective = nn.Linear(2, 1)
        self.state = nn.ModuleDict({"line": self.objective})
        self.begun: list[int] = []
        self.rates: list[float] = []
        self.seen = torch.tensor(0)
        self.state.register_buffer("seen", self.seen)

    def begin(self, step: int) -> torch.optim.Adam:
        self.begun.append(step)
        self.optimizer = torch.optim.Adam(self.objective.parameters())
        return self.optimizer

    def batches(self, first: int, last: int) -> Iterator[Tensor]:
        for step in range(first, last):
            if step == self._stop:
                raise KeyboardInterrupt
            yield torch.randn(4, 2, generator=torch.Generator().manual_seed(step))

    def learning_rate(self, step: int) -> float:
        return 0.5 / (step + 1)

    def measures(self, objective: nn.Module, batch: Tensor, step: int) -> dict[str, Tensor]:
        loss = (objective(batch).squeeze(1) - batch.sum(1)).square().mean()
        return {"loss": loss * (math.inf if step == 4 and self.clip else 1)}

    def stepped(self, done: int) -> None:
        self.seen += done
        self.rates.append(self.optimizer.param_groups[0]["lr"])

    def report(self, done: int, measures: dict[str, float]) -> tuple[dict[str, Any], str]:
        return {"step": done, **measures}, f"step {done}"


def weights(training: Training) -> list[float]:
    return [value for parameter in training.objective.parameters() for value in parameter.flatten().tolist()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Line, Run]:
    run = Run.open(tmp_path_factory.mktemp("whole"), resume=False)
    training = Line()
    train(training, run, ALONE)
    return training, run


def test_each_stage_begins_once_and_each_step_has_its_rate(whole: tuple[Line, Run]) -> None:
    training, run = whole
    assert training.begun == [0, 3, 6]
    assert training.rates == pytest.approx([0.5 / (step + 1) for step in range(9)])
    logged = [json.loads(line)["step"] for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert logged == [2, 3, 5, 6, 8, 9]
    assert (run.folder / "log.png").stat().st_size > 0


@pytest.mark.parametrize("stop", range(1, 9))
def test_a_run_that_was_interrupted_anywhere_ends_the_same(whole: tuple[Line, Run], tmp_path: Path, stop: int) -> None:
    run = Run.open(tmp_path, resume=False)
    with pytest.raises(KeyboardInterrupt):
        train(Line(stop=stop), run, ALONE)
    resumed = Line()
    train(resumed, Run.open(tmp_path, resume=True), ALONE)
    assert weights(resumed) == weights(whole[0])
    assert resumed.seen == whole[0].seen == sum(range(1, 10))
    assert resumed.begun == sorted({stop, *(k for k in (3, 6) if k > stop)})


def test_a_run_that_is_done_takes_no_step(whole: tuple[Line, Run]) -> None:
    again = Line()
    train(again, whole[1], ALONE)
    assert again.begun == []
    assert weights(again) == weights(whole[0])


def test_a_step_whose_gradient_is_not_finite_is_left_out(tmp_path: Path) -> None:
    training = Line(clip=1.0)
    train(training, Run.open(tmp_path, resume=False), ALONE)
    assert all(math.isfinite(value) for value in weights(training))


def test_a_run_of_other_settings_is_refused(whole: tuple[Line, Run]) -> None:
    with pytest.raises(ConfigError, match="other settings"):
        train(Line(key="curve"), whole[1], ALONE)
