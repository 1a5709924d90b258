"""Encodes patches into a real store on disk and decodes them again, so that bytes are counted and not computed.

    patches -> PatchSheet -> encode_source -> latent store in a temporary folder -> reader -> decoder -> x_hat, bytes

The store is deleted afterwards. This module does NOT score what came back: `study` does.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsicomp.datasets.sheet import PatchSheet
from wsicomp.evaluation.study import Reconstruction
from wsicomp.pipeline.encode import encode_source
from wsicomp.pipeline.floor import Floor
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.view import read_tiles
from wsicomp.progress import Progress, silent
from wsicomp.store.reader import StoreReader

__all__ = ["reconstruct"]


def reconstruct(
    name: str,
    patches: NDArray[np.uint8],
    codec: TileCodec,
    *,
    floor: Floor | None = None,
    progress: Progress = silent,
) -> Reconstruction:
    """Encode patches into a store, weigh it, and decode it again.

    Parameters
    ----------
    name
        How messages call the patches.
    patches
        (N, S, S, 3) uint8.
    floor
        What no patch may be below; None takes each as the codec makes it.

    Returns
    -------
    Reconstruction
        Its bytes are those of the whole store: chunks, index, metadata and manifest. A codec that keeps floats is
        called by its key and their type.

    Raises
    ------
    DataError
        If the patches are not square.
    """
    sheet = PatchSheet(name, patches)
    with tempfile.TemporaryDirectory(prefix="wsicomp-") as folder:
        store = Path(folder) / "patches.zarr"
        encoded = encode_source(sheet, store, codec, EncodeSettings(floor=floor), progress=progress)
        x_hat = np.empty_like(patches)
        size = patches.shape[1]
        with StoreReader(store) as reader:
            for start in range(0, len(patches), codec.batch_size):
                places = range(start, min(start + codec.batch_size, len(patches)))
                decoded = read_tiles(reader, codec, 0, [divmod(index, sheet.cols) for index in places])
                x_hat[start : places.stop] = [tile[:size, :size] for tile in decoded if tile is not None]
    return Reconstruction(
        codec=codec.key if codec.latent_dtype in ("int8", "int16") else f"{codec.key} {codec.latent_dtype}",
        depth=codec.depth,
        quality=codec.quality,
        latent_elements=codec.latent_elements(sheet.tile_size),
        bytes=encoded.store_bytes,
        x_hat=x_hat,
    )
