"""The functions of the package: `encode`, `open`, `decode`, `verify` and `compare`."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import openslide
import pytest

import wsicomp
from tests.reference import commands, options
from wsicomp.cli.main import execute
from wsicomp.errors import ConfigError, SlideError, StoreError, WeightsMismatch
from wsicomp.models.autoencoder import StudyAutoencoder
from wsicomp.models.registry import STUDY_CODEC, save_model
from wsicomp.store.reader import StoreReader

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_encode_then_open(tmp_path: Path, tissue_svs: Path) -> None:
    encoded = wsicomp.encode(str(tissue_svs), str(tmp_path / "a.zarr"), depth=2)
    assert (encoded.store, encoded.depth, encoded.pixels) == (tmp_path / "a.zarr", 2, 1400 * 1100)
    assert encoded.source_bytes == tissue_svs.stat().st_size
    with wsicomp.open(str(tmp_path / "a.zarr")) as slide, openslide.OpenSlide(tissue_svs) as original:
        assert isinstance(slide, openslide.AbstractSlide)
        assert slide.dimensions == original.dimensions
        x, x_hat = (
            np.asarray(one.read_region((350, 300), 0, (400, 400)))[..., :3].astype(float) for one in (original, slide)
        )
    assert 10 * np.log10(255**2 / np.square(x - x_hat).mean()) > 18


def test_options(tmp_path: Path, tissue_svs: Path) -> None:
    store = tmp_path / "a.zarr"
    wsicomp.encode(tissue_svs, store, depth=4, model="perticarari2023", latent_dtype="float16", mpp=2.0, device="cpu")
    with wsicomp.open(store, device="cpu") as slide:
        assert slide.dimensions == (350, 275)
        assert slide.header.latent_dtype == "float16"
    with pytest.raises(ConfigError, match="exists"):
        wsicomp.encode(tissue_svs, store, mpp=2.0)
    wsicomp.encode(tissue_svs, store, mpp=2.0, overwrite=True)
    with wsicomp.open(store) as slide:
        assert (slide.header.model, slide.header.depth) == ("wsic", 3)


def test_weights_of_ones_own(tmp_path: Path, tissue_svs: Path) -> None:
    weights, store = tmp_path / "own.safetensors", tmp_path / "a.zarr"
    save_model(weights, StudyAutoencoder(1), key=STUDY_CODEC, settings={"depths": 1}, notes={})
    wsicomp.encode(tissue_svs, store, depth=1, model=str(weights), mpp=2.0)
    with wsicomp.open(store, weights=weights) as slide:
        assert slide.level_count == 2
    with pytest.raises(WeightsMismatch):
        wsicomp.open(store)


def test_errors(tmp_path: Path, tissue_svs: Path) -> None:
    (tmp_path / "text.svs").write_text("no slide")
    for name in ("text.svs", "none.svs"):
        with pytest.raises(SlideError, match=name):
            wsicomp.encode(tmp_path / name, tmp_path / "a.zarr")
    with pytest.raises(ConfigError, match="depth 9"):
        wsicomp.encode(tissue_svs, tmp_path / "a.zarr", depth=9)
    with pytest.raises(StoreError, match="no such store"):
        wsicomp.open(tmp_path / "a.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["text.svs"]


def test_a_target_and_a_floor_are_met(tissue_svs: Path, tmp_path: Path) -> None:
    small = wsicomp.encode(tissue_svs, tmp_path / "a.zarr", max_bytes=40_000, mpp=2.0)
    assert small.store_bytes <= 40_000
    floored = wsicomp.encode(tissue_svs, tmp_path / "b.zarr", depth=4, quality=0, min_psnr_db=33, mpp=2.0)
    assert floored.raised_tiles + floored.jpegxl_tiles > 0
    with StoreReader(tmp_path / "b.zarr") as reader:
        lowest = [np.nanmin(fidelity[..., 0]) for k in range(2) if (fidelity := reader.fidelity(k)) is not None]
    assert min(lowest) >= 33
    with pytest.raises(ConfigError, match="exclude one another"):
        wsicomp.encode(tissue_svs, tmp_path / "c.zarr", max_bytes=1000, psnr_db=30)
    with pytest.raises(ConfigError, match="needs a classifier"):
        wsicomp.encode(tissue_svs, tmp_path / "c.zarr", max_logit_shift=0.5)
    assert not (tmp_path / "c.zarr").exists()


def test_every_option_of_the_command_is_an_argument() -> None:
    (command,) = [found for path, found in commands() if path == "wsicomp encode"]
    renamed = {"psnr": "psnr_db", "min_psnr": "min_psnr_db", "levels": "max_levels", "memory": "memory_bytes"}
    renamed |= {"slides": "slide", "output": "store", "tissue": "tissue_only"}
    of_a_batch = {"slide_list", "recursive", "zipped", "skip_errors", "part", "json", "dry_run"}
    asked = {renamed.get(option.name, option.name) for option in options(command)} - of_a_batch
    assert set(inspect.signature(wsicomp.encode).parameters) == asked | {"progress"}


def test_the_command_and_the_function_make_the_same_store(tissue_svs: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    settings = {"depth": 4, "mpp": 2.0, "max_levels": 1, "tile_size": 128, "tissue_threshold": 12, "workers": 1}
    encoded = wsicomp.encode(
        tissue_svs,
        tmp_path / "a.zarr",
        model="perticarari2023",
        progress=lambda done, total, note="": calls.append((done, total)),
        **settings,  # type: ignore[arg-type]
    )
    assert calls[-1] == (encoded.tissue_tiles, encoded.tissue_tiles) or calls[-1] == (encoded.tiles, encoded.tiles)
    words = ["--depth", "4", "--mpp", "2", "--levels", "1", "--tile-size", "128", "--tissue-threshold", "12"]
    store = str(tmp_path / "b.zarr")
    assert execute(["encode", str(tissue_svs), "-o", store, "--model", "perticarari2023", *words]) == 0
    assert (tmp_path / "a.zarr/manifest.json").read_bytes() == (tmp_path / "b.zarr/manifest.json").read_bytes()
    again = wsicomp.encode(tissue_svs, store, model="perticarari2023", resume=True, **settings)  # type: ignore[arg-type]
    assert (again.seconds, again.tiles) == (0.0, encoded.tiles)
    with pytest.raises(ConfigError, match="exclude each other"):
        wsicomp.encode(tissue_svs, store, resume=True, overwrite=True)
    with pytest.raises(ConfigError, match="are for one machine"):
        wsicomp.encode(tissue_svs, store, scheduler="tcp://127.0.0.1:1", on_damage="mark")
    with pytest.raises(ConfigError, match="are for one machine"):
        wsicomp.encode(tissue_svs, store, scheduler="tcp://127.0.0.1:1", stage=tmp_path)
    with pytest.raises(ConfigError, match="lies inside the store"):
        wsicomp.encode(tissue_svs, tmp_path / "a.zarr/inner.zarr", depth=4)


def test_decode_verify_and_compare(encoded_once: Path, tissue_svs: Path, store: Path, tmp_path: Path) -> None:
    assert wsicomp.decode(encoded_once, tmp_path / "a.png", region=(300, 260, 64, 32)) == (64, 32, 1)
    assert wsicomp.decode(str(encoded_once), tmp_path / "a.tif", level=1).levels == 1
    with pytest.raises(ConfigError, match="exists"):
        wsicomp.decode(encoded_once, tmp_path / "a.png")
    assert wsicomp.verify(encoded_once) == []
    assert min(level.psnr_db or 100 for level in wsicomp.compare(encoded_once, tissue_svs)) > 18
    shard = store / "latents/0/c/0/0/0"
    shard.write_bytes(bytes(shard.stat().st_size))
    assert wsicomp.verify(store)
    with pytest.raises(StoreError, match="no such store"):
        wsicomp.verify(tmp_path / "none.zarr")
