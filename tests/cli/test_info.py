"""`wsicomp info`."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, listing
from tests.store.stores import make_content, write_content
from wsicomp.pipeline.encoded import Encoded
from wsicomp.store.manifest import Manifest, canonical
from wsicomp.store.schema import FORMAT_VERSION


def test_of_a_slide(cli: Cli, tissue_svs: Path) -> None:
    document = cli("info", tissue_svs, "--json").document
    assert (document["command"], document["status"], document["kind"]) == ("info", "ok", "slide")
    assert (document["vendor"], document["width_px"], document["height_px"]) == ("aperio", 1400, 1100)
    assert document["mpp"] == [0.5, 0.5]
    assert [level["downsample"] for level in document["levels"]] == [1, 4, 16]
    assert document["source_bytes"] == tissue_svs.stat().st_size

    ended = cli("info", tissue_svs)
    assert ended.code == 0
    for text in ("vendor: aperio", "level 0: width_px 1400, height_px 1100, downsample 1", "level 2: width_px 87"):
        assert text in ended.out


def test_of_a_store(cli: Cli, encoded_once: Path, tissue_svs: Path) -> None:
    before = listing(encoded_once)
    document = cli("info", encoded_once, "--json").document
    assert (document["command"], document["status"], document["kind"]) == ("info", "ok", "store")
    store_bytes = sum(len(content or b"") for content in before.values())
    assert document["store_bytes"] == store_bytes
    assert document["bits_per_pixel"] == pytest.approx(8 * store_bytes / (1400 * 1100))
    assert document["ratio_to_source"] == pytest.approx(store_bytes / tissue_svs.stat().st_size)
    assert 0 < document["glass_share"] < 1
    assert (document["model"], document["depth"], document["latent_dtype"]) == ("wsic", 3, "int16")
    assert document["mpp"] == [0.5, 0.5]
    assert document["format_version"] == FORMAT_VERSION
    assert listing(encoded_once) == before

    ended = cli("info", encoded_once)
    assert ended.code == 0
    assert "level 0: downsample 1, width_px 1400, height_px 1100" in ended.out


def test_a_packed_store_under_another_name(cli: Cli, slide: Path) -> None:
    assert cli("encode", slide, "--depth", "4", "--mpp", "2", "--zip").code == 0
    packed = slide.with_suffix(".zarr.zip").rename(slide.with_name("renamed.zip"))
    document = cli("info", packed, "--json").document
    assert (document["kind"], document["depth"]) == ("store", 4)
    foreign = slide.with_name("foreign.zip")
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("a.txt", "hello")
    cli("info", foreign).failed(3, "foreign.zip", "not a latent store")


def test_of_a_store_from_no_file(cli: Cli, tmp_path: Path) -> None:
    write_content(tmp_path / "a.zarr", make_content())
    assert cli("info", tmp_path / "a.zarr", "--json").document["source_bytes"] == 123_456


def test_encoded_counts_no_ratio_where_there_is_no_source_file() -> None:
    assert Encoded(Path("a"), 3, None, 100, None, 50, 1, 1, 0.1).ratio_to_source is None


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("missing.svs", "no such file"),
        ("missing.zarr", "no such store"),
        ("text.svs", "not a slide"),
        (".", "not a latent store"),
    ],
)
def test_what_is_neither(cli: Cli, tmp_path: Path, name: str, word: str) -> None:
    (tmp_path / "text.svs").write_text("hello")
    ended = cli("info", tmp_path / name, "--json")
    ended.failed(3, str(tmp_path / name), word)
    assert ended.document["command"] == "info"


def test_a_partial_store_is_called_unfinished(cli: Cli, store: Path) -> None:
    (store / "manifest.json").unlink()
    cli("info", store).failed(3, "manifest.json")
    store.rename(store.with_name("tissue.zarr.partial"))
    cli("info", store.with_name("tissue.zarr.partial")).failed(3, "not finished")


def newer(store: Path) -> None:
    """Make a store one of the next format version, its checksums in order."""
    manifest = store / "manifest.json"
    record = json.loads(manifest.read_bytes())
    record["format_version"] = FORMAT_VERSION + 1
    del record["sha256"]
    record["sha256"] = hashlib.sha256(canonical(record)).hexdigest()
    manifest.write_bytes(canonical(record) + b"\n")


@pytest.mark.parametrize(
    "arguments", [("info", "S"), ("decode", "S", "-o", "a.png"), ("verify", "S")], ids=lambda words: words[0]
)
def test_a_newer_format_asks_for_an_update(cli: Cli, store: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert Manifest.from_bytes((store / "manifest.json").read_bytes(), "a").files
    newer(store)
    before = listing(tmp_path)
    ended = cli(*(str(store) if word == "S" else word for word in arguments))
    assert ended.code == 3
    (line,) = ended.err.splitlines()
    assert f"format version {FORMAT_VERSION + 1} is newer" in line
    assert "update wsicomp" in line
    assert listing(tmp_path) == before


def test_resume_never_replaces_a_store_of_a_newer_format(cli: Cli, slide: Path, store: Path) -> None:
    newer(store)
    store.rename(slide.with_suffix(".zarr"))
    before = listing(slide.parent)
    for flag in ("--resume", "--overwrite"):
        cli("encode", slide, flag).failed(3, "newer")
        assert listing(slide.parent) == before
