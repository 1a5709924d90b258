"""How slides are to be encoded: everything that is asked for once and holds for every slide of a batch.

    options of a command, arguments of `wsicomp.encode` -> EncodeSettings -> batch -> encode_source, or workers

Settings are checked when they are made, are never changed, and can be pickled, so that workers of a cluster get the
same ones. What they do not do: they open no slide, load no weights, and choose no codec; `target` does that.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Literal, Self, get_args

from wsicomp.errors import ConfigError
from wsicomp.pipeline.floor import Floor
from wsicomp.pipeline.resources import Resources
from wsicomp.slides import SourceSettings

__all__ = ["DEFAULTS", "EncodeSettings", "Existing", "Target", "check_scheduler", "existing_stores"]

Existing = Literal["refuse", "replace", "resume"]
"""What happens to a store that exists: it is an error, is replaced, or is kept if it is whole and this slide's."""


def existing_stores(*, overwrite: bool, resume: bool) -> Existing:
    """Say what happens to a store that exists, by the two options.

    Raises
    ------
    ConfigError
        If both are given.
    """
    if overwrite and resume:
        raise ConfigError("--overwrite and --resume exclude each other: replace stores, or keep complete ones")
    return "replace" if overwrite else "resume" if resume else "refuse"


def check_scheduler(scheduler: str | None, stage: str | os.PathLike[str] | None, source: SourceSettings) -> None:
    """Refuse what the workers of a cluster cannot do: they read slides where they all see them, and mark no damage.

    Raises
    ------
    ConfigError
        If a scheduler is given, and a folder to stage slides in, or damage that is to be marked.
    """
    if scheduler is not None and (stage is not None or source.on_damage == "mark"):
        raise ConfigError("--stage and --on-damage mark are for one machine; leave them out, or --scheduler")


@dataclass(frozen=True)
class Target:
    """What a store shall reach; exactly one of the three.

    Parameters
    ----------
    bits_per_pixel
        Real bits of the whole store for each pixel of the pyramid's base.
    psnr_db
        Mean peak signal-to-noise ratio of tissue tiles, in decibels.
    max_bytes
        Bytes of the whole store, at most.

    Raises
    ------
    ConfigError
        If there is none or more than one, or it is not above 0.
    """

    bits_per_pixel: float | None = None
    psnr_db: float | None = None
    max_bytes: int | None = None

    @classmethod
    def of(cls, bits_per_pixel: float | None, psnr_db: float | None, max_bytes: int | None) -> Self | None:
        """Make the target of options, at most one of which is given; None where none is.

        Raises
        ------
        ConfigError
            If there is more than one, or it is not above 0.
        """
        none = bits_per_pixel is psnr_db is max_bytes is None
        return None if none else cls(bits_per_pixel, psnr_db, max_bytes)

    def __post_init__(self) -> None:
        given = [value for value in (self.bits_per_pixel, self.psnr_db, self.max_bytes) if value is not None]
        if len(given) != 1:
            raise ConfigError("--bits-per-pixel, --psnr and --max-bytes exclude one another; give one")
        if not 0 < given[0] < math.inf:
            raise ConfigError(f"a target of {given[0]:g} cannot be met; give a number above 0")


@dataclass(frozen=True)
class EncodeSettings:
    """What is asked of an encoding.

    Parameters
    ----------
    model
        Name of shipped weights, or path of a weights file.
    depth
        Depth of the latent, 1 (largest) to 4 (smallest); None is 3, or what meets a target best.
    quality
        Quality level of a codec that has such; None is its default, or what meets a target.
    latent_dtype
        Stored type of the latents; None is the codec's own.
    target
        What each store shall reach; it then decides quality and type, and the depth where none is given.
    floor
        What no tile may be below; None takes each tile as the codec makes it.
    source
        How slides are read.
    existing
        What happens to a store that exists.
    zipped
        Whether each store is packed into one file, `NAME.zarr.zip`.
    resources
        What each process may use.
    device
        Name of the device that networks run on, in each process: auto, cpu, cuda.

    Raises
    ------
    ConfigError
        If a setting is out of range, or two exclude each other.
    """

    model: str = "wsic"
    depth: int | None = None
    quality: float | None = None
    latent_dtype: str | None = None
    target: Target | None = None
    floor: Floor | None = None
    source: SourceSettings = field(default_factory=SourceSettings)
    existing: Existing = "refuse"
    zipped: bool = False
    resources: Resources = field(default_factory=Resources)
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.depth is not None and self.depth < 1:
            raise ConfigError(f"a depth of {self.depth} cannot be; give one of 1 (largest) to 4 (smallest)")
        if self.target is not None and (self.quality is not None or self.latent_dtype is not None):
            raise ConfigError(
                "a target decides the quality and the type; leave --quality and --latent-dtype out, or it"
            )
        if self.existing not in get_args(Existing):
            raise ConfigError(f"existing is '{self.existing}', not one of {', '.join(get_args(Existing))}")


DEFAULTS = EncodeSettings()
