"""Encodes many slides into many stores: chooses each store, skips what is done, and reports what failed.

    inputs, output -> plan -> [Job(slide, store)] -> for each: open_source -> encode_within -> Outcome

`slide_list` makes the jobs of a CSV file instead, `part` takes one machine's part of them, and `status` writes down how
they end. What this does not do: it reads no tile in this process, because `open_source` reads in another one, so that a
damaged slide fails alone; and it retries no slide that failed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from wsicomp.disk import explain
from wsicomp.errors import ConfigError, StoreError, StoreTooLarge, TargetMissed, WsicompError
from wsicomp.pipeline.encode import Engine, encode_source
from wsicomp.pipeline.encoded import Encoded
from wsicomp.pipeline.fidelity import SampledSource, measured
from wsicomp.pipeline.inputs import slides_in
from wsicomp.pipeline.resume import kept
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.staging import Stage
from wsicomp.pipeline.target import CodecChoice
from wsicomp.progress import Progress, silent
from wsicomp.slides import open_source
from wsicomp.slides.source import TileSource
from wsicomp.store.place import check_place

__all__ = [
    "Job",
    "Outcome",
    "check_stores",
    "encode_within",
    "plan",
    "run",
    "store_suffix",
]

LIMIT_TRIES = 4
"""A slide is encoded so many times at most to come under a limit of bytes."""


@dataclass(frozen=True)
class Job:
    """Names one slide, the store that it is to become, and `mpp` where it is encoded at a resolution of its own."""

    slide: Path
    store: Path
    mpp: float | None = None


@dataclass(frozen=True)
class Outcome:
    """Says how one job ended; `encoded` is there unless it failed, `error` only then."""

    job: Job
    status: Literal["ok", "skipped", "failed"]
    encoded: Encoded | None = None
    error: WsicompError | None = None


def plan(inputs: Sequence[Path], output: Path | None, *, recursive: bool = False, zipped: bool = False) -> list[Job]:
    """Choose the store of each slide.

    Parameters
    ----------
    inputs
        Slides and pictures, and folders that stand for those in them.
    output
        A folder for the stores, made when missing; with one slide also the store itself, if it ends in .zarr or
        .zarr.zip; None puts each store beside its slide.
    recursive
        Whether slides are looked for in folders of folders too. Stores then lie in the same folders of the output.

    Raises
    ------
    ConfigError
        If a folder holds no slide, or a store cannot stand where it would; see `check_stores`.
    """
    suffix = store_suffix(zipped)
    slides: list[tuple[Path, Path]] = []  # each slide, and its folder below the input that it was found in
    for path in inputs:
        if path.is_dir():
            slides += [(slide, slide.parent.relative_to(path)) for slide in slides_in(path, recursive=recursive)]
        else:
            slides.append((path, Path()))
    if output is not None and output.name.endswith((".zarr", ".zarr.zip")):
        if len(slides) != 1:
            raise ConfigError(f"{output}: names one store, and there are {len(slides)} slides; give a folder")
        if not output.name.endswith(suffix):
            raise ConfigError(f"{output}: a store of this kind ends in {suffix}")
        jobs = [Job(slides[0][0], output)]
    else:
        jobs = [
            Job(slide, (slide.parent if output is None else output / below) / (slide.stem + suffix))
            for slide, below in slides
        ]
    check_stores(jobs)
    return jobs


def store_suffix(zipped: bool) -> str:
    """Return how the name of a store ends."""
    return ".zarr.zip" if zipped else ".zarr"


def check_stores(jobs: Sequence[Job]) -> None:
    """Refuse jobs whose stores would overwrite or damage one another, or a store that exists.

    Links are followed; letters of either case are told apart.

    Raises
    ------
    ConfigError
        If two jobs have one store, a store lies inside another, or a folder for it is a file; the message names them.
    """
    slides: dict[Path, Path] = {}
    for job in jobs:
        store = Path(os.path.realpath(job.store))
        if store in slides:
            raise ConfigError(f"{slides[store]} and {job.slide}: would both become {job.store}; rename one")
        slides[store] = job.slide
    for job in {job.store.parent: job for job in jobs}.values():
        check_place(job.store)
    for store, slide in slides.items():
        if outer := next((above for above in store.parents if above in slides), None):
            raise ConfigError(f"{slide}: its store {store} lies inside the store {outer}; choose a folder outside it")


def run(
    jobs: Sequence[Job],
    settings: EncodeSettings,
    choice: CodecChoice,
    *,
    stage: Stage | None = None,
    engine: Callable[[Job, EncodeSettings], Engine | None] = lambda job, settings: None,
    started: Callable[[Job], None] = lambda job: None,
    progress: Callable[[Job], Progress] = lambda job: silent,
    warn: Callable[[str], None] = lambda message: None,
) -> Iterator[Outcome]:
    """Encode slide after slide; what goes wrong with one is in its outcome and touches no other.

    Parameters
    ----------
    settings
        What is asked. Where stores are kept ("resume"), a complete one of the same settings is skipped, and a partial
        or damaged one is made again.
    choice
        Gives each slide its codec, as the settings ask for it.
    stage
        Copies slides to where they are read from; None reads them where they are.
    engine
        Gives what encodes a job's slide in place of this process; None is this process.
    started
        Is told of each job when its turn comes.
    progress
        Gives the progress to report on for a job.
    warn
        Is told of what a user should know although it is no error.
    """
    resume = settings.existing == "resume"
    for job, following in itertools.zip_longest(jobs, jobs[1:]):
        started(job)
        own = settings
        if job.mpp is not None:
            own = replace(settings, source=replace(settings.source, mpp=job.mpp))
        try:
            if resume and (done := kept(job.slide, job.store, own, choice)):
                for message in done.warnings:
                    warn(f"{job.slide}: {message}")
                yield Outcome(job, "skipped", done)
                continue
            if settings.existing == "refuse" and job.store.exists():
                raise ConfigError(f"{job.store}: exists already; give --overwrite to replace it or --resume to keep it")
            with contextlib.ExitStack() as stack:
                path = job.slide
                if stage is not None:
                    path = stack.enter_context(stage.local(job.slide))
                    if following is not None and not (resume and following.store.exists()):
                        stage.ahead(following.slide)
                slide = stack.enter_context(open_source(path, own.source))
                encoded = encode_within(slide, job.store, own, choice, engine=engine(job, own), progress=progress(job))
            for message in encoded.warnings:
                warn(f"{job.slide}: {message}")
            yield Outcome(job, "ok", encoded)
        except WsicompError as error:
            yield Outcome(job, "failed", error=error)
        except OSError as error:
            yield Outcome(job, "failed", error=StoreError(f"{job.store}: cannot be written: {explain(error)}"))


def encode_within(
    slide: TileSource,
    store: Path,
    settings: EncodeSettings,
    choice: CodecChoice,
    *,
    engine: Engine | None = None,
    progress: Progress = silent,
) -> Encoded:
    """Encode a slide with the codec chosen for it, again and smaller where the store is larger than its limit.

    A sample of the store's tiles is then compared with the slide's.

    Raises
    ------
    StoreTooLarge
        If the store still is too large after `LIMIT_TRIES` tries.
    """
    sampled = SampledSource(slide, slide.tissue())
    too_large: StoreTooLarge | None = None
    for _ in range(LIMIT_TRIES):
        try:
            codec = choice.codec_for(slide)
        except TargetMissed:
            if too_large is None:
                raise
            break
        try:
            encoded = encode_source(sampled, store, codec, settings, engine=engine, progress=progress)
            started = time.monotonic()
            fidelity = measured(sampled, store, codec)
            return replace(
                encoded,
                seconds=encoded.seconds + time.monotonic() - started,
                fidelity=fidelity,
                warnings=(*encoded.warnings, *(() if fidelity is None else fidelity.doubts(codec))),
            )
        except StoreTooLarge as error:
            too_large = error
            choice = choice.tighter(error.made_bytes)
    raise too_large or AssertionError("no try was made")
