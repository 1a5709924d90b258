"""How a tile's latent becomes bytes inside its shard, as the header says.

    entropy None      little-endian bytes -> zstd -> crc32c
    entropy DIGEST    rANS stream of `wsicomp.rans`, with a checksum of its own

An entropy model is part of a codec's weights and not of the store, which only names its digest. So whoever loads the
weights calls `wsicomp.codec.zarr_rans.register_model` before latents are read or written. The coder's machine code is
loaded only for a store that needs it. Nothing is coded here; zarr does that.
"""

from __future__ import annotations

from typing import Any

import zarr
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

from wsicomp.errors import StoreError
from wsicomp.store.schema import StoreHeader

__all__ = ["ZSTD_LEVEL", "check_model", "coding", "has_model", "is_coded", "zstd"]

ZSTD_LEVEL = 15
"""Measured on int8 latents of the study's encoder, untrained, at depths 1, 2, 3, 4: 7, 5, 3, 2 % smaller than level 3,
at 120, 190, 580, 1,150 tiles/s per core; level 19 saves no more and takes two to four times as long."""


def zstd() -> list[BytesBytesCodec]:
    """Make the compressors of all that is not entropy-coded: zstd, then a checksum."""
    return [ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()]


def coding(header: StoreHeader) -> dict[str, Any]:
    """Choose serializer and compressors of new latents, as `create_array` takes them.

    Raises
    ------
    ValueError
        If the header's entropy model is not registered.
    """
    if header.entropy is None:
        return {"compressors": zstd()}
    from wsicomp.codec.zarr_rans import RansCodec

    return {"serializer": RansCodec(tables=header.entropy), "compressors": None}


def is_coded(array: zarr.Array[Any], header: StoreHeader) -> bool:
    """Tell whether an array's latents are coded as the header says."""
    if header.entropy is None:
        return isinstance(array.serializer, BytesCodec)
    from wsicomp.codec.zarr_rans import RansCodec

    return array.serializer == RansCodec(tables=header.entropy)


def has_model(header: StoreHeader) -> bool:
    """Tell whether this process can code the latents: they need no entropy model, or theirs is registered."""
    if header.entropy is None:
        return True
    from wsicomp.codec.zarr_rans import registered_model

    try:
        registered_model(header.entropy)
    except ValueError:
        return False
    return True


def check_model(header: StoreHeader, store: str) -> None:
    """Refuse latents whose entropy model is not at hand; `store` is how the message calls the store.

    Raises
    ------
    StoreError
        If the header's entropy model is not registered.
    """
    if not has_model(header):
        raise StoreError(
            f"{store}: its latents are coded with entropy model {header.entropy}, which is not loaded; "
            f"give the weights of {header.model} that it was encoded with (--model)"
        )
