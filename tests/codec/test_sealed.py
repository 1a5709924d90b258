"""A stream is its body and a checksum: any change of either is found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsicomp.codec.sealed import seal, unseal
from wsicomp.errors import LatentError


@given(body=st.binary(max_size=64))
def test_a_sealed_body_comes_back(body: bytes) -> None:
    assert unseal(seal(body)) == body


@given(body=st.binary(max_size=64), data=st.data())
def test_a_flipped_bit_is_found(body: bytes, data: st.DataObject) -> None:
    stream = bytearray(seal(body))
    stream[data.draw(st.integers(0, len(stream) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(LatentError, match="does not match its checksum"):
        unseal(bytes(stream))


@pytest.mark.parametrize("body", [b"", b"\0", b"a stream of some bytes"])
def test_a_stream_that_is_cut_short_is_found(body: bytes) -> None:
    stream = seal(body)
    for length in range(len(stream)):
        with pytest.raises(LatentError):
            unseal(stream[:length])
