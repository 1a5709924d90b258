"""`wsicomp verify`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli, fails, listing
from tests.factories import tissue_slide


def flip_one_tile(store: Path) -> None:
    """Damage one chunk in the middle of the shard's data."""
    shard = store / "latents/0/c/0/0/0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)


def test_sound_stores(cli: Cli, encoded_once: Path, store: Path) -> None:
    ended = cli("verify", encoded_once, store)
    assert (ended.code, ended.out, ended.err) == (0, f"{encoded_once}: ok\n{store}: ok\n", "")
    document = cli("verify", store, "--json").document
    assert document == {
        "command": "verify",
        "status": "ok",
        "exit_code": 0,
        "results": [{"store": str(store), "damage": [], "marked_tiles": []}],
    }


def test_a_damaged_tile_is_named(cli: Cli, encoded_once: Path, store: Path) -> None:
    flip_one_tile(store)
    before = listing(store)
    ended = cli("verify", store, encoded_once, "--json")
    assert ended.code == 3
    document = ended.document
    assert (document["command"], document["status"]) == ("verify", "damaged")
    hurt, sound = document["results"]
    assert sound == {"store": str(encoded_once), "damage": [], "marked_tiles": []}
    (damage,) = hurt["damage"]
    assert damage.keys() == {"path_in_store", "level", "row", "col", "what"}
    assert damage["path_in_store"] == "latents/0/c/0/0/0"
    assert damage["level"] == 0
    assert isinstance(damage["row"], int)
    assert isinstance(damage["col"], int)
    (line,) = ended.err.splitlines()
    assert line.startswith(f"wsicomp: damaged: {store}: latents/0/c/0/0/0: ")

    ended = cli("verify", store, encoded_once)
    assert ended.code == 3
    assert ended.out == f"{encoded_once}: ok\n"
    assert listing(store) == before


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("latents/1/c/0/0/0", "missing"),
        ("tissue/0/c/0/0", "missing"),
        ("zarr.json", "missing"),
        ("manifest.json", "manifest"),
    ],
)
def test_a_lost_file_is_named(cli: Cli, store: Path, path: str, what: str) -> None:
    (store / path).unlink()
    ended = cli("verify", store, "--json")
    assert ended.code == 3
    (result,) = ended.document["results"]
    text = str(result["damage"])
    assert path in text
    assert what in text


def test_no_store_is_not_ok(cli: Cli, tmp_path: Path) -> None:
    ended = cli("verify", tmp_path / "none.zarr", "--json")
    assert ended.code == 3
    (damage,) = ended.document["results"][0]["damage"]
    assert "no such store" in damage["what"]
    assert damage["path_in_store"] is None
    assert ended.err.splitlines() == [f"wsicomp: damaged: {damage['what']}"]


def test_against_its_slide(cli: Cli, encoded_once: Path, tissue_svs: Path) -> None:
    ended = cli("verify", encoded_once, "--against", tissue_svs, "--json")
    assert ended.code == 0
    (result,) = ended.document["results"]
    assert [level["level"] for level in result["fidelity"]] == [0, 1, 2]
    for level in result["fidelity"]:
        assert level.keys() == {
            *("level", "tiles", "psnr_db", "ssim", "ms_ssim", "glass_tiles", "glass_psnr_db", "glass_departure"),
            *("glass_differs", "below_floor"),
        }
        assert level["tiles"] > 0
        assert level["glass_differs"] == level["below_floor"] == []
        assert 15 < level["psnr_db"] < 60
        assert 0.3 < level["ssim"] <= 1
    assert 0.9 < result["fidelity"][2]["ms_ssim"] <= 1  # 87 x 68 px, mirrored out to five scales
    ended = cli("verify", encoded_once, "--against", tissue_svs)
    assert ended.out.count("PSNR") == 3


def test_against_its_slide_at_another_resolution(cli: Cli, slide: Path) -> None:
    assert cli("encode", slide, "--mpp", "1.3", "--levels", "1", "--tile-size", "128").code == 0
    ended = cli("verify", slide.with_suffix(".zarr"), "--against", slide, "--json")
    assert ended.code == 0
    (level,) = ended.document["results"][0]["fidelity"]
    assert level["psnr_db"] > 15


def test_a_mask_that_hides_tissue_is_not_ok(cli: Cli, slide: Path) -> None:
    assert cli("encode", slide, "--tissue-threshold", "255").code == 0
    store = slide.with_suffix(".zarr")
    ended = cli("verify", store, "--against", slide)
    assert ended.code == 0
    assert ": ok" not in ended.out
    assert "level 0: no tissue tiles\n  level 0: 30 glass tiles, at most " in ended.out
    lines = ended.err.splitlines()
    assert len(lines) == 3  # one for each level
    assert all(line.startswith(f"wsicomp: warning: {store}: level ") for line in lines)
    assert all("glass tiles hold more than glass" in line and "in tile (row" in line for line in lines)
    document = cli("verify", store, "--against", slide, "--json").document
    assert (document["status"], document["exit_code"]) == ("glass-differs", 0)
    finest = document["results"][0]["fidelity"][0]
    assert finest["glass_tiles"] == 30
    assert 4 <= len(finest["glass_differs"]) < 30
    assert finest["psnr_db"] is None


def test_a_broken_promise_is_exit_4(cli: Cli, slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = cli("encode", slide, "--depth", "4", "--min-psnr", "30", "--levels", "1")
    assert encoded.code == 0, encoded.err
    store = slide.with_suffix(".zarr")
    assert cli("verify", store, "--against", slide).code == 0
    monkeypatch.setattr("wsicomp.evaluation.against.SLACK_DB", -30)  # as if 60 dB had been promised
    ended = cli("verify", store, "--against", slide)
    assert ended.code == 4
    assert "promise not kept" in ended.err
    assert "below the store's floor" in ended.err
    document = cli("verify", store, "--against", slide, "--json").document
    assert (document["status"], document["exit_code"]) == ("below-floor", 4)


def test_against_another_slide(cli: Cli, tmp_path: Path, encoded_once: Path) -> None:
    for width, mpp in ((1400, 0.5), (900, 0.5), (1400, 1.0)):
        other = tissue_slide(tmp_path / f"{width}-{mpp}.svs", width, mpp=mpp, jpeg_quality=70)
        fails(cli, tmp_path, 2, (other.name, "another slide"), encoded_once, "--against", other, command="verify")


def test_against_what_is_no_slide(cli: Cli, tmp_path: Path, encoded_once: Path) -> None:
    fails(cli, tmp_path, 3, ("none.svs",), encoded_once, "--against", tmp_path / "none.svs", command="verify")


def test_against_takes_one_store(cli: Cli, tmp_path: Path, encoded_once: Path, tissue_svs: Path) -> None:
    words = ("--against takes one store",)
    fails(cli, tmp_path, 2, words, encoded_once, encoded_once, "--against", tissue_svs, command="verify")


def test_damage_is_told_before_the_slide_is_compared(cli: Cli, store: Path, tissue_svs: Path) -> None:
    flip_one_tile(store)
    ended = cli("verify", store, "--against", tissue_svs, "--json")
    assert ended.code == 3
    assert "fidelity" not in ended.document["results"][0]
