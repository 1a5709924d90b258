"""The Zarr v3 codec `wsicomp.rans`: chunks of integer latents (C, h, w) as rANS streams, bare or inside shards.

    chunk (C, h, w) int8 or int16 -> rans.encode -> one variable-size stream with its own checksum

    {"name": "wsicomp.rans", "configuration": {"tables": "SHA-256 of the entropy model"}}

Entropy models are part of a model's weights, so an array's metadata only names its own by digest, and whoever opens an
array registers the model first: `register_model(EntropyModel.from_arrays(weights))`. The registry is the process's own;
child processes register again. An array whose model is not registered is refused as it is opened.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Self

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import JSON
from zarr.registry import register_codec

from wsicomp.codec import rans
from wsicomp.codec.entropy_model import EntropyModel

__all__ = ["CODEC_NAME", "RansCodec", "register_model", "registered_model"]

CODEC_NAME = "wsicomp.rans"

_DTYPES = (np.dtype(np.int8), np.dtype(np.int16))
_DIGEST = re.compile(r"[0-9a-f]{64}")
_models: dict[str, EntropyModel] = {}


def register_model(model: EntropyModel) -> str:
    """Make an entropy model known to this process and return the digest that arrays name it by."""
    _models[model.digest] = model
    return model.digest


def registered_model(digest: str) -> EntropyModel:
    """Return the entropy model of a digest.

    Raises
    ------
    ValueError
        If no model of that digest has been registered.
    """
    model = _models.get(digest)
    if model is None:
        raise ValueError(f"no entropy model {digest} is registered; load the weights that the array was written with")
    return model


@dataclass(frozen=True)
class RansCodec(ArrayBytesCodec):
    """Array-to-bytes codec of integer latents.

    Parameters
    ----------
    tables
        Digest of a registered entropy model, 64 hexadecimal digits.

    Raises
    ------
    ValueError
        If that is not a digest, or no such model is registered.
    """

    is_fixed_size = False

    tables: str

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.tables):
            raise ValueError(
                f"the tables of codec {CODEC_NAME} are named by 64 hexadecimal digits, not {self.tables!r}"
            )
        registered_model(self.tables)

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """Read the codec's metadata.

        Raises
        ------
        ValueError
            If it is not that of this codec, or its model is not registered.
        """
        configuration = data.get("configuration")
        if data.get("name") != CODEC_NAME or not isinstance(configuration, dict) or set(configuration) != {"tables"}:
            raise ValueError(f"codec {CODEC_NAME} needs a configuration of exactly 'tables'")
        return cls(str(configuration["tables"]))

    def to_dict(self) -> dict[str, JSON]:
        """Return the codec's metadata."""
        return {"name": CODEC_NAME, "configuration": {"tables": self.tables}}

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Self:
        """Refuse arrays that this codec or its model cannot code.

        Raises
        ------
        ValueError
            If chunks are not int8 or int16 (C, h, w), or have other channels than the model.
        """
        dtype, channels = array_spec.dtype.to_native_dtype(), registered_model(self.tables).channels
        if dtype not in _DTYPES or len(array_spec.shape) != 3 or array_spec.shape[0] != channels:
            raise ValueError(
                f"codec {CODEC_NAME} with these tables codes int8 or int16 chunks ({channels}, h, w), "
                f"not {dtype} {array_spec.shape}"
            )
        return self

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: ArraySpec) -> int:
        """Refuse: a stream is as long as its latent needs."""
        raise NotImplementedError(f"codec {CODEC_NAME} is of variable size")

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        channels, height, width = chunk_spec.shape
        dtype = chunk_spec.dtype.to_native_dtype()
        shape = (channels, height, width)
        latent = rans.decode(chunk_bytes.to_bytes(), shape, registered_model(self.tables), dtype=dtype)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(latent)

    def _encode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        stream = rans.encode(chunk_array.as_numpy_array(), registered_model(self.tables))
        return chunk_spec.prototype.buffer.from_bytes(stream)

    # The coder runs without the interpreter's lock, so threads code several tiles at once.
    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)


register_codec(CODEC_NAME, RansCodec)
