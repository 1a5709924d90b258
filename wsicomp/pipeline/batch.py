"""Many slides into many stores: which store each slide becomes, what is skipped, what failed.

inputs, output -> plan -> [Job(slide, store)] -> for each: probe in a child process -> encode -> Outcome
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsicomp.disk import explain
from wsicomp.errors import ConfigError, SlideError, StoreError, WsicompError
from wsicomp.pipeline.encode import Encoded, encode_source
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.progress import Progress, silent
from wsicomp.slides.probe import probe
from wsicomp.slides.slide import SAME_MPP, Slide
from wsicomp.store.reader import StoreReader
from wsicomp.store.verify import verify

__all__ = ["SLIDE_SUFFIXES", "Job", "Outcome", "SlideSettings", "plan", "run"]

SLIDE_SUFFIXES = frozenset(
    {".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".czi"}
)
"""What is taken for a slide in a folder; a slide that is named itself may end in anything."""


@dataclass(frozen=True)
class Job:
    """One slide and the store that it is to become."""

    slide: Path
    store: Path


@dataclass(frozen=True)
class Outcome:
    """How one job ended; `encoded` is there unless it failed, `error` only then."""

    job: Job
    status: Literal["ok", "skipped", "failed"]
    encoded: Encoded | None = None
    error: WsicompError | None = None


@dataclass(frozen=True)
class SlideSettings:
    """How slides are read; the fields are those of `wsicomp.slides.slide.Slide`."""

    mpp: float | None = None
    tile_size: int = 256
    max_levels: int | None = None
    tissue_only: bool = True
    tissue_threshold: int | None = None

    def open(self, path: Path) -> Slide:
        """Open a slide with these settings.

        Raises
        ------
        SlideError
            If it cannot be opened.
        ConfigError
            If the settings do not fit it.
        """
        threshold = {} if self.tissue_threshold is None else {"tissue_threshold": self.tissue_threshold}
        return Slide(
            path,
            mpp=self.mpp,
            tile_size=self.tile_size,
            max_levels=self.max_levels,
            tissue_only=self.tissue_only,
            **threshold,
        )


def plan(inputs: Sequence[Path], output: Path | None, *, zipped: bool = False) -> list[Job]:
    """Choose the store of each slide.

    Parameters
    ----------
    inputs
        Slides, and folders that stand for the slides directly in them.
    output
        A folder for the stores, made when missing; with one slide also the store itself, if it ends in .zarr or
        .zarr.zip; None puts each store beside its slide.

    Raises
    ------
    ConfigError
        If a folder holds no slide, or two slides would become one store.
    """
    suffix = ".zarr.zip" if zipped else ".zarr"
    slides: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in SLIDE_SUFFIXES and file.is_file())
            if not found:
                raise ConfigError(f"{path}: no slide in this folder; give slides, or a folder with slides in it")
            slides += found
        else:
            slides.append(path)
    if output is not None and output.name.endswith((".zarr", ".zarr.zip")):
        if len(slides) != 1:
            raise ConfigError(f"{output}: names one store, and there are {len(slides)} slides; give a folder")
        if not output.name.endswith(suffix):
            raise ConfigError(f"{output}: a store of this kind ends in {suffix}")
        return [Job(slides[0], output)]
    jobs = [Job(slide, (output or slide.parent) / (slide.stem + suffix)) for slide in slides]
    stores: dict[Path, Path] = {}
    for job in jobs:
        if job.store in stores:
            raise ConfigError(f"{stores[job.store]} and {job.slide}: would both become {job.store}; rename one")
        stores[job.store] = job.slide
    return jobs


def run(
    jobs: Sequence[Job],
    codec: TileCodec,
    settings: SlideSettings,
    *,
    overwrite: bool = False,
    resume: bool = False,
    zipped: bool = False,
    readers: int,
    progress: Callable[[Job], Progress] = lambda job: silent,
    warn: Callable[[str], None] = lambda message: None,
) -> Iterator[Outcome]:
    """Encode slide after slide; what goes wrong with one is in its outcome and touches no other.

    Parameters
    ----------
    overwrite
        Whether a store that exists may be replaced.
    resume
        Whether a complete store of the same settings is skipped; a partial or damaged one is made again.
    progress
        Gives the progress to report on for a job.
    warn
        Told of what a user should know although it is no error.
    """
    for job in jobs:
        try:
            if resume and (done := finished(job, codec, settings)):
                yield Outcome(job, "skipped", done)
                continue
            if job.store.exists() and not (overwrite or resume):
                raise ConfigError(f"{job.store}: exists already; give --overwrite to replace it or --resume to keep it")
            probe(job.slide)
            with settings.open(job.slide) as slide:
                if slide.info.mpp is None:
                    warn(f"{job.slide}: does not say its micrometres per pixel; encoded in pixels")
                job.store.parent.mkdir(parents=True, exist_ok=True)
                encoded = encode_source(
                    slide,
                    job.store,
                    codec,
                    overwrite=overwrite or resume,
                    zipped=zipped,
                    readers=readers,
                    progress=progress(job),
                )
            yield Outcome(job, "ok", encoded)
        except WsicompError as error:
            yield Outcome(job, "failed", error=error)
        except OSError as error:
            yield Outcome(job, "failed", error=StoreError(f"{job.store}: cannot be written: {explain(error)}"))


def finished(job: Job, codec: TileCodec, settings: SlideSettings) -> Encoded | None:
    """Describe a job's store, if it stands there already and every byte of it is sound; None if not.

    Raises
    ------
    ConfigError
        If the store is complete but of other settings.
    """
    try:
        if verify(job.store):
            return None
        with StoreReader(job.store) as reader:
            header, store_bytes = reader.header, reader.store_bytes
    except StoreError:
        return None
    asked = (codec.weights_sha256, codec.depth, codec.quality, codec.latent_dtype, settings.tile_size)
    found = (header.weights_sha256, header.depth, header.quality, header.latent_dtype, header.tile_size)
    differs = found != asked
    if settings.mpp is not None and header.mpp is not None:
        differs |= abs(math.sqrt(math.prod(header.mpp)) / settings.mpp - 1) > SAME_MPP
    if differs:
        raise ConfigError(f"{job.store}: was encoded with other settings; give --overwrite, or another output")
    if not job.slide.exists():
        raise SlideError(f"{job.slide}: there is no such file; check the path")
    base = header.levels[0]
    return Encoded(
        store=job.store,
        depth=header.depth,
        quality=header.quality,
        pixels=base.width_px * base.height_px,
        source_bytes=header.source_bytes,
        store_bytes=store_bytes,
        tiles=header.total_tiles,
        tissue_tiles=header.tissue_tiles,
        seconds=0.0,
    )
