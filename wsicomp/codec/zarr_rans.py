"""The Zarr v3 codec `wsicomp.rans`: chunks of integer latents (C, h, w) as rANS streams, bare or inside shards.

    chunk (C, h, w) int8 or int16 -> rans.encode -> one variable-size stream with its own checksum

    {"name": "wsicomp.rans", "configuration": {"tables": "SHA-256 of the entropy model"}}

Entropy models are part of a model's weights, so an array's metadata only names its own by digest. A process knows the
models that were given to `register_model`, and those that a finder finds by their digest: `wsicomp.pipeline.tables`, by
which zarr finds this codec, looks among the weights that come with the package. An array opens without its model, so
that its shape and its place in a group can be seen; reading or writing a chunk of it needs the model.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import JSON
from zarr.registry import register_codec

from wsicomp.codec import rans
from wsicomp.codec.entropy_model import EntropyModel

__all__ = ["CODEC_NAME", "RansCodec", "code_ahead", "find_models_with", "register_model", "registered_model"]

CODEC_NAME = "wsicomp.rans"

AHEAD = 1024
"""Streams kept for chunks that are not yet written: those of four shards."""

_DTYPES = (np.dtype(np.int8), np.dtype(np.int16))
_DIGEST = re.compile(r"[0-9a-f]{64}")
_models: dict[str, EntropyModel] = {}
_finders: list[Callable[[str], EntropyModel | None]] = []


def register_model(model: EntropyModel) -> str:
    """Make an entropy model known to this process and return the digest that arrays name it by."""
    _models[model.digest] = model
    return model.digest


def find_models_with(finder: Callable[[str], EntropyModel | None]) -> None:
    """Ask a function for every entropy model that is not registered: digest to model, or to None if it has none."""
    _finders.append(finder)


def registered_model(digest: str) -> EntropyModel:
    """Return the entropy model of a digest.

    Raises
    ------
    ValueError
        If no model of that digest has been registered or can be found.
    """
    if digest not in _models:
        for model in (finder(digest) for finder in _finders):
            if model is not None:
                register_model(model)
    if digest not in _models:
        raise ValueError(
            f"latents are coded with entropy tables {digest}, which are not in the weights that come with wsicomp; the "
            "attribute 'weights_sha256' of the store names the weights: give their file to "
            "wsicomp.pipeline.tables.register_tables"
        )
    return _models[digest]


class _Ahead:
    """Streams of chunks that are to be written, by tables, type, shape and content; the oldest give way."""

    def __init__(self) -> None:
        self._streams: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._lock = Lock()

    def put(self, latent: NDArray[np.integer[Any]], tables: str, stream: bytes) -> None:
        with self._lock:
            self._streams[self._key(latent, tables)] = stream
            while len(self._streams) > AHEAD:
                self._streams.popitem(last=False)

    def take(self, latent: NDArray[np.integer[Any]], tables: str) -> bytes | None:
        if not self._streams:
            return None
        with self._lock:
            return self._streams.pop(self._key(latent, tables), None)

    @staticmethod
    def _key(latent: NDArray[np.integer[Any]], tables: str) -> tuple[object, ...]:
        return tables, latent.dtype.str, latent.shape, hashlib.sha256(latent.tobytes()).digest()


_ahead = _Ahead()


def code_ahead(latent: NDArray[np.integer[Any]], tables: str) -> bytes:
    """Code a latent before its chunk is written, which then takes this stream instead of coding it again.

    Parameters
    ----------
    latent
        (C, h, w) int8 or int16, exactly the chunk that will be written.
    tables
        Digest of the entropy model.

    Raises
    ------
    ValueError
        If the model is not at hand, or is for other channels.
    """
    stream = rans.encode(latent, registered_model(tables))
    _ahead.put(latent, tables, stream)
    return stream


@dataclass(frozen=True)
class RansCodec(ArrayBytesCodec):
    """Array-to-bytes codec of integer latents.

    Parameters
    ----------
    tables
        Digest of an entropy model, 64 hexadecimal digits.

    Raises
    ------
    ValueError
        If that is not a digest.
    """

    is_fixed_size = False

    tables: str

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.tables):
            raise ValueError(
                f"the tables of codec {CODEC_NAME} are named by 64 hexadecimal digits, not {self.tables!r}"
            )

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """Read the codec's metadata.

        Raises
        ------
        ValueError
            If it is not that of this codec.
        """
        configuration = data.get("configuration")
        if data.get("name") != CODEC_NAME or not isinstance(configuration, dict) or set(configuration) != {"tables"}:
            raise ValueError(f"codec {CODEC_NAME} needs a configuration of exactly 'tables'")
        return cls(str(configuration["tables"]))

    def to_dict(self) -> dict[str, JSON]:
        """Return the codec's metadata."""
        return {"name": CODEC_NAME, "configuration": {"tables": self.tables}}

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Self:
        """Refuse arrays that this codec, or its model where that is registered, cannot code.

        Raises
        ------
        ValueError
            If chunks are not int8 or int16 (C, h, w), or have other channels than the model.
        """
        dtype, model = array_spec.dtype.to_native_dtype(), _models.get(self.tables)
        channels = "C" if model is None else model.channels
        if dtype not in _DTYPES or len(array_spec.shape) != 3 or channels not in ("C", array_spec.shape[0]):
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
        latent = chunk_array.as_numpy_array()
        stream = _ahead.take(latent, self.tables) or rans.encode(latent, registered_model(self.tables))
        return chunk_spec.prototype.buffer.from_bytes(stream)

    # The coder runs without the interpreter's lock, so threads code several tiles at once.
    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)


register_codec(CODEC_NAME, RansCodec)
