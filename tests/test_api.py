"""The two functions that most programs need: `wsicomp.encode` and `wsicomp.open`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest

import wsicomp
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
    with pytest.raises(StoreError, match="folder does not exist"):
        wsicomp.encode(tissue_svs, tmp_path / "none" / "a.zarr")
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
