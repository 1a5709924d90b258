"""The exceptions of wsicomp, and the one rule that gives every command its exit code.

    0         done
    1         crash: a defect of the program, or nobody reads its standard output any more
    2         another command line mends it: an option or a value that is unknown; settings that exclude one another or
              do not fit the slide; an output that exists already or cannot stand there
    3         an input or an output is at fault: a file, or weights, that are missing, unreadable, damaged or of another
              kind; a disk that refuses; in a batch with --skip-errors, any slide that failed
    4         a promise was not kept: a gate of `evaluate`, a target of `encode` that the slide cannot reach
    130, 143  ended by SIGINT or SIGTERM

    WsicompError (1)
    |-- ConfigError (2)            a setting that cannot be: unknown depth, existing output, mpp on a slide without one
    |-- SlideError (3)             a slide that cannot be opened or read
    |   `-- SlideDamaged           one place of an open slide that cannot be read
    |-- StoreError (3)             a latent store, or a file beside it, that cannot be read or written
    |   |-- StoreIncomplete        no manifest: a run that was killed or is still going on
    |   |-- StoreCorrupt           a file or a tile does not match its checksum
    |   `-- StoreVersion           written by a newer format
    |-- ModelError (3)             weights or a model that cannot be loaded
    |   `-- WeightsMismatch        not the weights that a store was encoded with
    |-- LatentError (3)            a coded latent that is damaged, or of other tables; a ValueError too, for zarr
    |-- DataError (3)              labelled patches, or a list of slides, that cannot be read
    `-- TargetMissed (4)           no setting of the codec meets the target on this slide; nothing was written
        `-- StoreTooLarge          more bytes than --max-bytes allows

A message says what, which path and tile, and what to do; it never quotes a slide's free text.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DataError",
    "LatentError",
    "ModelError",
    "SlideDamaged",
    "SlideError",
    "StoreCorrupt",
    "StoreError",
    "StoreIncomplete",
    "StoreTooLarge",
    "StoreVersion",
    "TargetMissed",
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


class SlideDamaged(SlideError):
    """A place of an open slide that cannot be read; other places may be sound."""


class StoreError(WsicompError):
    """A latent store, or a file beside it, that cannot be read or written."""

    exit_code = 3


class StoreIncomplete(StoreError):
    """A store without its manifest: the run that wrote it did not end."""


class StoreCorrupt(StoreError):
    """A store whose files, metadata or tiles do not match their checksums."""


class StoreVersion(StoreError):
    """A store of a format newer than this program reads."""


class ModelError(WsicompError):
    """A model or its weights cannot be loaded."""

    exit_code = 3


class WeightsMismatch(ModelError):
    """The weights at hand are not those that a store was encoded with."""


class LatentError(WsicompError, ValueError):
    """A coded latent is damaged or was made with other tables; whoever knows its tile names it."""

    exit_code = 3


class DataError(WsicompError):
    """Labelled patches or a list of slides that cannot be read, or that a task cannot use."""

    exit_code = 3


class TargetMissed(WsicompError):
    """No setting of the codec meets the target on this slide; nothing has been written."""

    exit_code = 4


class StoreTooLarge(TargetMissed):
    """A store has more bytes than it may have; it has not been put in place.

    Parameters
    ----------
    message
        One line for a person.
    made_bytes
        Bytes that the store would have.
    """

    def __init__(self, message: str, made_bytes: int = 0) -> None:
        super().__init__(message)
        self.made_bytes = made_bytes
