"""What `wsicomp info` says of a slide, and how little it takes to say it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from wsicomp.slides.describe import NativeLevel, describe


def test_numbers_are_those_of_the_slide(tissue_svs: Path) -> None:
    description = describe(tissue_svs)
    assert description.vendor == "aperio"
    assert (description.width_px, description.height_px) == (1400, 1100)
    assert description.levels == (NativeLevel(1400, 1100, 1.0), NativeLevel(350, 275, 4.0), NativeLevel(87, 68, 16.0))
    assert description.mpp == (0.5, 0.5)
    assert description.objective_power == 20
    assert description.bounds_px is None
    assert description.source_bytes == tissue_svs.stat().st_size
    assert description.has_icc_profile is False
    assert description.associated_images == ()


def test_json_round_trips(tissue_svs: Path) -> None:
    document = describe(tissue_svs).to_json()
    assert json.loads(json.dumps(document)) == document
    assert document["levels"][1] == {"width_px": 350, "height_px": 275, "downsample": 4.0}  # type: ignore[index]


def test_heavy_libraries_stay_out() -> None:
    heavy = ["torch", "skimage", "scipy", "tifffile", "zarr", "matplotlib"]
    code = f"import sys, wsicomp.slides.describe, wsicomp.slides.slide; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.real_data
def test_real_slides(real_slides: dict[str, Path]) -> None:
    aperio, hamamatsu = describe(real_slides["aperio"]), describe(real_slides["hamamatsu"])
    assert (aperio.vendor, aperio.mpp, aperio.objective_power) == ("aperio", (0.499, 0.499), 20)
    assert aperio.associated_images == ("label", "macro", "thumbnail")
    assert [level.downsample for level in hamamatsu.levels] == [1, 2, 4, 8, 16, 32, 64]
    assert hamamatsu.associated_images == ("macro",)
    assert hamamatsu.objective_power == 40
