"""Slides that several tests here read: built once, never changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.factories import canary_slide, tissue_slide


@pytest.fixture(scope="session")
def tissue_svs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tissue_slide(tmp_path_factory.mktemp("slides") / "tissue.svs")


@pytest.fixture(scope="session")
def canary_svs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return canary_slide(tmp_path_factory.mktemp("slides") / "planted.svs")


@pytest.fixture(scope="session")
def real_slides() -> dict[str, Path]:
    if "WSICOMP_DATA" not in os.environ:
        pytest.skip("WSICOMP_DATA is not set")
    folder = Path(os.environ["WSICOMP_DATA"]) / "slides"
    return {"aperio": folder / "CMU-1-Small-Region.svs", "hamamatsu": folder / "test3-DAPI.ndpi"}
