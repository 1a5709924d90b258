"""Plain zarr reads any store where wsicomp is installed, and names what is missing where it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from tests.codec.models import CHANNELS, fitted
from tests.store.stores import Content, make_content, write_content
from wsicomp.codec.zarr_rans import register_model
from wsicomp.errors import ModelError
from wsicomp.models.shipped import shipped_path
from wsicomp.pipeline.tables import find_tables, models_of, register_tables

ROOT = Path(__file__).parents[2]


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """Environment of a process in which the package is installed as `pyproject.toml` declares it."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["zarr.codecs"]
    info = tmp_path / "site" / "wsicomp-9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wsicomp\nVersion: 9\n")
    lines = [f"{name} = {target}" for name, target in declared.items()]
    (info / "entry_points.txt").write_text("\n".join(["[zarr.codecs]", *lines, ""]))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(ROOT)])}


def plain_zarr(store: Path, environment: dict[str, str], script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own that has opened a store by zarr alone."""
    begin = "import sys, zarr; store = zarr.open(sys.argv[1], mode='r')\n"
    # zarr remarks on every file that is not its own, and the manifest is one.
    quiet = ["-W", "error", "-W", "ignore:Object at manifest.json"]
    command = [sys.executable, *quiet, "-c", begin + script, str(store)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def shipped_content() -> Content:
    """Content that is coded with the tables of shipped weights."""
    model = models_of("wsic")[-1]
    return make_content(channels=model.channels, latent_dtype="int16", entropy=register_model(model))


def test_plain_zarr_reads_latents_that_shipped_weights_coded(tmp_path: Path, installed: dict[str, str]) -> None:
    content = shipped_content()
    write_content(tmp_path / "s.zarr", content)
    script = (
        "import numpy; assert 'wsicomp' not in sys.modules\n"
        "assert 'latents' in str(store.tree()); numpy.save(sys.argv[1] + '.npy', store['latents/0'][...])\n"
        "assert 'torch' not in sys.modules"
    )
    ended = plain_zarr(tmp_path / "s.zarr", installed, script)
    assert (ended.returncode, ended.stderr) == (0, "")
    np.testing.assert_array_equal(np.load(tmp_path / "s.zarr.npy"), content.latents[0])


def test_plain_zarr_names_the_tables_that_are_missing(tmp_path: Path, installed: dict[str, str]) -> None:
    write_content(tmp_path / "s.zarr", make_content(channels=CHANNELS, entropy=register_model(fitted())))
    shown = plain_zarr(tmp_path / "s.zarr", installed, "print(store.tree(), store['latents/0'].shape)")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "latents" in shown.stdout
    ended = plain_zarr(tmp_path / "s.zarr", installed, "store['latents/0'][...]")
    assert ended.returncode == 1
    line = ended.stderr.splitlines()[-1]
    assert fitted().digest in line
    assert "weights_sha256" in line
    assert "wsicomp.pipeline.tables.register_tables" in line


def test_tables_of_ones_own_weights_are_registered(tmp_path: Path, installed: dict[str, str]) -> None:
    content = shipped_content()
    write_content(tmp_path / "s.zarr", content)
    own = tmp_path / "own.safetensors"
    shutil.copy(shipped_path("wsic"), own)
    script = (
        "from wsicomp.codec import zarr_rans; from wsicomp.pipeline.tables import register_tables\n"
        f"zarr_rans._finders.clear(); register_tables({str(own)!r}); print(store['latents/0'][...].sum())\n"
        "assert 'torch' not in sys.modules"
    )
    ended = plain_zarr(tmp_path / "s.zarr", installed, script)
    assert (ended.stdout.strip(), ended.stderr) == (str(content.latents[0].sum()), "")


def test_tables_are_found_by_digest_and_others_are_not() -> None:
    for model in models_of("wsic"):
        found = find_tables(model.digest)
        assert found is not None
        assert found.digest == model.digest
    assert find_tables("0" * 64) is None


def test_what_is_no_weights_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"no weights at all")
    for source in (tmp_path / "a.safetensors", tmp_path / "none.safetensors"):
        with pytest.raises(ModelError):
            register_tables(source)


def test_verify_checks_every_tile_without_torch(tmp_path: Path) -> None:
    write_content(tmp_path / "s.zarr", shipped_content())
    script = (
        "import sys; from wsicomp.cli.main import app; app(['verify', sys.argv[1]], standalone_mode=False)\n"
        "assert 'numba' in sys.modules; assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "s.zarr")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{tmp_path / 's.zarr'}: ok\n", "")
