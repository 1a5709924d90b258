from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from tests.store.stores import make_content
from wsicomp.errors import StoreCorrupt, StoreVersion
from wsicomp.geometry import Level
from wsicomp.store.schema import FORMAT_VERSION, LatentDtype, StoreHeader

HEADER = make_content().header


def through_json(header: StoreHeader) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(json.dumps(header.to_attributes(), allow_nan=False))
    return record


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"mpp": None},
        {"quality": 5},
        {"entropy": "cd" * 32},
        {"entropy": "cd" * 32, "latent_dtype": "int16"},
        {"objective_power": None},
        {"vendor": None},
        {"source_bytes": None},
        {"tissue_rule": {}},
        {"floor": {"min_psnr_db": 34.0, "classifier": "ab" * 32}},
    ],
)
def test_attributes_round_trip(change: dict[str, Any]) -> None:
    header = replace(HEADER, **change)
    assert StoreHeader.from_attributes(through_json(header)) == header


def test_created_by_names_this_version() -> None:
    values = {name: getattr(HEADER, name) for name in HEADER.__dataclass_fields__ if name != "created_by"}
    assert StoreHeader(**values).created_by.startswith("wsicomp ")


BAD_VALUES: list[tuple[str, Any]] = [
    ("model", ""),
    ("model", "two words"),
    ("model", None),
    ("weights_sha256", "AB" * 32),
    ("weights_sha256", "ab" * 31),
    ("depth", 0),
    ("depth", 9),
    ("depth", True),
    ("depth", 2.0),
    ("quality", -1),
    ("quality", "5"),
    ("channels", 0),
    ("latent_dtype", "uint8"),
    ("latent_dtype", None),
    ("entropy", ""),
    ("entropy", "AB" * 32),
    ("entropy", 12),
    ("tile_size", 0),
    ("tile_size", 18),
    ("mpp", [0.5]),
    ("mpp", [0.5, 0.0]),
    ("mpp", [0.5, math.nan]),
    ("mpp", [0.5, math.inf]),
    ("mpp", "0.5"),
    ("objective_power", -20.0),
    ("objective_power", math.nan),
    ("vendor", "a vendor with a long story"),
    ("source_bytes", -1),
    ("source_bytes", 1.5),
    ("tissue_rule", []),
    ("tissue_rule", {"a b": 1}),
    ("tissue_rule", {"a": math.nan}),
    ("tissue_rule", {"a": None}),
    ("tissue_rule", {"a": "x" * 65}),
    ("tissue_rule", {"a": "two\nlines"}),
    ("floor", None),
    ("floor", {}),
    ("floor", []),
    ("floor", {"min_psnr_db": math.inf}),
    ("floor", {"min psnr": 34}),
    ("floor", {"classifier": "x" * 65}),
    ("glass_rgb", [255, 255]),
    ("glass_rgb", [255, 255, 256]),
    ("glass_rgb", [255, 255, 1.0]),
    ("tissue_tiles", -1),
    ("tissue_tiles", 10**6),
    ("total_tiles", HEADER.total_tiles + 1),
    ("created_by", "somebody on 1 May"),
    ("levels", []),
    ("levels", {}),
    ("levels", [1]),
    ("levels", [{"index": 0, "downsample": 1, "width_px": 61}]),
    ("levels", [{"index": 0, "downsample": 2, "width_px": 61, "height_px": 45}]),
    ("levels", [{"index": 1, "downsample": 1, "width_px": 61, "height_px": 45}]),
    ("levels", [{"index": 0, "downsample": 1, "width_px": 0, "height_px": 45}]),
    ("format_version", 0),
    ("format_version", "1"),
    ("format_version", True),
    ("format_version", None),
]


@pytest.mark.parametrize(("field", "value"), BAD_VALUES)
def test_a_bad_value_is_corrupt_in_one_line_that_names_the_store(field: str, value: Any) -> None:
    attributes = through_json(HEADER)
    attributes["wsicomp"][field] = value
    with pytest.raises(StoreCorrupt, match=r"slide\.zarr: ") as caught:
        StoreHeader.from_attributes(attributes, "slide.zarr")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", through_json(HEADER)["wsicomp"])
def test_a_missing_field_is_corrupt(field: str) -> None:
    attributes = through_json(HEADER)
    del attributes["wsicomp"][field]
    with pytest.raises(StoreCorrupt, match="format_version" if field == "format_version" else field):
        StoreHeader.from_attributes(attributes)


def test_an_unknown_field_is_corrupt() -> None:
    attributes = through_json(HEADER)
    attributes["wsicomp"]["patient"] = "?"
    with pytest.raises(StoreCorrupt, match="patient"):
        StoreHeader.from_attributes(attributes)


@pytest.mark.parametrize("attributes", [{}, {"wsicomp": None}, {"wsicomp": [1]}])
def test_attributes_of_something_else_are_corrupt(attributes: dict[str, Any]) -> None:
    with pytest.raises(StoreCorrupt, match="no 'wsicomp' attributes"):
        StoreHeader.from_attributes(attributes)


def test_a_newer_format_is_told_apart_even_with_fields_unknown_here() -> None:
    attributes = {"wsicomp": {"format_version": FORMAT_VERSION + 1, "novelty": 1}}
    with pytest.raises(StoreVersion, match="update wsicomp"):
        StoreHeader.from_attributes(attributes)


@pytest.mark.parametrize(
    ("field", "value"),
    [("mpp", (math.nan, 0.5)), ("mpp", [0.5, 0.5]), ("tissue_rule", {"a": math.inf}), ("levels", (1,))],
)
def test_a_header_that_json_cannot_hold_is_never_made(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field.rstrip("s")):
        replace(HEADER, **{field: value})


@pytest.mark.parametrize("latent_dtype", ["float16", "float32"])
def test_floats_are_never_entropy_coded(latent_dtype: LatentDtype) -> None:
    with pytest.raises(ValueError, match=f"entropy codes int8 and int16, not latent_dtype {latent_dtype}"):
        replace(HEADER, entropy="cd" * 32, latent_dtype=latent_dtype)


@pytest.mark.parametrize(("mpp", "base", "unit"), [((0.25, 0.5), (0.25, 0.5), "micrometer"), (None, (1.0, 1.0), None)])
def test_ngff_multiscales_place_each_level(
    mpp: tuple[float, float] | None, base: tuple[float, float], unit: str | None
) -> None:
    levels = (Level(0, 1, 100, 80), Level(1, 4, 25, 20), Level(2, 16, 6, 5))
    tiles = sum(len(level.grid(16)) for level in levels)
    header = replace(HEADER, mpp=mpp, levels=levels, depth=3, total_tiles=tiles)
    ome = through_json(header)["ome"]
    assert ome["version"] == "0.5"
    (scales,) = ome["multiscales"]
    assert [axis["name"] for axis in scales["axes"]] == ["c", "y", "x"]
    assert [axis.get("unit") for axis in scales["axes"]] == [None, unit, unit]
    assert [data["path"] for data in scales["datasets"]] == ["latents/0", "latents/1", "latents/2"]
    for data, downsample in zip(scales["datasets"], (8, 32, 128), strict=True):
        (transform,) = data["coordinateTransformations"]
        assert transform == {"type": "scale", "scale": [1.0, base[1] * downsample, base[0] * downsample]}
