"""`wsicomp decode`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image

from tests.cli.conftest import Cli, fails, listing
from wsicomp.pipeline.view import LatentSlide


def pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_the_whole_as_a_picture(cli: Cli, encoded_once: Path, name: str) -> None:
    ended = cli("decode", encoded_once, "-o", name)
    assert (ended.code, ended.out, ended.err) == (0, f"{name}: 1400 x 1100 pixels, 1 level\n", "")
    assert pixels(Path(name)).shape == (1100, 1400, 3)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_region_is_the_crop_of_the_level(cli: Cli, encoded_once: Path, name: str) -> None:
    ended = cli("decode", encoded_once, "-o", name, "--region", "30,40,100,80", "--level", "1", "--json")
    assert ended.document == {
        "command": "decode",
        "status": "ok",
        "results": [{"store": str(encoded_once), "output": name, "width_px": 100, "height_px": 80, "levels": 1}],
    }
    assert cli("decode", encoded_once, "-o", "level.png", "--level", "1").code == 0
    np.testing.assert_array_equal(pixels(Path(name)), pixels(Path("level.png"))[40:120, 30:130])


@pytest.mark.parametrize("options", [[], ["--jpeg-quality", "90"]], ids=["lossless", "jpeg"])
def test_the_whole_as_a_pyramid_that_openslide_opens(cli: Cli, encoded_once: Path, options: list[str]) -> None:
    document = cli("decode", encoded_once, "-o", "a.tif", *options, "--json").document
    assert document["results"][0]["levels"] == 3
    with openslide.OpenSlide("a.tif") as exported, LatentSlide(encoded_once) as latent:
        assert exported.level_dimensions == latent.level_dimensions == ((1400, 1100), (350, 275), (87, 68))
        for axis in "xy":
            assert float(exported.properties[f"openslide.mpp-{axis}"]) == pytest.approx(0.5)
        for level, size in enumerate(latent.level_dimensions):
            found = np.asarray(exported.read_region((0, 0), level, size))[..., :3].astype(int)
            error = np.abs(found - latent.read_rgb(level, 0, 0, *size))
            assert error.mean() < 4 if options else not error.any()


def test_a_zip_decodes_like_its_folder(cli: Cli, slide: Path) -> None:
    assert cli("encode", slide, "--depth", "4").code == 0
    assert cli("encode", slide, "--depth", "4", "--zip").code == 0
    for name in ("slide.zarr", "slide.zarr.zip"):
        assert cli("decode", name, "-o", f"{name}.png").code == 0
    assert Path("slide.zarr.png").read_bytes() == Path("slide.zarr.zip.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["-o", "a.png", "--region", "1300,0,200,10"], 2, ("1300,0,200,10", "1400 x 1100")),
        (["-o", "a.png", "--region", "0,0,0,10"], 2, ("not inside",)),
        (["-o", "a.png", "--region", "0,0,10"], 2, ("--region", "X,Y,W,H")),
        (["-o", "a.png", "--region", "a,b,c,d"], 2, ("--region",)),
        (["-o", "a.png", "--level", "3"], 2, ("levels 0 to 2",)),
        (["-o", "a.png", "--level", "-1"], 2, ("--level",)),
        (["-o", "a.bmp"], 2, (".png",)),
        (["-o", "none/a.png"], 2, ("does not exist",)),
        (["-o", "none/a.tif"], 2, ("does not exist",)),
        (["-o", "a.png", "--jpeg-quality", "80"], 2, ("--jpeg-quality",)),
        (["-o", "a.ome.tif"], 2, ("OME-TIFF is not written",)),
        (["-o", "a.tif", "--jpeg-quality", "0"], 2, ("--jpeg-quality",)),
        (["-o", "a.png", "--device", "abacus"], 2, ("abacus",)),
        (["-o", "a.png", "--model", "none-such"], 3, ("none-such",)),
    ],
)
def test_refusals(
    cli: Cli, tmp_path: Path, encoded_once: Path, options: list[str], code: int, words: tuple[str, ...]
) -> None:
    fails(cli, tmp_path, code, words, encoded_once, *options, command="decode")


def test_what_stands_there_stays(cli: Cli, tmp_path: Path, encoded_once: Path) -> None:
    for name in ("a.png", "a.tif"):
        (tmp_path / name).write_bytes(b"mine")
        fails(cli, tmp_path, 2, (name, "--overwrite"), encoded_once, "-o", name, command="decode")
        assert cli("decode", encoded_once, "-o", name, "--overwrite").code == 0
        assert (tmp_path / name).read_bytes() != b"mine"


def test_weights_that_do_not_match(cli: Cli, slide: Path, white_codec: Path) -> None:
    assert cli("encode", slide, "--model", white_codec, "--depth", "2").code == 0
    store = slide.with_suffix(".zarr")
    fails(cli, slide.parent, 3, ("weights", "--model"), store, "-o", "a.png", command="decode")
    fails(cli, slide.parent, 3, ("weights",), store, "-o", "a.png", "--model", "perticarari2023", command="decode")
    assert cli("decode", store, "-o", "a.png", "--model", white_codec).code == 0
    assert (pixels(Path("a.png"))[260:600, 300:800] == 255).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_damaged_tile_is_named_and_leaves_nothing(cli: Cli, store: Path, name: str) -> None:
    shard = store / "latents/0/c/0/0/0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    fails(cli, store.parent, 3, (str(store), "level 0, tile row"), store, "-o", name, command="decode")


def test_no_store(cli: Cli, tmp_path: Path, tissue_svs: Path) -> None:
    fails(cli, tmp_path, 3, ("no such store",), "none.zarr", "-o", "a.png", command="decode")
    fails(cli, tmp_path, 3, ("not a latent store",), tissue_svs, "-o", "a.png", command="decode")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_full_disk_leaves_nothing(
    cli: Cli, tmp_path: Path, encoded_once: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    fails(cli, tmp_path, 3, (name, "cannot be written"), encoded_once, "-o", name, command="decode")
    assert listing(tmp_path) == {}
