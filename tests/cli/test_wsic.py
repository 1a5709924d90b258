"""Every verb with weights of `wsic`: encode, info, verify, decode, evaluate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Cli, fails
from wsicomp.codec import zarr_rans
from wsicomp.pipeline.view import LatentSlide
from wsicomp.slides.local import open_native
from wsicomp.store.reader import StoreReader


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsicomp.slides.opening.ReaderProcess", open_native)


@pytest.fixture
def encoded(cli: Cli, slide: Path, wsic_weights: Path) -> Path:
    """A store of depth 3 and quality 6."""
    assert cli("encode", slide, "--model", wsic_weights, "--quality", 6).code == 0
    return slide.with_suffix(".zarr")


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand where a new process stands: with no entropy model registered."""
    monkeypatch.setattr(zarr_rans, "_models", {})


def flip(store: Path) -> None:
    shard = store / "latents/0/c/0/0/0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)


def test_encode(cli: Cli, slide: Path, wsic_weights: Path) -> None:
    ended = cli("encode", slide, "--model", wsic_weights, "--depth", 4)
    store = slide.with_suffix(".zarr")
    assert (ended.code, ended.err) == (0, "")
    assert f"{store}: depth 4, quality 4, " in ended.out
    ended = cli("encode", slide, "--model", wsic_weights, "--depth", 4, "--quality", 6, "--overwrite", "--json")
    (result,) = ended.document["results"]
    assert (result["depth"], result["quality"]) == (4, 6)
    with StoreReader(store) as reader:
        assert (reader.header.quality, reader.header.latent_dtype) == (6, "int16")


def test_resume_tells_qualities_apart(cli: Cli, slide: Path, wsic_weights: Path, encoded: Path) -> None:
    asked = ("encode", slide, "--model", wsic_weights, "--resume")
    assert "complete already" in cli(*asked, "--quality", 6).out
    cli(*asked, "--quality", 4).failed(2, "other settings")


def test_info(cli: Cli, encoded: Path) -> None:
    document = cli("info", encoded, "--json").document
    assert (document["model"], document["depth"], document["quality"]) == ("wsic", 3, 6)
    with StoreReader(encoded) as reader:
        assert document["entropy"] == reader.header.entropy
    ended = cli("info", encoded)
    assert "quality: 6\n" in ended.out
    assert f"entropy: {document['entropy']}\n" in ended.out


def test_verify_names_the_tile_where_the_weights_are_at_hand(
    cli: Cli, encoded: Path, wsic_weights: Path, slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(monkeypatch)
    ended = cli("verify", encoded, "--model", wsic_weights, "--against", slide, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert len(ended.document["results"][0]["fidelity"]) == 3
    flip(encoded)
    forget(monkeypatch)
    ended = cli("verify", encoded, "--model", wsic_weights, "--json")
    assert ended.code == 3
    (damage,) = ended.document["results"][0]["damage"]
    assert damage["row"] is not None


def test_verify_without_the_weights_still_names_tiles(cli: Cli, encoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)
    ended = cli("verify", encoded)
    assert (ended.code, ended.out) == (0, f"{encoded}: ok\n")
    (line,) = ended.err.splitlines()
    assert line.startswith(f"wsicomp: warning: {encoded}: every tile is checked by its checksum but not decoded: ")
    flip(encoded)
    ended = cli("verify", encoded, "--json")
    assert ended.code == 3
    (damage,) = ended.document["results"][0]["damage"]
    assert damage["path_in_store"] == "latents/0/c/0/0/0"
    assert damage["row"] is not None


def test_decode(cli: Cli, encoded: Path, wsic_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)
    output = tmp_path / "region.png"
    asked = ("decode", encoded, "-o", output, "--region", "300,260,200,100")
    cli(*asked).failed(3, "--model")
    assert cli(*asked, "--model", wsic_weights).code == 0
    with LatentSlide(encoded, weights=wsic_weights) as opened, Image.open(output) as image:
        np.testing.assert_array_equal(np.asarray(image), opened.read_rgb(0, 300, 260, 200, 100))


def test_evaluate(cli: Cli, patches: Path, bright_onnx: Path, wsic_weights: Path) -> None:
    asked = ("evaluate", patches, "--classifier", bright_onnx, "--model", wsic_weights, "--resamples", "20", "--json")
    rows = cli(*asked, "--qualities", "4,5.5").document["rows"][1:]
    assert [(row["codec"], row["depth"], row["quality"]) for row in rows] == [
        ("wsic", 3, 4),
        ("wsic", 3, 5.5),
        ("wsic", 4, 4),
        ("wsic", 4, 5.5),
    ]
    assert rows[1]["bytes_per_tile"] > rows[0]["bytes_per_tile"]
    rows = cli(*asked, "--depths", "4").document["rows"]
    assert [(row["depth"], row["quality"]) for row in rows] == [(0, None), (4, 4)]


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (["--model", "W", "--quality", "8"], 2, "--quality"),
        (["--model", "W", "--depth", "2"], 2, "depth 2 is unknown"),
        (["--model", "W", "--latent-dtype", "int8"], 2, "int16"),
        (["--model", "perticarari2023", "--quality", "4"], 2, "has no qualities"),
    ],
)
def test_encode_refuses(
    cli: Cli, slide: Path, tmp_path: Path, wsic_weights: Path, options: list[str], code: int, word: str
) -> None:
    fails(cli, tmp_path, code, (word,), slide, *(str(wsic_weights) if part == "W" else part for part in options))


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (["--model", "W", "--qualities", "4,4"], 2, "--qualities"),
        (["--model", "W", "--qualities", "x"], 2, "--qualities"),
        (["--model", "W", "--qualities", "4,9"], 2, "quality 9 is unknown"),
        (["--model", "W", "--latent-dtypes", "int8"], 2, "int16"),
        (["--model", "perticarari2023", "--qualities", "4"], 2, "has no qualities"),
    ],
)
def test_evaluate_refuses(
    cli: Cli,
    tmp_path: Path,
    patches: Path,
    bright_onnx: Path,
    wsic_weights: Path,
    options: list[str],
    code: int,
    word: str,
) -> None:
    words = [str(wsic_weights) if part == "W" else part for part in options]
    fails(cli, tmp_path, code, (word,), patches, "--classifier", bright_onnx, *words, command="evaluate")
