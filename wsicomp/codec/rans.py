"""Codes the integer latent of one tile into one stream of bytes, and decodes it.

    latent (C, h, w) -> class, spans by table -> rANS, two states -> class | states | words -> | <- escapes | CRC32C

A stream stands alone: it can be decoded without any other, given the latent's shape and the entropy model it was coded
with. Every int16 value can be coded: what the tables do not cover is escaped and costs some three bytes. A stream has
13 bytes of overhead, and no lengths: words are read from the front, escapes from the back, and the two must meet.

Damage is found by the checksum, before anything is decoded. Should it pass, the decoder still never reads outside the
stream, never runs longer than the latent has symbols, and refuses a stream that does not end where it must. Nothing
here names the tile: whoever knows it adds it to the error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicomp.codec.entropy_model import EntropyModel
from wsicomp.codec.kernels import MAGNITUDES, decode_latent, find_spans, push_spans
from wsicomp.codec.scales import as_int16
from wsicomp.codec.sealed import CHECKSUM_BYTES, seal, unseal
from wsicomp.errors import LatentError

__all__ = ["decode", "encode"]

CLASS_BYTES = 1
STATE_BYTES = 8
ESCAPE_BYTES = 3  # of one value, at most


def encode(latent: NDArray[np.integer[Any]], model: EntropyModel) -> bytes:
    """Code a latent as one stream.

    Parameters
    ----------
    latent
        (C, h, w) integers within int16.
    model
        Of the same number of channels.

    Raises
    ------
    ValueError
        If the latent is not that.
    """
    values = as_int16(latent)
    _check_channels(values.shape, model)
    coded = np.empty(values.size, np.uint32)
    escapes = np.empty(values.size * ESCAPE_BYTES, np.uint8)
    tables, tile_class = model.tables, model.classify(values)
    chosen = model.scales.tables(values, tile_class)
    escaped = find_spans(values, model.scales.plan, chosen, tables.spans, tables.lowest, tables.sizes, coded, escapes)
    stream = np.empty(2 * values.size + STATE_BYTES, np.uint8)
    start = push_spans(coded, tables.bits, stream)
    return seal(bytes([tile_class]) + stream[start:].tobytes() + escapes[:escaped][::-1].tobytes())


def decode(
    data: bytes, shape: tuple[int, int, int], model: EntropyModel, *, dtype: np.dtype[Any] | type = np.int16
) -> NDArray[Any]:
    """Decode a stream to the latent it was made of.

    Parameters
    ----------
    data
        The whole stream.
    shape
        (C, h, w) of the latent.
    model
        The entropy model that it was coded with.
    dtype
        Type of the result: int16, or int8.

    Raises
    ------
    LatentError
        If the stream is damaged, is one of another shape or model, or holds values that `dtype` does not.
    ValueError
        If the shape is not of the model's channels.
    """
    _check_channels(shape, model)
    if len(data) < CLASS_BYTES + STATE_BYTES + CHECKSUM_BYTES:
        raise LatentError(f"a coded latent of {len(data)} bytes is cut short")
    body = unseal(data)
    tile_class = body[0]
    if tile_class >= model.scales.classes:
        raise LatentError(f"a coded latent is of class {tile_class}, which its entropy model does not have")
    coded = np.frombuffer(body, np.uint8)[CLASS_BYTES:]
    stream = np.zeros(len(coded) + 2 * shape[0] + 2, np.uint8)
    stream[: len(coded)] = coded
    latent = np.empty(shape, np.int16)
    tables = model.tables
    damaged = decode_latent(
        stream,
        len(coded),
        *model.scales.network,
        MAGNITUDES,
        tile_class,
        tables.spans,
        tables.lookup,
        tables.lowest,
        tables.sizes,
        tables.bits,
        latent,
    )
    if damaged:
        raise LatentError("a coded latent was made with other tables, or is of another shape")
    wanted = np.dtype(dtype)
    if wanted == np.int16:
        return latent
    limits = np.iinfo(wanted)
    if latent.size and (int(latent.min()) < limits.min or int(latent.max()) > limits.max):
        raise LatentError(f"a coded latent holds values outside {wanted}")
    return latent.astype(wanted)


def _check_channels(shape: tuple[int, ...], model: EntropyModel) -> None:
    if shape[0] != model.channels:
        raise ValueError(f"a latent of {shape[0]} channels for an entropy model of {model.channels}")
