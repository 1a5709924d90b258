"""The one training loop; a recipe gives its objective, its batches and what it does between steps.

    batches -> measures -> loss -> gradients, clipped -> optimiser, at the learning rate of the step -> stepped
                            |
                            +-> log, curves, progress; and a checkpoint now and then

A run is a number of stages of equal length, each with an optimiser of its own; most recipes have one stage. A batch is
a function of the recipe and the step, so a run that goes on from a checkpoint ends with the weights of a run that was
never interrupted. Several processes share each batch and average their gradients; the first one writes. What becomes of
the trained weights is the recipe's business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from wsicomp.progress import Progress, silent
from wsicomp.training.checkpoint import Optimiser, load_checkpoint, restore_moments, save_checkpoint
from wsicomp.training.distributed import Processes
from wsicomp.training.run import Run

__all__ = ["Training", "train"]


class Training(ABC):
    """What a recipe gives to the loop.

    Attributes
    ----------
    key
        Settings and data as one string; a checkpoint of another key is refused.
    objective
        The module that is trained, whose forward pass the processes share.
    state
        Everything that a checkpoint holds: the objective, averages of it, and what else must outlast an interruption.
    steps, stage_steps
        Steps in all, and of a stage.
    clip
        Largest norm of the gradient; None leaves gradients as they are.
    log_steps, checkpoint_steps
        Steps between two entries of the log, and between two checkpoints; each stage ends with both.
    """

    key: str
    objective: nn.Module
    state: nn.Module
    steps: int
    stage_steps: int
    clip: float | None = None
    log_steps: int = 50
    checkpoint_steps: int = 500

    @abstractmethod
    def begin(self, step: int) -> Optimiser:
        """Prepare the stage of a step, which may lie within it after an interruption, and return its optimiser."""

    @abstractmethod
    def batches(self, first: int, last: int) -> Iterator[Any]:
        """Give the batches of the steps from `first` to before `last`, all of one stage."""

    @abstractmethod
    def learning_rate(self, step: int) -> float:
        """Give the learning rate of a step."""

    @abstractmethod
    def measures(self, objective: nn.Module, batch: Any, step: int) -> dict[str, Tensor]:
        """Apply the objective to a batch: scalars by name, "loss" among them, which is what falls."""

    def stepped(self, done: int) -> None:  # noqa: B027
        """Do what follows a step; `done` steps are done."""

    @abstractmethod
    def report(self, done: int, measures: dict[str, float]) -> tuple[dict[str, Any], str]:
        """Turn measures into an entry of the log and a few words about the progress."""


def train(training: Training, run: Run, group: Processes, progress: Progress = silent) -> None:
    """Train to the last step, going on from the run's checkpoint where it has one.

    Raises
    ------
    ConfigError
        If the checkpoint belongs to other settings.
    DataError
        If the checkpoint is damaged.
    """
    first = 0
    moments: dict[int, dict[str, Tensor]] = {}
    if run.checkpoint.exists():
        state, moments, position = load_checkpoint(run.checkpoint, recipe=training.key)
        training.state.load_state_dict(state)
        first = position["step"]
    while first < training.steps:
        last = first - first % training.stage_steps + training.stage_steps
        train_stage(training, first, last, moments, run, group, progress)
        first, moments = last, {}


def train_stage(
    training: Training,
    first: int,
    last: int,
    moments: dict[int, dict[str, Tensor]],
    run: Run,
    group: Processes,
    progress: Progress,
) -> None:
    """Train from step `first` to before `last`, the end of a stage."""
    optimizer = training.begin(first)
    if moments:
        restore_moments(optimizer, moments)
    parallel = group.parallel(training.objective)
    trained = [parameter for parameter in training.objective.parameters() if parameter.requires_grad]
    for step, batch in enumerate(training.batches(first, last), first):
        for settings in optimizer.param_groups:
            settings["lr"] = training.learning_rate(step)
        measures = training.measures(parallel, batch, step)
        training.objective.zero_grad(set_to_none=True)
        measures["loss"].backward()  # type: ignore[no-untyped-call]
        # A gradient that is not finite would spoil the weights for good, so its step is left out.
        if training.clip is None or nn.utils.clip_grad_norm_(trained, training.clip).isfinite():
            optimizer.step()
        done = step + 1
        training.stepped(done)
        in_stage = done - (last - training.stage_steps)
        if in_stage % training.log_steps == 0 or done == last:
            entry, note = training.report(done, {name: group.mean(value) for name, value in measures.items()})
            if group.writes:
                progress(done, training.steps, note)
                run.log(**entry)
        if group.writes and (in_stage % training.checkpoint_steps == 0 or done == last):
            save_checkpoint(
                run.checkpoint,
                training.state,
                # The next stage has moments of its own.
                None if done == last else optimizer,
                recipe=training.key,
                position={"step": done},
            )
            run.draw()
