"""The Zarr codec: bare and in shards, by its digest, and in one line when something does not fit."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ShardingCodec
from zarr.registry import get_codec_class

from tests.codec.models import busy_latents, fitted
from wsicomp.codec import rans, zarr_rans
from wsicomp.codec.zarr_rans import CODEC_NAME, RansCodec, code_ahead, register_model, registered_model

SIDE = 16


@pytest.fixture
def codec() -> RansCodec:
    return RansCodec(register_model(fitted()))


def picture(dtype: type[np.generic] = np.int8) -> NDArray[Any]:
    """Latent of 3 x 5 tiles and a part of a fourth row and a sixth column."""
    rows = [np.concatenate(busy_latents(6, seed=row), axis=2) for row in range(4)]
    return np.concatenate(rows, axis=1)[:, :57, :91].astype(dtype)


def write(path: Path, pixels: NDArray[Any], codec: RansCodec, *, sharded: bool) -> zarr.Array[Any]:
    chunk = (3, SIDE, SIDE)
    array = zarr.create_array(
        path,
        shape=pixels.shape,
        dtype=pixels.dtype,
        chunks=(3, 2 * SIDE, 2 * SIDE) if sharded else chunk,
        serializer=ShardingCodec(chunk_shape=chunk, codecs=[codec]) if sharded else codec,
        compressors=None,
        fill_value=0,
    )
    array[:] = pixels
    return array


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_an_array_comes_back(tmp_path: Path, codec: RansCodec, dtype: type[np.generic], sharded: bool) -> None:
    pixels = picture(dtype)
    write(tmp_path / "a.zarr", pixels, codec, sharded=sharded)
    array = zarr.open_array(tmp_path / "a.zarr", mode="r")
    assert array.dtype == dtype
    assert np.array_equal(array[:], pixels)
    assert np.array_equal(array[:, 13:35, 30:67], pixels[:, 13:35, 30:67])


def test_a_chunk_is_one_stream_and_an_empty_one_is_no_file(tmp_path: Path, codec: RansCodec) -> None:
    pixels = np.zeros((3, SIDE, 2 * SIDE), np.int8)
    pixels[..., :SIDE] = busy_latents(1)[0]
    write(tmp_path / "a.zarr", pixels, codec, sharded=False)
    row = tmp_path / "a.zarr" / "c" / "0" / "0"
    assert [file.name for file in row.iterdir()] == ["0"]
    assert (row / "0").read_bytes() == rans.encode(pixels[..., :SIDE], fitted())


def test_metadata_name_the_model_by_its_digest(tmp_path: Path, codec: RansCodec) -> None:
    write(tmp_path / "a.zarr", picture(), codec, sharded=False)
    metadata = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
    assert metadata["codecs"] == [{"name": CODEC_NAME, "configuration": {"tables": fitted().digest}}]
    assert get_codec_class(CODEC_NAME) is RansCodec
    assert RansCodec.from_dict(codec.to_dict()) == codec
    assert pickle.loads(pickle.dumps(codec)) == codec  # noqa: S301  # dask sends codecs to its workers


@pytest.mark.parametrize("sharded", [False, True])
def test_an_array_of_an_unknown_model_opens_and_its_chunks_name_what_is_missing(
    tmp_path: Path, codec: RansCodec, monkeypatch: pytest.MonkeyPatch, sharded: bool
) -> None:
    write(tmp_path / "a.zarr", picture(), codec, sharded=sharded)
    monkeypatch.setattr(zarr_rans, "_models", {})
    array = zarr.open_array(tmp_path / "a.zarr", mode="r")
    assert array.shape == (3, 57, 91)
    with pytest.raises(ValueError, match=f"^latents are coded with entropy tables {codec.tables}, which .*weights_sha"):
        array[:]
    register_model(fitted())
    assert np.array_equal(array[:], picture())


def test_each_model_decodes_its_own_array(tmp_path: Path, codec: RansCodec) -> None:
    other = RansCodec(register_model(fitted(classes=1)))
    pixels = picture()
    for name, each in (("a", codec), ("b", other)):
        write(tmp_path / name, pixels, each, sharded=False)
    assert (tmp_path / "a/c/0/0/0").read_bytes() != (tmp_path / "b/c/0/0/0").read_bytes()
    for name in "ab":
        assert np.array_equal(zarr.open_array(tmp_path / name, mode="r")[:], pixels)


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("place", [0, 40, -1])
def test_a_flipped_byte_is_an_error_and_never_pixels(
    tmp_path: Path, codec: RansCodec, sharded: bool, place: int
) -> None:
    write(tmp_path / "a.zarr", picture(), codec, sharded=sharded)
    file = tmp_path / "a.zarr" / "c" / "0" / "0" / "0"
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    # zarr itself checks the index at a shard's end.
    with pytest.raises(ValueError, match=r"does not match its checksum|checksum do not match"):
        zarr.open_array(tmp_path / "a.zarr", mode="r")[:]


def test_swapped_chunks_of_another_array_are_refused(tmp_path: Path, codec: RansCodec) -> None:
    other = RansCodec(register_model(fitted(classes=1)))
    for name, each in (("a", codec), ("b", other)):
        write(tmp_path / name, picture(), each, sharded=False)
    (tmp_path / "a/c/0/0/0").write_bytes((tmp_path / "b/c/0/0/0").read_bytes())
    with pytest.raises(ValueError, match="made with other tables"):
        zarr.open_array(tmp_path / "a", mode="r")[:]


def test_other_codecs_may_follow(tmp_path: Path, codec: RansCodec) -> None:
    pixels = picture()
    array = zarr.create_array(
        tmp_path / "a",
        shape=pixels.shape,
        dtype=np.int8,
        chunks=(3, SIDE, SIDE),
        serializer=codec,
        compressors=[Crc32cCodec()],
    )
    array[:] = pixels
    assert np.array_equal(zarr.open_array(tmp_path / "a", mode="r")[:], pixels)


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((2, 64, 64), np.int8), ((3, 64, 64), np.uint8), ((3, 64, 64), np.int32), ((3, 64, 64), np.float32)],
)
def test_arrays_of_another_kind_are_refused_before_anything_is_written(
    tmp_path: Path, codec: RansCodec, shape: tuple[int, ...], dtype: type[np.generic], sharded: bool
) -> None:
    chunk = (shape[0], SIDE, SIDE)
    with pytest.raises(ValueError, match=r"codes int8 or int16 chunks \(3, h, w\), not"):
        zarr.create_array(
            tmp_path / "a",
            shape=shape,
            dtype=dtype,
            chunks=(shape[0], 64, 64) if sharded else chunk,
            serializer=ShardingCodec(chunk_shape=chunk, codecs=[codec]) if sharded else codec,
            compressors=None,
        )


@pytest.mark.parametrize(
    "metadata",
    [
        {"name": CODEC_NAME},
        {"name": CODEC_NAME, "configuration": {}},
        {"name": CODEC_NAME, "configuration": {"tables": fitted().digest, "more": 1}},
        {"name": "wsicomp.other", "configuration": {"tables": fitted().digest}},
    ],
)
def test_metadata_of_another_form_are_refused(metadata: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs a configuration of exactly 'tables'"):
        RansCodec.from_dict(metadata)


@pytest.mark.parametrize("digest", ["", "abc", "A" * 64, 12, None])
def test_what_is_no_digest_is_refused(digest: Any) -> None:
    with pytest.raises(ValueError, match="named by 64 hexadecimal digits"):
        RansCodec.from_dict({"name": CODEC_NAME, "configuration": {"tables": digest}})


def test_registering_again_keeps_the_digest() -> None:
    digest = register_model(fitted())
    assert register_model(fitted()) == digest
    assert registered_model(digest) is fitted()


def test_a_latent_that_was_coded_ahead_is_not_coded_again(
    tmp_path: Path, codec: RansCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = picture(np.int16)
    write(tmp_path / "a.zarr", pixels, codec, sharded=True)
    padded = np.pad(pixels, ((0, 0), (0, 64 - 57), (0, 96 - 91)))
    chunks = [padded[:, y : y + SIDE, x : x + SIDE] for y in range(0, 64, SIDE) for x in range(0, 96, SIDE)]
    for chunk in chunks[1:]:
        assert code_ahead(chunk, codec.tables) == rans.encode(chunk, fitted())
    coded: list[bytes] = []
    encode = rans.encode

    def watched(latent: NDArray[np.integer[Any]], model: Any) -> bytes:
        coded.append(latent.tobytes())
        return encode(latent, model)

    monkeypatch.setattr(rans, "encode", watched)
    write(tmp_path / "b.zarr", pixels, codec, sharded=True)
    assert coded == [chunks[0].tobytes()]
    files = [path.relative_to(tmp_path / "a.zarr") for path in (tmp_path / "a.zarr/c").rglob("*") if path.is_file()]
    assert files
    assert all((tmp_path / "a.zarr" / file).read_bytes() == (tmp_path / "b.zarr" / file).read_bytes() for file in files)


def test_streams_that_nobody_writes_give_way(codec: RansCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zarr_rans, "AHEAD", 3)
    latents = busy_latents(9)
    for latent in latents:
        code_ahead(latent, codec.tables)
    assert [zarr_rans._ahead.take(latent, codec.tables) is not None for latent in latents] == [False] * 6 + [True] * 3


def test_a_fresh_process_finds_the_codec_by_its_name() -> None:
    code = "from zarr.registry import get_codec_class; print(get_codec_class('wsicomp.rans').__module__)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "wsicomp.codec.zarr_rans"
