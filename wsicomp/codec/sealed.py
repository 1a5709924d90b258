"""The checksum that ends every coded latent: a stream is its body and the CRC32C of it.

Whoever only asks whether a stream is sound needs no entropy model, and loads no compiled code.
"""

from __future__ import annotations

import google_crc32c

from wsicomp.errors import LatentError

__all__ = ["CHECKSUM_BYTES", "seal", "unseal"]

CHECKSUM_BYTES = 4


def seal(body: bytes) -> bytes:
    """Put the checksum behind a body."""
    checksum: int = google_crc32c.value(body)
    return body + checksum.to_bytes(CHECKSUM_BYTES, "little")


def unseal(stream: bytes) -> bytes:
    """Check a stream and return its body.

    Raises
    ------
    LatentError
        If the stream does not match its checksum, or is too short to have one.
    """
    if len(stream) < CHECKSUM_BYTES:
        raise LatentError(f"a coded latent of {len(stream)} bytes is cut short")
    body = stream[:-CHECKSUM_BYTES]
    if google_crc32c.value(body) != int.from_bytes(stream[-CHECKSUM_BYTES:], "little"):
        raise LatentError("a coded latent does not match its checksum")
    return body
