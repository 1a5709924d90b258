"""The whole path on slides that real scanners wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest

from tests.cli.conftest import Cli

pytestmark = pytest.mark.real_data


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_an_aperio_slide(cli: Cli, real_slides: dict[str, Path], tmp_path: Path, depth: int) -> None:
    slide, store = real_slides["aperio"], tmp_path / "a.zarr"
    (result,) = cli("encode", slide, "-o", store, "--depth", depth, "--json").document["results"]
    assert (result["depth"], result["source_bytes"]) == (depth, slide.stat().st_size)
    assert result["warnings"] == []
    assert result["fidelity"]["psnr_db"] > 28
    assert result["store_bytes"] == sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    assert cli("verify", store).code == 0
    if depth == 3:
        (verified,) = cli("verify", store, "--against", slide, "--json").document["results"]
        assert verified["fidelity"][0]["psnr_db"] > 18
    assert cli("decode", store, "-o", "a.tif", "--jpeg-quality", "90").code == 0
    with openslide.OpenSlide("a.tif") as exported, openslide.OpenSlide(slide) as original:
        assert exported.dimensions == original.dimensions == (2220, 2967)
        for axis in "xy":
            key = f"openslide.mpp-{axis}"
            assert float(exported.properties[key]) == pytest.approx(float(original.properties[key]), rel=1e-4)
        x, x_hat = (
            np.asarray(one.read_region((900, 1200), 0, (400, 400)))[..., :3].astype(float)
            for one in (original, exported)
        )
    assert np.abs(x.mean((0, 1)) - x_hat.mean((0, 1))).max() < 25
    assert cli("decode", store, "-o", "a.png", "--region", "900,1200,400,400").code == 0


def test_a_hamamatsu_slide(cli: Cli, real_slides: dict[str, Path], tmp_path: Path) -> None:
    slide, store = real_slides["hamamatsu"], tmp_path / "a.zarr"
    vendor = cli("info", slide, "--json").document["vendor"]
    ended = cli("encode", slide, "-o", store, "--depth", "4", "--mpp", "2", "--levels", "2", "--json")
    assert ended.code == 0
    (warning,) = ended.document["results"][0]["warnings"]
    assert "colours of sampled tiles are off" in warning
    assert warning in ended.err
    assert cli("verify", store, "--against", slide).code == 0
    document = cli("info", store, "--json").document
    assert document["vendor"] == vendor == "hamamatsu"
    assert len(document["levels"]) == 2
    assert document["mpp"] == pytest.approx([2, 2], rel=0.02)
    assert cli("decode", store, "-o", "a.tif").code == 0
    with openslide.OpenSlide("a.tif") as exported:
        assert exported.level_count == 2
        assert float(exported.properties["openslide.mpp-x"]) == pytest.approx(2, rel=0.02)
