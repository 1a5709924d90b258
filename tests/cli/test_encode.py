"""`wsicomp encode`."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.cli.conftest import Cli, fails, listing
from tests.factories import tissue_image
from wsicomp.pipeline.export import export
from wsicomp.pipeline.tiff import PyramidLevel, write_pyramid
from wsicomp.pipeline.view import LatentSlide
from wsicomp.slides.local import open_native
from wsicomp.store.reader import StoreReader
from wsicomp.store.verify import verify

CONTRACT = {
    *("slide", "store", "depth", "quality", "source_bytes", "store_bytes", "bits_per_pixel", "ratio_to_source"),
    *("tiles", "tissue_tiles", "seconds"),
}
"""Keys of a result that scripts rely on."""

STATUS = "wsicomp-status.jsonl"


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slides that are known to be sound need no process of their own."""
    monkeypatch.setattr("wsicomp.slides.opening.ReaderProcess", open_native)


@pytest.fixture
def truncated(slide: Path) -> Path:
    path = slide.with_name("truncated.svs")
    path.write_bytes(slide.read_bytes()[: slide.stat().st_size // 2])
    return path


@pytest.fixture
def without_mpp(tmp_path: Path) -> Path:
    """A tiled TIFF that says nothing of its resolution."""
    image = tissue_image(600, 520, 40, 4)
    tiles = (np.ascontiguousarray(image[:512, x : x + 256][y : y + 256]) for y in (0, 256) for x in (0, 256))
    path = tmp_path / "unscaled.tif"
    write_pyramid(path, [PyramidLevel(512, 512, tiles)], tile_size=256, mpp=None, icc_profile=None)
    return path


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_one_slide_beside_itself(cli: Cli, slide: Path, depth: int) -> None:
    ended = cli("encode", slide, "--depth", depth)
    store = slide.with_suffix(".zarr")
    assert (ended.code, ended.err) == (0, "")
    assert f"{store}: depth {depth}, " in ended.out
    assert sorted(listing(slide.parent))[:2] == ["slide.svs", "slide.zarr"]
    assert verify(store) == []
    with StoreReader(store) as reader:
        assert reader.header.depth == depth
        assert reader.header.mpp == (0.5, 0.5)
        assert reader.header.vendor == "aperio"


@pytest.mark.usefixtures("in_this_process")
def test_the_document(cli: Cli, slide: Path) -> None:
    ended = cli("encode", slide, "--json")
    store = slide.with_suffix(".zarr")
    document = ended.document
    assert (ended.code, ended.err) == (0, "")
    assert document.keys() == {"command", "status", "exit_code", "results", "failures"}
    assert (document["command"], document["status"], document["failures"]) == ("encode", "ok", [])
    (result,) = document["results"]
    store_bytes = sum(len(content or b"") for content in listing(store).values())
    assert result.pop("seconds") > 0
    assert result.pop("fidelity").keys() >= {"psnr_db", "ms_ssim", "tiles"}
    assert result == {
        "slide": str(slide),
        "store": str(store),
        "status": "ok",
        "depth": 3,
        "quality": 4,
        "source_bytes": slide.stat().st_size,
        "store_bytes": store_bytes,
        "bits_per_pixel": 8 * store_bytes / (1400 * 1100),
        "ratio_to_source": store_bytes / slide.stat().st_size,
        "tiles": 35,
        "tissue_tiles": result["tissue_tiles"],
        "glass_share": 1 - result["tissue_tiles"] / 35,
        "floor": None,
        "raised_tiles": 0,
        "jpegxl_tiles": 0,
        "damaged_tiles": [],
        "warnings": [],
    }
    assert 4 < result["tissue_tiles"] < 35


@pytest.mark.usefixtures("in_this_process")
def test_many_slides_into_a_new_folder(cli: Cli, slide: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(slide, tmp_path / "other.svs"))
    document = cli("encode", slide, other, "-o", tmp_path / "out/deep", "--depth", "4", "--json").document
    stores = [tmp_path / "out/deep/slide.zarr", tmp_path / "out/deep/other.zarr"]
    assert [result["store"] for result in document["results"]] == [str(store) for store in stores]
    assert [verify(store) for store in stores] == [[], []]


@pytest.mark.usefixtures("in_this_process")
def test_a_folder_of_slides(cli: Cli, slide: Path, tmp_path: Path) -> None:
    shutil.copy(slide, tmp_path / "other.svs")
    (tmp_path / "notes.txt").write_text("no slide")
    assert cli("encode", tmp_path, "--depth", "4").code == 0
    assert sorted(path.name for path in tmp_path.glob("*.zarr")) == ["other.zarr", "slide.zarr"]


@pytest.mark.usefixtures("in_this_process")
def test_a_named_store_and_a_zip(cli: Cli, slide: Path, tmp_path: Path) -> None:
    assert cli("encode", slide, "-o", tmp_path / "named.zarr").code == 0
    assert cli("encode", slide, "--zip", "-o", tmp_path / "named.zarr.zip").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["named.zarr", "named.zarr.zip", "slide.svs"]
    with LatentSlide(tmp_path / "named.zarr") as folder, LatentSlide(tmp_path / "named.zarr.zip") as packed:
        export(folder, tmp_path / "folder.tif")
        export(packed, tmp_path / "packed.tif")
    assert (tmp_path / "folder.tif").read_bytes() == (tmp_path / "packed.tif").read_bytes()


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--mpp", "1.0"], {"mpp": (1.0, 1.0), "width_px": 700}),
        (["--tile-size", "128"], {"tile_size": 128, "width_px": 1400}),
        (["--levels", "1"], {"levels": 1}),
        (["--all-tiles"], {"tissue_tiles": 35}),
        (["--model", "perticarari2023", "--latent-dtype", "float16"], {"latent_dtype": "float16"}),
        (["--workers", "1"], {"width_px": 1400}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_options(cli: Cli, slide: Path, options: list[str], expected: dict[str, Any]) -> None:
    assert cli("encode", slide, *options).code == 0
    with StoreReader(slide.with_suffix(".zarr")) as reader:
        header = reader.header
    found = {
        "mpp": header.mpp,
        "width_px": header.levels[0].width_px,
        "tile_size": header.tile_size,
        "levels": len(header.levels),
        "tissue_tiles": header.tissue_tiles,
        "latent_dtype": header.latent_dtype,
    }
    assert {key: found[key] for key in expected} == expected


@pytest.mark.usefixtures("in_this_process")
def test_a_higher_threshold_finds_less_tissue(cli: Cli, slide: Path) -> None:
    tiles = [
        cli("encode", slide, "--tissue-threshold", level, "--overwrite", "--json").document["results"][0][
            "tissue_tiles"
        ]
        for level in (10, 200)
    ]
    assert tiles[1] < tiles[0]


@pytest.mark.usefixtures("in_this_process")
def test_a_slide_without_mpp_is_encoded_with_one_warning(cli: Cli, without_mpp: Path) -> None:
    ended = cli("encode", without_mpp, "--json")
    assert ended.code == 0
    (line,) = ended.err.splitlines()
    assert line.startswith(f"wsicomp: warning: {without_mpp}: ")
    assert "micrometres per pixel" in line
    with StoreReader(without_mpp.with_suffix(".zarr")) as reader:
        assert reader.header.mpp is None


@pytest.mark.parametrize("content", [b"hello", b"", b"II*\0" + bytes(60)], ids=["text", "empty", "no pages"])
def test_what_is_no_slide(cli: Cli, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.svs").write_bytes(content)
    fails(cli, tmp_path, 3, ("a.svs",), tmp_path / "a.svs")


def test_a_truncated_slide(cli: Cli, slide: Path, truncated: Path) -> None:
    fails(cli, slide.parent, 3, (str(truncated),), truncated)


def test_a_slide_damaged_in_the_middle(cli: Cli, slide: Path) -> None:
    with tifffile.TiffFile(slide) as tiff:
        offset = tiff.pages.first.dataoffsets[12]
    with slide.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(400))
    fails(cli, slide.parent, 3, ("level 0 tile", "damaged"), slide, "--all-tiles")


@pytest.mark.usefixtures("in_this_process")
class TestRefusals:
    def test_a_missing_slide(self, cli: Cli, tmp_path: Path) -> None:
        fails(cli, tmp_path, 3, ("none.svs", "no such file"), tmp_path / "none.svs")

    def test_an_empty_folder(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        fails(cli, tmp_path, 2, ("empty", "no slide in this folder"), tmp_path / "empty")

    @pytest.mark.parametrize("depth", [5, 9])
    def test_an_unknown_depth(self, cli: Cli, slide: Path, depth: int) -> None:
        fails(
            cli,
            slide.parent,
            2,
            (f"depth {depth} is unknown", "this model has depths 1, 2, 3, 4"),
            slide,
            "--depth",
            depth,
        )

    @pytest.mark.parametrize(
        ("options", "code", "word"),
        [
            (["--tile-size", "100"], 2, "multiple of 8"),
            (["--latent-dtype", "int4"], 2, "int4"),
            (["--device", "abacus"], 2, "abacus"),
            (["--overwrite", "--resume"], 2, "exclude each other"),
            (["--mpp", "0.1"], 2, "finer than the slide"),
            (["--mpp", "-1"], 2, "mpp"),
            (["--mpp", "nan"], 2, "mpp"),
            (["--mpp", "9000"], 2, "mpp"),
            (["--zip", "-o", "a.zarr"], 2, ".zarr.zip"),
            (["--model", "none-such"], 3, "none-such"),
        ],
    )
    def test_impossible_options(self, cli: Cli, slide: Path, options: list[str], code: int, word: str) -> None:
        fails(cli, slide.parent, code, (word,), slide, *options)

    def test_weights_of_a_classifier(self, cli: Cli, slide: Path, tiny_classifier: Path) -> None:
        fails(cli, slide.parent, 3, ("perticarari2023-classifier",), slide, "--model", tiny_classifier)

    def test_damaged_weights(self, cli: Cli, slide: Path, tiny_classifier: Path) -> None:
        path = slide.with_name("own.safetensors")
        path.write_bytes(tiny_classifier.read_bytes()[:500])
        fails(cli, slide.parent, 3, ("own.safetensors",), slide, "--model", path)

    def test_two_slides_of_one_name(self, cli: Cli, slide: Path) -> None:
        other = Path(shutil.copy(slide, slide.with_suffix(".tif")))
        words = (str(slide), str(other), "would both become")
        fails(cli, slide.parent, 2, words, *sorted(slide.parent.glob("slide.*")))
        fails(cli, slide.parent, 2, words, slide.parent)

    def test_two_slides_into_one_store(self, cli: Cli, slide: Path) -> None:
        other = Path(shutil.copy(slide, slide.with_name("other.svs")))
        fails(cli, slide.parent, 2, ("2 slides",), slide, other, "-o", "one.zarr")

    @pytest.mark.parametrize("zipped", [False, True])
    def test_an_existing_store(self, cli: Cli, slide: Path, zipped: bool) -> None:
        options = ["--zip"] if zipped else []
        assert cli("encode", slide, *options).code == 0
        fails(cli, slide.parent, 2, ("exists", "--overwrite", "--resume"), slide, "--depth", "2", *options)
        assert cli("encode", slide, "--depth", "2", "--overwrite", *options).code == 0
        with StoreReader(slide.with_suffix(".zarr.zip" if zipped else ".zarr")) as reader:
            assert reader.header.depth == 2

    @pytest.mark.parametrize("flag", ["--overwrite", "--resume"])
    def test_what_is_no_store_is_never_replaced(self, cli: Cli, slide: Path, flag: str) -> None:
        target = slide.with_suffix(".zarr")
        target.mkdir()
        (target / "thesis.txt").write_text("ten years of work")
        fails(cli, slide.parent, 2, ("not a latent store",), slide, flag)

    def test_a_file_where_the_folder_should_be(self, cli: Cli, slide: Path) -> None:
        (slide.parent / "out").write_text("a file")
        fails(cli, slide.parent, 2, ("out", "a file where a folder is needed"), slide, "-o", slide.parent / "out")

    def test_mpp_of_a_slide_that_does_not_say_its_own(self, cli: Cli, without_mpp: Path) -> None:
        fails(cli, without_mpp.parent, 2, ("does not say its micrometres per pixel",), without_mpp, "--mpp", "1")

    @pytest.mark.parametrize("old", [False, True])
    @pytest.mark.parametrize("options", [[], ["--zip"]], ids=["folder", "zip"])
    def test_a_full_disk(self, cli: Cli, slide: Path, options: list[str], old: bool) -> None:
        if old:
            assert cli("encode", slide, *options, "--depth", "4").code == 0
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        try:
            fails(cli, slide.parent, 3, ("cannot be written",), slide, "--overwrite", "--depth", "1", *options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @pytest.mark.parametrize(
        ("place", "number", "words"),
        [
            ("wsicomp.store.manifest.hash_and_sync", 28, "the disk is full"),
            ("wsicomp.store.writer.write_file", 28, "the disk is full"),
            ("wsicomp.store.writer.os.rename", 28, "the disk is full"),
            ("wsicomp.store.lock.os.open", 30, "read-only"),
            ("wsicomp.store.lock.os.open", 13, "permission denied"),
        ],
    )
    def test_a_disk_that_refuses(
        self, cli: Cli, slide: Path, monkeypatch: pytest.MonkeyPatch, place: str, number: int, words: str
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError(number, "refused")

        monkeypatch.setattr(place, refuse)
        before = sorted(path.name for path in slide.parent.iterdir())
        cli("encode", slide).failed(3, "slide.zarr", words)
        ended = cli("encode", slide, "--json")
        ended.failed(3, words)
        assert words in ended.document["failures"][0]["error"]
        monkeypatch.undo()
        assert sorted(path.name for path in slide.parent.iterdir()) == before


def flip(store: Path) -> None:
    shard = store / "latents/0/c/0/0/0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


def lose_shard(store: Path) -> None:
    (store / "latents/0/c/0/0/0").unlink()


def unfinish(store: Path) -> None:
    store.rename(store.with_name(store.name + ".partial"))


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("damage", [flip, lose_shard, unfinish])
def test_resume_skips_what_is_whole_and_makes_the_rest(cli: Cli, slide: Path, damage: Callable[[Path], None]) -> None:
    folder = slide.parent / "in"
    folder.mkdir()
    for name in ("done", "hurt", "new"):
        shutil.copy(slide, folder / f"{name}.svs")
    assert cli("encode", folder / "done.svs", folder / "hurt.svs").code == 0
    first = listing(folder)
    del first[STATUS]
    damage(folder / "hurt.zarr")

    ended = cli("encode", folder, "--resume", "--json")
    assert (ended.code, ended.err) == (0, "")
    results = ended.document["results"]
    assert [result["status"] for result in results] == ["skipped", "ok", "ok"]
    for result in results:
        assert result.keys() >= CONTRACT
    after = listing(folder)
    del after[STATUS]
    assert {name: after.get(name) for name in first} == first
    assert verify(folder / "new.zarr") == []

    ended = cli("encode", folder, "--resume")
    assert ended.out.count("complete already, skipped") == 3
    assert {name: content for name, content in listing(folder).items() if name != STATUS} == after


def test_skip_errors_does_the_good_ones_and_lists_the_rest(cli: Cli, slide: Path, truncated: Path) -> None:
    text = slide.with_name("a.svs")
    text.write_text("hello")
    ended = cli("encode", text, slide, truncated, "--skip-errors")
    assert ended.code == 3
    lines = ended.err.splitlines()
    assert [line.startswith("wsicomp: error: ") for line in lines] == [True, True, False, False, False]
    assert lines[2:] == ["2 of 3 slides failed:", f"  {text}", f"  {truncated}"]
    assert [path.name for path in slide.parent.glob("*.zarr")] == ["slide.zarr"]
    assert verify(slide.with_suffix(".zarr")) == []

    document = cli("encode", text, slide, truncated, "--skip-errors", "--json", "--overwrite").document
    assert document["status"] == "error"
    assert [result["slide"] for result in document["results"]] == [str(slide)]
    assert [failure["slide"] for failure in document["failures"]] == [str(text), str(truncated)]


def test_without_skip_errors_the_first_failure_ends_it(cli: Cli, slide: Path, truncated: Path) -> None:
    before = listing(slide.parent)
    cli("encode", truncated, slide).failed(3, "truncated.svs")
    after = listing(slide.parent)
    assert after.pop(STATUS)
    assert after == before
