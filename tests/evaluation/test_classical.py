from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.data import immunohistochemistry

from wsicomp.evaluation.classical import (
    ImageCodec,
    JpegCodec,
    avif_payload,
    classical_codecs,
    jpeg,
    split_jpeg,
    transcoded_bytes,
)

IMAGE: NDArray[np.uint8] = immunohistochemistry()  # type: ignore[no-untyped-call]
TILES = np.stack([IMAGE[y : y + 128, x : x + 128] for y, x in ((0, 0), (0, 256), (256, 128), (384, 384))])


@pytest.mark.parametrize("subsampling", ["420", "444"])
@pytest.mark.parametrize("quality", [5, 50])
def test_an_abbreviated_jpeg_decodes_to_the_same_pixels_with_the_tables_of_another_tile(
    subsampling: str, quality: int
) -> None:
    first, second = (jpeg(tile, quality, subsampling) for tile in TILES[:2])
    (stream, _), (_, tables) = split_jpeg(first), split_jpeg(second)
    assert len(stream) + 500 < len(first)
    assert np.array_equal(imagecodecs.jpeg8_decode(stream, tables=tables), imagecodecs.jpeg8_decode(first))


def test_shared_tables_are_counted_once() -> None:
    codec = JpegCodec("420", 20)
    sizes = [codec.run(TILES[:count]).bytes for count in (1, 2)]
    alone = codec.run(TILES[1:2]).bytes
    tables = sizes[0] + alone - sizes[1]
    assert 550 < tables < 620


def test_tiles_with_tables_of_their_own_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = imagecodecs.jpeg8_encode
    monkeypatch.setattr(imagecodecs, "jpeg8_encode", lambda tile, **options: encode(tile, **options, optimize=True))
    with pytest.raises(ValueError, match="tables of their own"):
        JpegCodec("420", 50).run(TILES)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("jpeg-2000", 24, 34), ("jpeg-xl-e7", 12, 2), ("avif-444-s4", 10, 60), ("webp", 10, 70)],
)
def test_a_codec_is_lossy_and_spends_more_on_more_quality(name: str, low: float, high: float) -> None:
    coarse, fine = (ImageCodec(name, value).run(TILES[:1]) for value in (low, high))
    assert coarse.bytes < fine.bytes < TILES[:1].size / 2
    assert 0 < error(fine.x_hat) < error(coarse.x_hat) < 1000
    assert fine.x_hat.shape == TILES[:1].shape
    assert fine.payload_bytes is None or 0 < fine.payload_bytes < fine.bytes


def error(x_hat: NDArray[np.uint8]) -> float:
    return float(np.square(TILES[:1].astype(np.float64) - x_hat).mean())


def test_the_payload_of_an_avif_file_is_its_media_data() -> None:
    stream = bytes(imagecodecs.avif_encode(TILES[0], level=30, speed=8, numthreads=1))
    payload = avif_payload(stream)
    assert 200 < len(stream) - payload < 400
    assert stream[-payload - 4 : -payload] == b"mdat"
    with pytest.raises(ValueError, match="without media data"):
        avif_payload(stream[: len(stream) - payload - 8])


def test_every_codec_has_at_least_six_settings_under_names_of_their_own() -> None:
    codecs = classical_codecs()
    names = [codec.name for codec in codecs]
    assert set(names) == {"jpeg-420", "jpeg-444", "jpeg-2000", "jpeg-xl-e7", "avif-444-s4", "webp"}
    assert min(names.count(name) for name in names) >= 6
    assert len({(codec.name, codec.setting) for codec in codecs}) == len(codecs)


def test_a_source_jpeg_as_jpeg_xl_is_smaller_and_comes_back_bit_for_bit() -> None:
    stream = jpeg(TILES[0], 80, "420")
    size = transcoded_bytes([stream])
    assert 0 < size < len(stream)
    decoded = imagecodecs.jpegxl_decode_jpeg(imagecodecs.jpegxl_encode_jpeg(stream), numthreads=1)
    assert decoded == stream
