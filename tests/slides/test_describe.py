"""What `wsicomp info` says of a slide, and how little it takes to say it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from wsicomp.slides.describe import describe


def test_numbers_are_those_of_the_slide(tissue_svs: Path) -> None:
    description = describe(tissue_svs)
    assert description == {
        "path": str(tissue_svs),
        "vendor": "aperio",
        "width_px": 1400,
        "height_px": 1100,
        "levels": [
            {"width_px": 1400, "height_px": 1100, "downsample": 1.0},
            {"width_px": 350, "height_px": 275, "downsample": 4.0},
            {"width_px": 87, "height_px": 68, "downsample": 16.0},
        ],
        "mpp": [0.5, 0.5],
        "objective_power": 20,
        "bounds_px": None,
        "source_bytes": tissue_svs.stat().st_size,
        "has_icc_profile": False,
        "associated_images": [],
        "other_associated_images": 0,
        "properties": description["properties"],
    }
    assert json.loads(json.dumps(description)) == description


def test_heavy_libraries_stay_out() -> None:
    heavy = ["torch", "skimage", "scipy", "tifffile", "zarr", "matplotlib"]
    code = f"import sys, wsicomp.slides.describe, wsicomp.slides.slide; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.real_data
def test_real_slides(real_slides: dict[str, Path]) -> None:
    aperio, hamamatsu = describe(real_slides["aperio"]), describe(real_slides["hamamatsu"])
    assert (aperio["vendor"], aperio["mpp"], aperio["objective_power"]) == ("aperio", [0.499, 0.499], 20)
    assert aperio["associated_images"] == ["label", "macro", "thumbnail"]
    assert [level["downsample"] for level in hamamatsu["levels"]] == [1, 2, 4, 8, 16, 32, 64]
    assert hamamatsu["associated_images"] == ["macro"]
    assert hamamatsu["objective_power"] == 40
