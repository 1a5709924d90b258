"""`wsicomp encode` with a floor, and what the other verbs make of its stores."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image

from tests.cli.conftest import Cli, fails
from wsicomp.pipeline.view import LatentSlide
from wsicomp.slides.local import open_native
from wsicomp.store.reader import StoreReader
from wsicomp.store.tiles import IS_PICTURE

STUDY = "perticarari2023"


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsicomp.slides.opening.ReaderProcess", open_native)


@pytest.fixture
def floored(cli: Cli, slide: Path) -> Path:
    """A store in which no tile is below 27 dB; level 0 is of latents and of JPEG XL."""
    assert cli("encode", slide, "--model", STUDY, "--depth", "4", "--min-psnr", "21").code == 0
    store = slide.with_suffix(".zarr")
    with StoreReader(store) as reader:
        quality = reader.quality(0)
        assert quality is not None
        assert {0, IS_PICTURE} <= set(quality[reader.tissue(0)].tolist())
    return store


def test_encode_says_what_became_of_the_tiles(cli: Cli, slide: Path) -> None:
    ended = cli("encode", slide, "--model", STUDY, "--min-psnr", "33", "--min-ms-ssim", "0.95", "--json")
    assert (ended.code, ended.err) == (0, "")
    (result,) = ended.document["results"]
    assert result["floor"] == {"min_psnr_db": 33, "min_ms_ssim": 0.95}
    assert 0 < result["jpegxl_tiles"] <= result["tissue_tiles"]
    assert result["raised_tiles"] == 0
    ended = cli("encode", slide, "--model", STUDY, "--min-psnr", "33", "--min-ms-ssim", "0.95", "--overwrite")
    assert f" 0 raised above their quality, {result['jpegxl_tiles']} as JPEG XL, " in ended.out


def test_without_a_floor_nothing_is_said_of_it(cli: Cli, slide: Path) -> None:
    ended = cli("encode", slide)
    assert "raised" not in ended.out
    assert cli("info", slide.with_suffix(".zarr"), "--json").document["floor"] is None
    assert "psnr_db" not in cli("info", slide.with_suffix(".zarr")).out


def test_info(cli: Cli, floored: Path) -> None:
    document = cli("info", floored, "--json").document
    assert document["floor"] == {"min_psnr_db": 21}
    with StoreReader(floored) as reader:
        masks = [reader.tissue(level) for level in range(3)]
        psnr, similarity = np.concatenate(
            [fidelity[mask] for level, mask in enumerate(masks) if (fidelity := reader.fidelity(level)) is not None]
        ).T
        quality = np.concatenate(
            [q[mask] for level, mask in enumerate(masks) if (q := reader.quality(level)) is not None]
        )
    assert document["latent_tiles"] + document["jpegxl_tiles"] == document["tissue_tiles"] == len(quality)
    assert document["jpegxl_tiles"] == (quality == IS_PICTURE).sum() > 0
    assert document["psnr_db"] == pytest.approx({"min": psnr.min(), "median": np.median(psnr)})
    assert document["ms_ssim"] == pytest.approx({"min": similarity.min(), "median": np.median(similarity)})
    assert document["psnr_db"]["min"] >= 21
    assert document["lossless_tiles"] == 0
    text = cli("info", floored).out
    assert "floor: min_psnr_db 21\n" in text
    assert f"jpegxl_tiles: {document['jpegxl_tiles']}\n" in text
    assert f"psnr_db: min {document['psnr_db']['min']:g}, median {document['psnr_db']['median']:g}\n" in text


def test_info_counts_qualities(cli: Cli, slide: Path, wsic_weights: Path) -> None:
    cli("encode", slide, "--model", wsic_weights, "--depth", "4", "--quality", "0", "--min-psnr", "1")
    document = cli("info", slide.with_suffix(".zarr"), "--json").document
    assert sum(document["tiles_by_quality"].values()) == document["latent_tiles"]
    assert set(document["tiles_by_quality"]) <= {str(quality) for quality in range(8)}


def test_lossless_in_the_end(cli: Cli, slide: Path, tmp_path: Path) -> None:
    assert cli("encode", slide, "--min-psnr", "200").code == 0
    store = slide.with_suffix(".zarr")
    document = cli("info", store, "--json").document
    assert document["lossless_tiles"] == document["jpegxl_tiles"] == document["tissue_tiles"]
    assert document["psnr_db"] == {"min": None, "median": None}
    assert "psnr_db: min -, median -\n" in cli("info", store).out
    cli("decode", store, "-o", tmp_path / "a.png", "--region", "512,512,256,256")
    with openslide.OpenSlide(slide) as original, Image.open(tmp_path / "a.png") as decoded:
        expected = original.read_region((512, 512), 0, (256, 256)).convert("RGB")
        np.testing.assert_array_equal(np.asarray(decoded), np.asarray(expected))


def test_a_whole_slide_decodes_to_what_its_tiles_do(cli: Cli, floored: Path, tmp_path: Path) -> None:
    assert cli("decode", floored, "-o", tmp_path / "a.tif").code == 0
    with LatentSlide(floored) as opened, openslide.OpenSlide(tmp_path / "a.tif") as exported:
        for level, size in enumerate(opened.level_dimensions):
            pixels = np.asarray(exported.read_region((0, 0), level, size))[..., :3]
            np.testing.assert_array_equal(pixels, opened.read_rgb(level, 0, 0, *size))


def test_verify(cli: Cli, floored: Path, slide: Path) -> None:
    ended = cli("verify", floored, "--against", slide, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert all(level["psnr_db"] >= 21 for level in ended.document["results"][0]["fidelity"])
    shard = floored / "jpegxl/0/c/0/0/0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    ended = cli("verify", floored, "--json")
    assert ended.code == 3
    (damage,) = ended.document["results"][0]["damage"]
    assert (damage["path_in_store"], damage["level"]) == ("jpegxl/0/c/0/0/0", 0)
    assert damage["row"] is not None
    with StoreReader(floored) as reader:
        grid = reader.header.grid(0)
        tile = grid.tile(damage["row"], damage["col"])
    where = f"{tile.x_px},{tile.y_px},{tile.width_px},{tile.height_px}"
    ended = cli("decode", floored, "-o", "a.png", "--region", where)
    ended.failed(3, f"level 0, tile row {tile.row}, col {tile.col} is damaged")


def test_keep_prediction(cli: Cli, slide: Path, bright_onnx: Path, tiny_classifier: Path) -> None:
    asked = ("encode", slide, "--model", STUDY, "--depth", "4", "--keep-prediction")
    (result,) = cli(*asked, bright_onnx, "--max-logit-shift", "0.5", "--json").document["results"]
    digest = hashlib.sha256(bright_onnx.read_bytes()).hexdigest()
    assert result["floor"] == {"classifier": digest, "threshold": 0.5, "max_logit_shift": 0.5}
    assert result["jpegxl_tiles"] > 0
    (result,) = cli(*asked, tiny_classifier, "--overwrite", "--json").document["results"]
    digest = hashlib.sha256(tiny_classifier.read_bytes()).hexdigest()
    assert result["floor"] == {"classifier": digest, "threshold": 0.4}


def test_resume_tells_floors_apart(cli: Cli, slide: Path, floored: Path) -> None:
    asked = ("encode", slide, "--model", STUDY, "--depth", "4", "--resume")
    assert "complete already" in cli(*asked, "--min-psnr", "21").out
    (result,) = cli(*asked, "--min-psnr", "21", "--json").document["results"]
    assert result["jpegxl_tiles"] == cli("info", floored, "--json").document["jpegxl_tiles"]
    cli(*asked, "--min-psnr", "25").failed(2, "other settings")
    cli(*asked).failed(2, "other settings")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--min-ms-ssim", "1.5"], 2, ("MS-SSIM", "1.5", "at most 1")),
        (["--min-ms-ssim", "0"], 2, ("MS-SSIM",)),
        (["--min-ms-ssim", "nan"], 2, ("MS-SSIM",)),
        (["--min-psnr", "-3"], 2, ("PSNR", "-3")),
        (["--min-psnr", "nan"], 2, ("PSNR",)),
        (["--min-psnr", "inf"], 2, ("PSNR",)),
        (["--max-logit-shift", "0.5"], 2, ("--keep-prediction",)),
        (["--max-logit-shift", "0.5", "--min-psnr", "30"], 2, ("--keep-prediction",)),
        (["--keep-prediction", "none.onnx"], 3, ("none.onnx",)),
        (["--keep-prediction", "nobody"], 3, ("nobody",)),
        (["--keep-prediction", "perticarari2023"], 3, ("perticarari2023",)),
        (["--keep-prediction", "perticarari2023-classifier-lung", "--max-logit-shift", "0"], 2, ("logit shift",)),
    ],
)
def test_nonsense_is_refused_in_one_line(
    cli: Cli, slide: Path, tmp_path: Path, options: list[str], code: int, words: tuple[str, ...]
) -> None:
    fails(cli, tmp_path, code, words, slide, *options)
