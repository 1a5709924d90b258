"""Entropy tables by their digest, out of weights, so that stores can be read and checked without a network.

    zarr meets the codec `wsicomp.rans` --entry point--> this module --> the codec, which from now on asks here
    digest --> the tables of every depth of the shipped weights, until one matches --> entropy model

`register_tables` adds the tables of weights of one's own. Torch is not loaded.
"""

from __future__ import annotations

from pathlib import Path

from wsicomp.codec.entropy_model import EntropyModel
from wsicomp.codec.zarr_rans import RansCodec, find_models_with, register_model
from wsicomp.errors import ModelError
from wsicomp.models.arrays import load_arrays
from wsicomp.models.shipped import shipped_sums

__all__ = ["RansCodec", "find_tables", "register_tables"]


def find_tables(digest: str) -> EntropyModel | None:
    """Find the entropy model of a digest among the shipped weights; None if none has it.

    Raises
    ------
    ModelError
        If shipped weights are damaged, and the sound ones do not have it.
    """
    damaged: ModelError | None = None
    for name in shipped_sums():
        try:
            found = next((model for model in models_of(name) if model.digest == digest), None)
        except ModelError as error:
            damaged = damaged or error
            continue
        if found is not None:
            return found
    if damaged is not None:
        raise damaged
    return None


def register_tables(weights: str | Path) -> None:
    """Make the entropy tables of weights known to this process.

    Parameters
    ----------
    weights
        Name of shipped weights, or path of a weights file.

    Raises
    ------
    ModelError
        If there are no such weights, or they are damaged.
    """
    for model in models_of(weights):
        register_model(model)


def models_of(weights: str | Path) -> list[EntropyModel]:
    """Entropy models of all depths of weights; ModelError if they are damaged."""
    try:
        return [EntropyModel.from_arrays(arrays) for arrays in load_arrays(weights).values()]
    except ValueError as error:
        raise ModelError(f"{weights}: its entropy tables are damaged; get the file again") from error


find_models_with(find_tables)
