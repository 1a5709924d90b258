"""Slides, stores and one thread of torch for the rooms that run the whole path; made once, copied where they change."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories import canary_slide, tissue_slide


@pytest.fixture(scope="session")
def tissue_svs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Aperio slide, 1400 x 1100 px at 0.5 um, a third of it tissue."""
    return tissue_slide(tmp_path_factory.mktemp("slides") / "tissue.svs")


@pytest.fixture(scope="session")
def canary_svs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide whose every text and associated image holds a string that must never come out."""
    return canary_slide(tmp_path_factory.mktemp("slides") / "planted.svs")


@pytest.fixture(scope="session")
def real_slides() -> dict[str, Path]:
    if "WSICOMP_DATA" not in os.environ:
        pytest.skip("WSICOMP_DATA is not set")
    folder = Path(os.environ["WSICOMP_DATA"]) / "slides"
    return {"aperio": folder / "CMU-1-Small-Region.svs", "hamamatsu": folder / "test3-DAPI.ndpi"}


@pytest.fixture(scope="session")
def encoded_once(tmp_path_factory: pytest.TempPathFactory, tissue_svs: Path) -> Path:
    """The store of `tissue_svs` at depth 3; not to be changed."""
    import wsicomp

    store = tmp_path_factory.mktemp("stores") / "tissue.zarr"
    wsicomp.encode(tissue_svs, store, depth=3, device="cpu")
    return store


@pytest.fixture
def store(tmp_path: Path, encoded_once: Path) -> Path:
    """A store of one's own, to be damaged at will."""
    return shutil.copytree(encoded_once, tmp_path / "tissue.zarr")


@pytest.fixture
def slide(tmp_path: Path, tissue_svs: Path) -> Path:
    """A slide of one's own, alone in its folder but for what the test makes there."""
    return Path(shutil.copy(tissue_svs, tmp_path / "slide.svs"))


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Small networks on a shared machine wait for threads longer than they compute."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def wsic_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained weights of `wsic`, depths 3 and 4, with their entropy models."""
    from tests.wsic_weights import write_wsic

    return write_wsic(tmp_path_factory.mktemp("weights") / "tiny-wsic.safetensors")
