"""Classical codecs to compare with, by imagecodecs: a stream of its own for every tile, and what each stream costs.

    tile (S, S, 3) uint8 -> encode -> bytes -> decode -> (S, S, 3) uint8, one tile after the other, on one thread

A peer has no index: where its streams lie in a file is not counted, and nothing is added for it. Stores of wsicomp are
weighed whole, with 16 bytes of index per tile, checksums and metadata.

JPEG is counted as slides keep it: abbreviated streams, whose quantisation and Huffman tables (the Annex K ones) stand
once for the whole set, as in the JPEGTables of a TIFF (ITU-T T.81, B.5; TIFF Technical Note 2). The JFIF header, which
says nothing of the pixels, is dropped. One JPEG per tile would carry some 600 bytes of them and flatter every other
codec. What is decoded here is the abbreviated stream with the shared tables.

AVIF wraps each tile into some 270 bytes of boxes, and WebP into 20, nearly the same for every tile. Real files have
them, so they are counted; `payload_bytes` is what is left without them, for a reader who would share them too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import imagecodecs
import numpy as np
from numpy.typing import NDArray

__all__ = ["Codec", "Coded", "ImageCodec", "JpegCodec", "classical_codecs", "split_jpeg", "transcoded_bytes"]

JPEG_QUALITIES = (3, 5, 8, 12, 20, 35, 50, 70)
JPEG2000_PSNR_DB = (20, 22, 24, 26, 28, 30, 32, 34, 37, 40)
JPEG_XL_DISTANCES = (1, 1.5, 2, 3, 4.5, 6, 9, 12, 17, 21, 25)
"""Beyond 20 the encoder halves the picture first, which pays at the lowest rates; 25 is its largest."""
AVIF_QUALITIES = (2, 10, 18, 25, 33, 40, 50, 60, 68)
WEBP_QUALITIES = (0, 3, 10, 25, 50, 70, 85)

SOI, EOI, SOS = b"\xff\xd8", b"\xff\xd9", 0xDA
TABLES = (0xDB, 0xC4)
"""DQT and DHT."""
APPLICATION = range(0xE0, 0xF0)
WEBP_WRAPPING = 20
"""RIFF header and the header of its one chunk."""


@dataclass(frozen=True)
class Coded:
    """What one codec at one setting made of all tiles of a set.

    Parameters
    ----------
    bytes
        Size of all tiles together, with everything that the codec's module counts; a fraction only where a model
        estimates its own rate.
    x_hat
        (N, S, S, 3) uint8.
    encode_s, decode_s
        Seconds of CPU time of this process, on one thread of computation.
    payload_bytes
        Bytes without the wrapping that every tile, or a store, has whatever it shows; None where there is none.
    encode_macs, decode_macs
        Multiply-accumulates of the network per pixel; None without a network.
    """

    bytes: float
    x_hat: NDArray[np.uint8]
    encode_s: float
    decode_s: float
    payload_bytes: int | None = None
    encode_macs: float | None = None
    decode_macs: float | None = None


class Codec(Protocol):
    """One codec at one setting; small enough to be sent to another process."""

    @property
    def name(self) -> str:
        """Name of the series."""

    @property
    def setting(self) -> str:
        """What is set, such as "quality 50"."""

    def run(self, tiles: NDArray[np.uint8]) -> Coded:
        """Encode and decode every tile."""


@dataclass(frozen=True)
class JpegCodec:
    """JPEG with shared tables.

    Parameters
    ----------
    subsampling
        How the colours are subsampled, "420" or "444".
    """

    subsampling: str
    quality: int

    @property
    def name(self) -> str:
        """Name of the series."""
        return f"jpeg-{self.subsampling}"

    @property
    def setting(self) -> str:
        """What is set."""
        return f"quality {self.quality}"

    def run(self, tiles: NDArray[np.uint8]) -> Coded:
        """Encode to abbreviated streams and decode them with the tables of the first.

        Raises
        ------
        ValueError
            If tiles have tables of their own, so that they cannot be shared.
        """
        started = time.process_time()
        whole = [jpeg(tile, self.quality, self.subsampling) for tile in tiles]
        between = time.process_time()
        streams, tables = zip(*map(split_jpeg, whole), strict=True)
        if len(set(tables)) > 1:
            raise ValueError(f"{self.name}, {self.setting}: tiles have tables of their own; they cannot be shared")
        resumed = time.process_time()
        x_hat = np.stack([imagecodecs.jpeg8_decode(stream, tables=tables[0]) for stream in streams])
        ended = time.process_time()
        return Coded(sum(map(len, streams)) + len(tables[0]), x_hat, between - started, ended - resumed)


def jpeg(tile: NDArray[np.uint8], quality: int, subsampling: str) -> bytes:
    """Encode a tile as a baseline JPEG with the tables of T.81's Annex K."""
    return bytes(imagecodecs.jpeg8_encode(tile, level=quality, subsampling=subsampling))


def split_jpeg(stream: bytes) -> tuple[bytes, bytes]:
    """Split a baseline JPEG into its abbreviated stream, without application data, and a stream of tables alone."""
    image, tables, place = [SOI], [SOI], 2
    while True:
        marker, end = stream[place + 1], place + 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
        if marker == SOS:
            return b"".join([*image, stream[place:]]), b"".join([*tables, EOI])
        if marker not in APPLICATION:
            (tables if marker in TABLES else image).append(stream[place:end])
        place = end


@dataclass(frozen=True)
class ImageCodec:
    """Any other codec of imagecodecs, one complete stream per tile.

    Parameters
    ----------
    name
        Key of `IMAGE_CODECS`.
    value
        Its quality, distance or target.
    """

    name: str
    value: float

    @property
    def setting(self) -> str:
        """What is set."""
        return f"{IMAGE_CODECS[self.name].parameter} {self.value:g}"

    def run(self, tiles: NDArray[np.uint8]) -> Coded:
        """Encode and decode every tile."""
        calls = IMAGE_CODECS[self.name]
        started = time.process_time()
        streams = [calls.encode(tile, self.value) for tile in tiles]
        between = time.process_time()
        x_hat = np.stack([calls.decode(stream) for stream in streams])
        ended = time.process_time()
        payload = sum(map(calls.payload, streams)) if calls.payload else None
        return Coded(sum(map(len, streams)), x_hat, between - started, ended - between, payload)


@dataclass(frozen=True)
class Calls:
    """The calls of one codec, the name of its parameter, and how many bytes of a stream are not wrapping."""

    parameter: str
    encode: Callable[[NDArray[np.uint8], float], bytes]
    decode: Callable[[bytes], NDArray[np.uint8]]
    payload: Callable[[bytes], int] | None = None


def avif_payload(stream: bytes) -> int:
    """Bytes of AV1 in an AVIF file: the content of its `mdat` box.

    Raises
    ------
    ValueError
        If there is no such box.
    """
    place = 0
    while place < len(stream):
        size, kind = int.from_bytes(stream[place : place + 4], "big"), stream[place + 4 : place + 8]
        if kind == b"mdat":
            return size - 8
        place += max(size, 8)
    raise ValueError("an AVIF file without media data")


def _jpeg2000(tile: NDArray[np.uint8], psnr_db: float) -> bytes:
    # A target of fidelity, not of size: every tile takes the bytes that it needs, as with the other codecs.
    return bytes(
        imagecodecs.jpeg2k_encode(tile, level=int(psnr_db), codecformat="j2k", reversible=False, mct=True, numthreads=1)
    )


def _jpeg_xl(tile: NDArray[np.uint8], distance: float) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(tile, distance=distance, effort=7, usecontainer=False, numthreads=1))


def _avif(tile: NDArray[np.uint8], quality: float) -> bytes:
    return bytes(imagecodecs.avif_encode(tile, level=int(quality), speed=4, pixelformat="444", numthreads=1))


def _webp(tile: NDArray[np.uint8], quality: float) -> bytes:
    return bytes(imagecodecs.webp_encode(tile, level=quality, lossless=False, method=6))


def _decoder(decode: Callable[..., Any], **options: Any) -> Callable[[bytes], NDArray[np.uint8]]:
    def rgb(stream: bytes) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = np.ascontiguousarray(decode(stream, **options)[..., :3])
        return pixels

    return rgb


IMAGE_CODECS = {
    "jpeg-2000": Calls("target dB", _jpeg2000, _decoder(imagecodecs.jpeg2k_decode, numthreads=1)),
    "jpeg-xl-e7": Calls("distance", _jpeg_xl, _decoder(imagecodecs.jpegxl_decode, numthreads=1)),
    "avif-444-s4": Calls("quality", _avif, _decoder(imagecodecs.avif_decode, numthreads=1), avif_payload),
    "webp": Calls("quality", _webp, _decoder(imagecodecs.webp_decode), lambda stream: len(stream) - WEBP_WRAPPING),
}


def classical_codecs() -> list[Codec]:
    """Every classical peer at every setting; the slow ones first, so that parallel workers end together."""
    codecs: list[Codec] = [ImageCodec("avif-444-s4", quality) for quality in reversed(AVIF_QUALITIES)]
    codecs += [ImageCodec("jpeg-xl-e7", distance) for distance in JPEG_XL_DISTANCES]
    codecs += [ImageCodec("jpeg-2000", target) for target in JPEG2000_PSNR_DB]
    codecs += [ImageCodec("webp", quality) for quality in WEBP_QUALITIES]
    codecs += [JpegCodec(subsampling, quality) for subsampling in ("420", "444") for quality in JPEG_QUALITIES]
    return codecs


def transcoded_bytes(streams: Iterable[bytes]) -> int:
    """Bytes of a source's JPEG streams as JPEG XL, from which each comes back bit for bit."""
    return sum(len(imagecodecs.jpegxl_encode_jpeg(stream, numthreads=1)) for stream in streams)
