"""Joins the JPEG streams of tiles with the tables that they share, and decodes them so that no warning passes.

    stream of a tile + tables of its level -> whole JPEG -> size against what it should be -> decoder -> pixels
                                                                                            -> any warning: DamagedJpeg

libjpeg goes on after corrupt data and fills what it misses with grey or with a guess; it counts warnings while it does.
Here one warning is an error.

What this does not do: it cannot tell a flipped bit that leaves a stream of valid codes from the scanner's own work.
"""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray

__all__ = ["DamagedJpeg", "decode_jpeg", "whole_jpeg"]

START, END = b"\xff\xd8", b"\xff\xd9"
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
"""A marker whose next byte tells the colours of three channels: 0 RGB, 1 YCbCr. Decoders guess without it."""


class DamagedJpeg(Exception):
    """A stream that no decoder takes without a warning, or that is not of the size that it should be."""


def whole_jpeg(stream: bytes, tables: bytes | None, *, rgb: bool) -> bytes:
    """Join a tile's stream and its level's tables into a JPEG that any decoder reads alone.

    Parameters
    ----------
    stream
        The tile as the file holds it.
    tables
        The level's JPEGTables field, a JPEG of tables only; None where each tile has its own.
    rgb
        Whether the channels are R, G, B and not Y, Cb, Cr.

    Raises
    ------
    DamagedJpeg
        If one of them does not begin as JPEG does.
    """
    if not stream.startswith(START):
        raise DamagedJpeg("the stream does not begin as JPEG does")
    if tables is not None and not (tables.startswith(START) and tables.endswith(END)):
        raise DamagedJpeg("the tables are no JPEG")
    colours = b"\0" if rgb else b"\1"
    return START + ADOBE + colours + (b"" if tables is None else tables[2:-2]) + stream[2:]


def decode_jpeg(whole: bytes, width: int, height: int) -> NDArray[np.uint8]:
    """Decode a JPEG of a known size.

    Parameters
    ----------
    whole
        A JPEG stream with all of its tables.
    width, height
        Size in pixels that it must have; compared before any pixel is decoded.

    Returns
    -------
    (height, width, 3) uint8
        RGB.

    Raises
    ------
    DamagedJpeg
        If it has another size, or if the decoder warns of anything.
    """
    try:
        own_height, own_width, _, _ = simplejpeg.decode_jpeg_header(whole)
        if (own_width, own_height) != (width, height):
            raise DamagedJpeg(f"the stream is of {own_width} x {own_height} pixels, not of {width} x {height}")
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(whole, strict=True)
    except ValueError:
        raise DamagedJpeg("the stream's data are corrupt") from None
    return pixels
