"""A JPEG of a tile decodes to what any decoder shows, and no damage that libjpeg warns of passes."""

from __future__ import annotations

import numpy as np
import pytest
import simplejpeg

from wsicomp.slides.jpeg import DamagedJpeg, decode_jpeg, whole_jpeg


def test_libjpegs_warnings_are_errors_where_it_would_show_a_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    stream = simplejpeg.encode_jpeg(picture, quality=90)
    decode_jpeg(stream, 64, 64)
    for damaged in (stream[:-40] + stream[-2:], stream[:-2] + b"\0\0\0" + stream[-2:], stream[:-60]):
        assert simplejpeg.decode_jpeg(damaged, strict=False).shape == (64, 64, 3)
        with pytest.raises(DamagedJpeg):
            decode_jpeg(damaged, 64, 64)
    with pytest.raises(DamagedJpeg, match="of 64 x 64 pixels, not of 64 x 80"):
        decode_jpeg(stream, 64, 80)


@pytest.mark.parametrize(
    ("stream", "tables"), [(b"", None), (b"\0\0", None), (b"\xff\xd8", b""), (b"\xff\xd8", b"\xff\xd8")]
)
def test_what_does_not_begin_as_jpeg_does_is_refused(stream: bytes, tables: bytes | None) -> None:
    with pytest.raises(DamagedJpeg):
        whole_jpeg(stream, tables, rgb=True)
