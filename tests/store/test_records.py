"""What a floor adds to a store: written with the rest or not at all, read back exactly, and no damage to it unseen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from tests.store.stores import Floored, make_content, write_floored
from wsicomp.errors import LatentError, StoreCorrupt, StoreError
from wsicomp.store import jpegxl
from wsicomp.store.files import list_files
from wsicomp.store.manifest import MANIFEST, Manifest
from wsicomp.store.reader import StoreReader
from wsicomp.store.records import ShardRecord, capacity
from wsicomp.store.schema import PICTURES
from wsicomp.store.tiles import IS_PICTURE, Glass, Latent, Picture, TileCounts
from wsicomp.store.verify import verify
from wsicomp.store.zipped import pack

FLOOR: dict[str, str | int | float] = {"min_psnr_db": 34.1, "min_ms_ssim": 0.9}
LOWEST = (34.1, 0.9)
SHARD = "jpegxl/0/c/0/0/0"


def make_floored(seed: int = 1, width_px: int = 300, height_px: int = 45, **options: Any) -> Floored:
    """Content of two shards whose tissue tiles are latents and pictures in turn."""
    content = make_content(seed, width_px, height_px, **options)
    header = replace(content.header, floor=FLOOR, features=(PICTURES,), quality=4)
    rng = np.random.default_rng(seed)
    latents, qualities, fidelities, pictures = [], [], [], []
    for mask, values in zip(content.masks, content.latents, strict=True):
        in_jpegxl = mask & (np.indices(mask.shape).sum(0) % 2 == 0)
        step = header.chunk_px
        covered = np.repeat(np.repeat(in_jpegxl, step, 0), step, 1)[: values.shape[1], : values.shape[2]]
        latents.append(np.where(covered, 0, values).astype(values.dtype))
        qualities.append(np.where(in_jpegxl, IS_PICTURE, mask * 80).astype(np.uint8))
        fidelity = np.full((*mask.shape, 2), np.nan, np.float32)
        fidelity[mask] = LOWEST
        fidelity[in_jpegxl] = np.inf, 1
        fidelities.append(fidelity)
        size = header.tile_size
        pictures.append(
            {(int(r), int(c)): rng.integers(0, 256, (size, size, 3), np.uint8) for r, c in np.argwhere(in_jpegxl)}
        )
    content = replace(content, header=header, latents=tuple(latents))
    return Floored(content, tuple(qualities), tuple(fidelities), tuple(pictures))


def pixels_of(reader: StoreReader, row: int, col: int) -> NDArray[np.uint8]:
    tile = reader.read_tile(0, row, col)
    assert isinstance(tile, Picture)
    return tile.pixels()


FLOORED = make_floored()


@pytest.fixture
def floored_store(tmp_path: Path) -> Path:
    write_floored(tmp_path / "slide.zarr", FLOORED)
    return tmp_path / "slide.zarr"


def first_tile(*, in_jpegxl: bool) -> tuple[int, int]:
    row, col = np.argwhere(FLOORED.content.masks[0] & ((FLOORED.quality[0] == IS_PICTURE) == in_jpegxl))[0]
    return int(row), int(col)


@pytest.mark.parametrize("packed", [False, True])
def test_write_then_read_is_identity(tmp_path: Path, floored_store: Path, packed: bool) -> None:
    path = floored_store
    if packed:
        path = tmp_path / "slide.zarr.zip"
        pack(floored_store, path)
    assert verify(path) == []
    assert any(FLOORED.pictures)
    content = FLOORED.content
    with StoreReader(path) as reader:
        assert reader.header == content.header
        for level, mask in enumerate(content.masks):
            np.testing.assert_array_equal(reader.quality(level), FLOORED.quality[level])
            np.testing.assert_array_equal(reader.fidelity(level), FLOORED.fidelity[level])
            for row, col in np.ndindex(mask.shape):
                tile = reader.read_tile(level, row, col)
                if (row, col) in FLOORED.pictures[level]:
                    assert isinstance(tile, Picture)
                    np.testing.assert_array_equal(tile.pixels(), FLOORED.pictures[level][row, col])
                elif mask[row, col]:
                    assert isinstance(tile, Latent)
                    np.testing.assert_array_equal(tile.values, content.tile(level, row, col))
                    assert tile.quality == 5
                else:
                    assert tile == Glass()
        tissue, total = sum(int(mask.sum()) for mask in content.masks), sum(mask.size for mask in content.masks)
        pictures = sum(map(len, FLOORED.pictures))
        assert reader.tile_counts() == TileCounts(total - tissue, tissue - pictures, pictures, tissue - pictures)


def test_pictures_need_no_floor(tmp_path: Path) -> None:
    plain = replace(FLOORED, content=replace(FLOORED.content, header=replace(FLOORED.content.header, floor=None)))
    write_floored(tmp_path / "s.zarr", plain)
    assert verify(tmp_path / "s.zarr") == []
    assert not (tmp_path / "s.zarr/fidelity").exists()
    with StoreReader(tmp_path / "s.zarr") as reader:
        assert reader.fidelity(0) is None
        assert isinstance(reader.read_tile(0, *first_tile(in_jpegxl=True)), Picture)
        assert isinstance(reader.read_tile(0, *first_tile(in_jpegxl=False)), Latent)
    row, col = first_tile(in_jpegxl=False)
    altered(tmp_path / "s.zarr", "quality/0", (row, col), 241)
    (damage,) = verify(tmp_path / "s.zarr")
    assert (damage.path_in_store, damage.what) == ("quality/0", f"tile {row}, {col} has a quality that cannot be")


def test_a_store_without_a_floor_has_nothing_of_it(store: Path) -> None:
    with StoreReader(store) as reader:
        assert (reader.header.floor, reader.quality(0), reader.fidelity(0)) == (None, None, None)
        assert reader.tile_counts().pictures == 0
        assert reader.header.features == ()
    assert not [name for name in list_files(store) if name.startswith(("quality", "fidelity", "jpegxl"))]


def test_a_tile_in_jpegxl_has_no_other_chunk_and_costs_little_more_than_its_stream(floored_store: Path) -> None:
    streams = [jpegxl.encode(picture, 0) for pictures in FLOORED.pictures for picture in pictures.values()]
    shards = [path for path in (floored_store / "jpegxl").rglob("*") if path.is_file() and path.name != "zarr.json"]
    indexes = sum(16 * min(16, mask.shape[0]) * 16 + 4 for mask in FLOORED.content.masks[:1] for _ in range(2))
    overhead = sum(path.stat().st_size for path in shards) - sum(map(len, streams)) - indexes
    assert len(shards) >= 3
    assert overhead < 60 * len(streams)


@pytest.mark.parametrize("tile_size", [1, 2, 3, 8, 16, 64, 256])
def test_lossless_noise_always_fits(tile_size: int) -> None:
    tile = np.random.default_rng(0).integers(0, 256, (tile_size, tile_size, 3), np.uint8)
    stream = jpegxl.encode(tile, 0)
    assert len(stream) + 4 <= capacity(tile_size)
    np.testing.assert_array_equal(jpegxl.decode(stream, tile_size), tile)


def test_a_stream_without_room_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    row, col = first_tile(in_jpegxl=True)

    def grow(part: ShardRecord) -> ShardRecord:
        return replace(part, streams={place: bytes([1]) * capacity(16) for place in part.streams})

    with pytest.raises(StoreError, match=rf"level 0, tile row {row}, col {col}: .* longer"):
        write_floored(tmp_path / "s.zarr", FLOORED, grow)
    assert list(tmp_path.iterdir()) == []


def without_streams(part: ShardRecord) -> ShardRecord:
    return replace(part, streams={})


def all_in_jpegxl(part: ShardRecord) -> ShardRecord:
    """Tiles that have a latent are said to be JPEG XL too, with a stream."""
    rows = np.argwhere(part.quality == 80)
    stream = jpegxl.encode(np.zeros((16, 16, 3), np.uint8), 0)
    more = {(int(r), int(c)): stream for r, c in rows}
    quality = np.where(part.quality == 80, IS_PICTURE, part.quality).astype(np.uint8)
    return replace(part, quality=quality, streams=part.streams | more)


def with_fidelity(value: float) -> Callable[[ShardRecord], ShardRecord]:
    def change(part: ShardRecord) -> ShardRecord:
        return replace(part, fidelity=np.where(np.isfinite(part.fidelity), value, part.fidelity).astype(np.float32))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda part: None, "if and only if the store may have pictures"),
        (without_streams, "not those of the tiles of quality 255"),
        (all_in_jpegxl, "has a latent and a JPEG XL stream"),
        (lambda part: replace(part, quality=part.quality[:, :1]), "has quality"),
        (lambda part: replace(part, quality=np.where(part.quality == 80, 250, part.quality)), "quality that cannot be"),
        (lambda part: replace(part, quality=np.where(part.quality == 0, 80, part.quality)), "quality that cannot be"),
        (lambda part: replace(part, fidelity=np.nan_to_num(part.fidelity, nan=1)), "is glass and has a fidelity"),
        (with_fidelity(np.nan), "has no fidelity"),
        (with_fidelity(0.95), "below the floor of PSNR"),
    ],
)
def test_the_writer_refuses_what_is_not_whole(
    tmp_path: Path, change: Callable[[ShardRecord], ShardRecord | None], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_floored(tmp_path / "s.zarr", FLOORED, change)
    assert list(tmp_path.iterdir()) == []


def test_a_shard_has_no_fidelity_where_there_is_no_floor(tmp_path: Path) -> None:
    header = replace(FLOORED.content.header, floor=None, features=())
    floored = replace(FLOORED, content=replace(FLOORED.content, header=header))
    with pytest.raises(ValueError, match="if and only if the store may have pictures"):
        write_floored(tmp_path / "s.zarr", floored)


def test_leftovers_of_a_killed_run_with_a_floor_are_cleared(tmp_path: Path, floored_store: Path) -> None:
    floored_store.rename(tmp_path / "new.zarr.partial")
    (tmp_path / "new.zarr.partial" / MANIFEST).unlink()
    write_floored(tmp_path / "new.zarr", FLOORED)
    assert [path.name for path in tmp_path.iterdir()] == ["new.zarr"]


FILES = ("fidelity/0/c/0/0/0", "fidelity/0/zarr.json", "quality/0/c/0/0", "jpegxl/0/zarr.json", SHARD)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["delete", "cut", "flip"])
def test_damage_is_noticed(floored_store: Path, name: str, how: str) -> None:
    file, flipped = floored_store / name, 20
    sound = bytearray(file.read_bytes())
    if how == "delete":
        file.unlink()
    elif how == "cut":
        file.write_bytes(sound[:-1])
    else:
        sound[flipped] ^= 4
        file.write_bytes(sound)
    assert name in {damage.path_in_store for damage in verify(floored_store)}
    if (name, how) == (SHARD, "flip"):
        with StoreReader(floored_store) as reader:
            errors = []
            for (row, col), picture in FLOORED.pictures[0].items():
                try:
                    np.testing.assert_array_equal(pixels_of(reader, row, col), picture)
                except StoreCorrupt as error:
                    errors.append((f"slide.zarr: level 0, tile row {row}, col {col} is damaged", str(error)))
        ((words, message),) = errors
        assert words in message
    else:
        with pytest.raises(StoreCorrupt, match=name):
            StoreReader(floored_store)


def test_damage_in_an_index_names_the_shard(floored_store: Path) -> None:
    file = floored_store / SHARD
    content = bytearray(file.read_bytes())
    content[-7] ^= 1
    file.write_bytes(content)
    (damage,) = verify(floored_store)
    assert (damage.path_in_store, damage.level, damage.row, damage.col) == (SHARD, 0, None, None)
    assert "JPEG XL tiles of rows 0-2, cols 0-15 are lost" in damage.what


def altered(store: Path, name: str, at: tuple[int, ...], value: Any) -> None:
    """Change an array and make the manifest match, as only another program would."""
    array = zarr.open_group(store, mode="r+")[name]
    assert isinstance(array, zarr.Array)
    array[at] = value
    (store / MANIFEST).write_bytes(Manifest.of_folder(store).to_bytes())


def chunk(stream: bytes, length: int | None = None) -> NDArray[np.uint8]:
    coded = (len(stream) if length is None else length).to_bytes(4, "little") + stream
    return np.frombuffer(coded.ljust(capacity(16), b"\0"), np.uint8)


SOUND = jpegxl.encode(np.zeros((16, 16, 3), np.uint8), 0)


@pytest.mark.parametrize(
    "bad",
    [
        chunk(b""),
        chunk(SOUND[:-5]),
        chunk(SOUND[:4] + b"garbage"),
        chunk(b"garbage"),
        chunk(SOUND, 2**31),
        chunk(SOUND, 3),
        chunk(jpegxl.encode(np.zeros((32, 32, 3), np.uint8), 0)),
    ],
    ids=["gone", "cut", "wrong", "garbage", "too long", "too short", "another size"],
)
def test_a_stream_that_is_no_tile_is_an_error_that_names_it(floored_store: Path, bad: NDArray[np.uint8]) -> None:
    row, col = first_tile(in_jpegxl=True)
    altered(floored_store, "jpegxl/0", (row, col), bad)
    (damage,) = verify(floored_store)
    assert (damage.path_in_store, damage.level, damage.row, damage.col) == (SHARD, 0, row, col)
    with (
        StoreReader(floored_store) as reader,
        pytest.raises(StoreCorrupt, match=rf"slide\.zarr: level 0, tile row {row}, col {col} is damaged") as caught,
    ):
        pixels_of(reader, row, col)
    assert "\n" not in str(caught.value)


def test_verify_finds_a_stream_of_a_tile_that_has_none(floored_store: Path) -> None:
    row, col = first_tile(in_jpegxl=False)
    altered(floored_store, "jpegxl/0", (row, col), chunk(SOUND))
    (damage,) = verify(floored_store)
    assert (damage.path_in_store, damage.row, damage.col) == (SHARD, row, col)


def test_verify_finds_a_latent_of_a_tile_that_is_jpeg_xl(floored_store: Path) -> None:
    row, col = first_tile(in_jpegxl=True)
    altered(floored_store, "latents/0", (0, 4 * row, 4 * col), 1)
    (damage,) = verify(floored_store)
    assert (damage.path_in_store, damage.row, damage.col) == ("latents/0/c/0/0/0", row, col)


@pytest.mark.parametrize(
    ("measure", "value", "what"),
    [(0, 34.0, "below the floor of PSNR"), (1, 0.89, "below the floor of MS-SSIM"), (1, np.nan, "has no fidelity")],
)
def test_verify_finds_a_fidelity_below_the_floor(floored_store: Path, measure: int, value: float, what: str) -> None:
    row, col = first_tile(in_jpegxl=False)
    altered(floored_store, "fidelity/0", (row, col, measure), value)
    (damage,) = verify(floored_store)
    assert damage.path_in_store == "fidelity/0"
    assert f"tile {row}, {col}" in damage.what
    assert what in damage.what


def test_arrays_that_are_not_of_the_levels_tiles_are_corrupt(tmp_path: Path, floored_store: Path) -> None:
    other = tmp_path / "other.zarr"
    write_floored(other, make_floored(width_px=200))
    (other / "quality").rename(tmp_path / "quality")
    (floored_store / "quality").rename(other / "quality")
    (other / MANIFEST).write_bytes(Manifest.of_folder(other).to_bytes())
    with StoreReader(other) as reader, pytest.raises(StoreCorrupt, match="quality/0 is not an array"):
        reader.quality(0)
    assert "quality/0 is not an array" in verify(other)[0].what


def test_steps_of_verify_come_to_an_end(floored_store: Path) -> None:
    steps: list[tuple[int, int]] = []
    verify(floored_store, progress=lambda done, total: steps.append((done, total)))
    assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))


def test_a_stream_is_of_one_tile_size() -> None:
    with pytest.raises(LatentError):
        jpegxl.decode(SOUND, 32)
