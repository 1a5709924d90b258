from __future__ import annotations

import json
import math
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

from tests.golden.make_golden import FOLDER
from tests.store.stores import make_content, seal, write_content
from wsicomp.errors import StoreCorrupt, StoreVersion
from wsicomp.store import schema, writer
from wsicomp.store.container import open_container
from wsicomp.store.reader import StoreReader, read_manifest
from wsicomp.store.schema import FORMAT_VERSION, PICTURES, LatentDtype, StoreHeader, since
from wsicomp.store.verify import verify

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
        {"floor": {"min_psnr_db": 34.0, "classifier": "ab" * 32}, "features": (PICTURES,)},
        {"source_fingerprint": "ef" * 32},
        {"features": (PICTURES,)},
        {"format_version": 1},
        {"format_version": 1, "floor": {"min_psnr_db": 34.0}},
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
    ("source_fingerprint", ""),
    ("source_fingerprint", "AB" * 32),
    ("source_fingerprint", 12),
    ("features", None),
    ("features", "pictures"),
    ("features", {"pictures": 1}),
    ("features", ["pictures", "pictures"]),
    ("features", [1]),
    ("features", ["a slide of somebody"]),
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


@pytest.mark.parametrize("version", [1, FORMAT_VERSION])
def test_an_unknown_field_is_of_a_newer_format_and_not_damage(version: int) -> None:
    attributes = through_json(replace(HEADER, format_version=version))
    attributes["wsicomp"]["novelty"] = "?"
    with pytest.raises(StoreVersion, match=r"s: its header has field 'novelty' of a newer format; update wsicomp"):
        StoreHeader.from_attributes(attributes, "s")


@pytest.mark.parametrize("change", [{"floor": None}, {"features": []}, {"source_fingerprint": None}])
def test_a_version_has_no_field_of_a_later_one(change: dict[str, Any]) -> None:
    attributes = through_json(replace(HEADER, format_version=1))
    attributes["wsicomp"] |= change
    with pytest.raises(StoreCorrupt, match=next(iter(change))):
        StoreHeader.from_attributes(attributes)


@pytest.mark.parametrize("change", [{"features": (PICTURES,)}, {"source_fingerprint": "ab" * 32}])
def test_a_header_of_a_version_has_no_value_of_a_later_one(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"format version 1 has no {next(iter(change))}"):
        replace(HEADER, format_version=1, **change)


@pytest.mark.parametrize("version", [FORMAT_VERSION, FORMAT_VERSION + 1])
@pytest.mark.parametrize(
    ("features", "words"),
    [(["x"], "feature 'x'"), ([PICTURES, "x", "y"], "features 'x' and 'y'")],
)
def test_a_feature_that_is_lacked_is_named(version: int, features: list[str], words: str) -> None:
    attributes = through_json(HEADER)
    attributes["wsicomp"] |= {"format_version": version, "features": features, "novelty": 1}
    with pytest.raises(StoreVersion, match=f"^s: needs {words}; update wsicomp to read it$"):
        StoreHeader.from_attributes(attributes, "s")


@pytest.mark.parametrize("attributes", [{}, {"wsicomp": None}, {"wsicomp": [1]}])
def test_attributes_of_something_else_are_corrupt(attributes: dict[str, Any]) -> None:
    with pytest.raises(StoreCorrupt, match="no 'wsicomp' attributes"):
        StoreHeader.from_attributes(attributes)


def test_a_newer_format_is_told_apart_even_with_fields_unknown_here() -> None:
    attributes = {"wsicomp": {"format_version": FORMAT_VERSION + 1, "novelty": 1}}
    with pytest.raises(StoreVersion, match="update wsicomp"):
        StoreHeader.from_attributes(attributes)


@dataclass(frozen=True)
class NextHeader(StoreHeader):
    """The header of a format after this one."""

    novelty: int = since(FORMAT_VERSION + 1, 0)


@pytest.fixture
def next_format(tmp_path: Path) -> Path:
    """A store that a program of the next format has written."""
    path = tmp_path / "next.zarr"
    content = make_content()
    values = {item.name: getattr(content.header, item.name) for item in fields(content.header)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "FORMAT_VERSION", FORMAT_VERSION + 1)
        patch.setattr(writer, "FORMAT_VERSION", FORMAT_VERSION + 1)
        newer = NextHeader(**{**values, "format_version": FORMAT_VERSION + 1, "novelty": 3})
        write_content(path, replace(content, header=newer))
    seal(path, FORMAT_VERSION + 1)
    return path


def test_a_store_of_the_next_format_is_told_apart_from_damage(next_format: Path) -> None:
    newer = rf"next\.zarr: format version {FORMAT_VERSION + 1} is newer than {FORMAT_VERSION}; update wsicomp"
    for use in (StoreReader, verify):
        with pytest.raises(StoreVersion, match=newer):
            use(next_format)
    metadata = next_format / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"features":[]', '"features":["wavelets"]'))
    seal(next_format, FORMAT_VERSION + 1)
    for use in (StoreReader, verify):
        with pytest.raises(StoreVersion, match=r"next\.zarr: needs feature 'wavelets'; update wsicomp"):
            use(next_format)


def test_a_program_of_the_next_format_reads_every_store_of_this_one(
    next_format: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "FORMAT_VERSION", FORMAT_VERSION + 1)
    paths = {FORMAT_VERSION + 1: next_format, FORMAT_VERSION: store, 1: FOLDER / "v1-int8.zarr"}
    for version, path in paths.items():
        with closing(open_container(path)) as container:
            attributes = json.loads(container.read("zarr.json", 0, container.sizes["zarr.json"]))["attributes"]
            assert read_manifest(container, str(path)).format_version == version
        header = NextHeader.from_attributes(attributes)
        assert isinstance(header, NextHeader)
        assert (header.format_version, header.novelty) == (version, 3 if version > FORMAT_VERSION else 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("mpp", (math.nan, 0.5)), ("mpp", [0.5, 0.5]), ("tissue_rule", {"a": math.inf}), ("levels", (1,))],
)
def test_a_header_that_json_cannot_hold_is_never_made(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field.rstrip("s")):
        replace(HEADER, **{field: value})


def test_a_floor_needs_pictures_to_fall_back_on() -> None:
    with pytest.raises(ValueError, match="needs the feature pictures"):
        replace(HEADER, floor={"min_psnr_db": 34.0})


@pytest.mark.parametrize("latent_dtype", ["float16", "float32"])
def test_floats_are_never_entropy_coded(latent_dtype: LatentDtype) -> None:
    with pytest.raises(ValueError, match=f"entropy codes int8 and int16, not latent_dtype {latent_dtype}"):
        replace(HEADER, entropy="cd" * 32, latent_dtype=latent_dtype)


def test_other_programs_are_not_told_that_latents_are_an_image() -> None:
    assert HEADER.to_attributes().keys() == {"wsicomp"}
