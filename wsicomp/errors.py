"""The exceptions of wsicomp and the exit code that each one ends a command with.

    WsicompError (1)
    |-- ConfigError (2)            a setting that cannot be: unknown depth, existing target, mpp on a slide without one
    |-- SlideError (3)             a slide that cannot be opened or read
    |-- StoreError (3)             a latent store that cannot be read or written
    |   |-- StoreIncomplete        no manifest: a run that was killed or is still going on
    |   |-- StoreCorrupt           a file or a tile does not match its checksum
    |   |-- StoreVersion           written by a newer format
    |   `-- StoreTooLarge          more bytes than it was allowed
    |-- ModelError (3)             weights or a model that cannot be loaded
    |   `-- WeightsMismatch        not the weights that a store was encoded with
    |-- LatentError (3)            a coded latent that is damaged, or of other tables; a ValueError too, for zarr
    |-- DataError (3)              labelled patches that cannot be read
    `-- GateMissed (4)             a limit that the evaluation did not keep

A message says what, which path and tile, and what to do; it never quotes a slide's free text.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DataError",
    "GateMissed",
    "LatentError",
    "ModelError",
    "SlideError",
    "StoreCorrupt",
    "StoreError",
    "StoreIncomplete",
    "StoreTooLarge",
    "StoreVersion",
    "WeightsMismatch",
    "WsicompError",
]


class WsicompError(Exception):
    """Base of every error that wsicomp raises on purpose; the message is one line for a person."""

    exit_code = 1


class ConfigError(WsicompError):
    """A setting or a combination of settings that cannot be carried out; nothing has been started."""

    exit_code = 2


class SlideError(WsicompError):
    """A slide that cannot be opened or read."""

    exit_code = 3


class StoreError(WsicompError):
    """A latent store that cannot be read or written."""

    exit_code = 3


class StoreIncomplete(StoreError):
    """A store without its manifest: the run that wrote it did not end."""


class StoreCorrupt(StoreError):
    """A store whose files, metadata or tiles do not match their checksums."""


class StoreVersion(StoreError):
    """A store of a format newer than this program reads."""


class StoreTooLarge(StoreError):
    """A store that would have more bytes than it may; it has not been put in place.

    Parameters
    ----------
    message
        One line for a person.
    made_bytes
        What it would have.
    """

    def __init__(self, message: str, made_bytes: int = 0) -> None:
        super().__init__(message)
        self.made_bytes = made_bytes


class ModelError(WsicompError):
    """A model or its weights cannot be loaded."""

    exit_code = 3


class WeightsMismatch(ModelError):
    """The weights at hand are not those that a store was encoded with."""


class LatentError(WsicompError, ValueError):
    """A coded latent is damaged or was made with other tables; whoever knows its tile names it."""

    exit_code = 3


class DataError(WsicompError):
    """Labelled patches that cannot be read, or that a task cannot use."""

    exit_code = 3


class GateMissed(WsicompError):
    """A limit set for a pipeline was not kept."""

    exit_code = 4
