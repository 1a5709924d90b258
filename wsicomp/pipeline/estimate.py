"""What encoding would do, without doing it: which store each slide would become, in about how many bytes and seconds.

    slide -> its mask, and a few tissue tiles of every level -> a small store of these, in a temporary folder
          -> bytes and seconds of a tile, times the tiles

What this does not do: it writes nothing where stores are to stand, and it holds no promise: a slide's other tiles may
cost more or less.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from wsicomp.datasets.sheet import PatchSheet
from wsicomp.errors import ConfigError, WsicompError
from wsicomp.pipeline.batch import Job
from wsicomp.pipeline.encode import encode_source
from wsicomp.pipeline.fidelity import sample_places
from wsicomp.pipeline.resume import kept
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.target import CodecChoice, fixed_bytes
from wsicomp.slides import open_source

__all__ = ["Estimate", "estimates"]

SAMPLE_TILES = 16


@dataclass(frozen=True)
class Estimate:
    """What would become of one job.

    Parameters
    ----------
    action
        Whether its store would be made, replaced or kept, or the job would fail.
    depth, quality
        The codec's setting; None where the job would fail.
    tiles, tissue_tiles
        Tiles of all levels, and those that would be coded.
    store_bytes
        Bytes of the store, about; exact for one that is kept.
    seconds
        Seconds of the encoding, about, in this process.
    error
        Why the job would fail.
    """

    job: Job
    action: Literal["make", "replace", "keep", "fail"]
    depth: int | None = None
    quality: float | None = None
    tiles: int | None = None
    tissue_tiles: int | None = None
    store_bytes: int | None = None
    seconds: float | None = None
    error: WsicompError | None = None


def estimates(jobs: Sequence[Job], settings: EncodeSettings, choice: CodecChoice) -> Iterator[Estimate]:
    """Estimate job after job; what would go wrong with one is in its estimate.

    Parameters
    ----------
    jobs, settings, choice
        As `wsicomp.pipeline.batch.run` takes them.
    """
    for job in jobs:
        own = settings
        if job.mpp is not None:
            own = replace(settings, source=replace(settings.source, mpp=job.mpp))
        try:
            yield estimate(job, own, choice)
        except WsicompError as error:
            yield Estimate(job, "fail", error=error)


def estimate(job: Job, settings: EncodeSettings, choice: CodecChoice) -> Estimate:
    """Estimate one job.

    Raises
    ------
    WsicompError
        If it would fail.
    """
    exists = job.store.exists()
    if settings.existing == "refuse" and exists:
        raise ConfigError(f"{job.store}: exists already; give --overwrite to replace it or --resume to keep it")
    if settings.existing == "resume" and (done := kept(job.slide, job.store, settings, choice)):
        return Estimate(
            job, "keep", done.depth, done.quality, done.tiles, done.tissue_tiles, done.store_bytes, done.seconds
        )
    with open_source(job.slide, settings.source) as source:
        masks = source.tissue().tiles
        codec = choice.codec_for(source)
        codec.check_tile_size(source.tile_size)
        tissue = sum(int(mask.sum()) for mask in masks)
        places = sample_places(masks, SAMPLE_TILES)
        tile_bytes, tile_seconds = 0.0, 0.0
        if places:
            started = time.monotonic()
            tiles = np.stack([source.read_tile(*place) for place in places])
            read_seconds = (time.monotonic() - started) / settings.resources.readers
            codec.encode(tiles[:1])  # what is done once in a process takes no tile's time
            sheet = PatchSheet("sample", tiles)
            with tempfile.TemporaryDirectory(prefix="wsicomp-") as folder:
                alone = replace(settings, existing="refuse", zipped=False, target=None)
                made = encode_source(sheet, Path(folder) / "sample.zarr", codec, alone)
            tile_bytes = max(made.store_bytes - fixed_bytes(sheet), 0) / len(places)
            tile_seconds = max(read_seconds, made.seconds) / len(places)
        return Estimate(
            job,
            "replace" if exists else "make",
            codec.depth,
            codec.quality,
            sum(mask.size for mask in masks),
            tissue,
            round(fixed_bytes(source) + tissue * tile_bytes),
            tissue * tile_seconds,
        )
