"""Rebuilds ICC profiles with what colour management needs, and with nothing that names anyone.

    profile as scanned -> header fields and tags on an allow-list -> a new profile, the same bytes for the same colours

A profile carries a creation date, an identifier and texts (description, copyright, device, maker's private tags) in
which scanners leave serial numbers. The date and the identifier are zeroed, the texts are replaced by "slide".

What this does not do: it does not convert colours.
"""

from __future__ import annotations

import struct

__all__ = ["anonymous_profile"]

_COLOUR_TAGS = frozenset(
    b"wtpt bkpt chad rXYZ gXYZ bXYZ rTRC gTRC bTRC kTRC A2B0 A2B1 A2B2 B2A0 B2A1 B2A2 gamt lumi".split()
)
_COLOUR_TYPES = frozenset([b"XYZ ", b"curv", b"para", b"mft1", b"mft2", b"mAB ", b"mBA ", b"sf32"])
_HEADER_BYTES = 128


def _text(major: int, kind: bytes) -> bytes:
    """Say "slide" in the encoding of the profile's version, for a text tag that must be there."""
    if major >= 4:
        text = "slide".encode("utf-16-be")
        return b"mluc" + struct.pack(">4x2I", 1, 12) + b"enUS" + struct.pack(">2I", len(text), 28) + text
    if kind == b"cprt":
        return b"text" + bytes(4) + b"slide\0"
    return b"desc" + struct.pack(">4xI", 6) + b"slide\0" + bytes(4 + 4 + 2 + 1 + 67)


def anonymous_profile(profile: bytes) -> bytes | None:
    """Rebuild a profile from its colour tags alone.

    Parameters
    ----------
    profile
        An ICC profile of version 2 or 4 for RGB pixels.

    Returns
    -------
    bytes | None
        The profile, creation date (bytes 24 to 36) and identifier (84 to 100) zeroed; None where the bytes are not a
        well-formed profile of RGB colours.
    """
    header = profile[:_HEADER_BYTES]
    if len(profile) < _HEADER_BYTES + 4 or header[36:40] != b"acsp" or header[16:20] != b"RGB ":
        return None
    (count,) = struct.unpack_from(">I", profile, _HEADER_BYTES)
    if _HEADER_BYTES + 4 + 12 * count > len(profile):
        return None
    major = header[8]
    elements = {b"desc": _text(major, b"desc"), b"cprt": _text(major, b"cprt")}
    for entry in range(count):
        tag, offset, size = struct.unpack_from(">4s2I", profile, _HEADER_BYTES + 4 + 12 * entry)
        if offset + size > len(profile):
            return None
        element = profile[offset : offset + size]
        if tag in _COLOUR_TAGS and element[:4] in _COLOUR_TYPES:
            elements[tag] = element

    table, data = b"", b""
    data_offset = _HEADER_BYTES + 4 + 12 * len(elements)
    for tag, element in sorted(elements.items()):
        table += struct.pack(">4s2I", tag, data_offset + len(data), len(element))
        data += element + bytes(-len(element) % 4)
    size = struct.pack(">I", data_offset + len(data))
    # Kept: version, class and colour spaces (8:24), signature (36:40), intent and illuminant (64:80). The rest of the
    # header is the date, the maker, the model, the program and the identifier.
    clean = size + bytes(4) + header[8:24] + bytes(12) + b"acsp" + bytes(24) + header[64:80] + bytes(48)
    return clean + struct.pack(">I", len(elements)) + table + data
