"""The command answers at once where it needs no network: nothing heavy is imported before it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wsicomp.pipeline.batch import Job
from wsicomp.pipeline.status import StatusLog

HEAVY = ("torch", "skimage", "zarr", "sklearn", "pandas", "matplotlib", "scipy")

CHILD = f"""
import sys
{{work}}
heavy = [name for name in {HEAVY!r} if name in sys.modules]
sys.exit(f"imported: {{{{heavy}}}}" if heavy else 0)
"""


@pytest.mark.parametrize(
    "work",
    [
        "import wsicomp",
        "import wsicomp.cli.main",
        "from wsicomp.cli.main import execute; assert execute(['--help']) == 0",
        "from wsicomp.cli.main import execute; assert execute(['encode', '--help']) == 0",
        "from wsicomp.cli.main import execute; assert execute(['info', sys.argv[1]]) == 0",
        "from wsicomp.cli.main import execute; assert execute(['info', sys.argv[2]]) == 0",
        "from wsicomp.cli.main import execute; assert execute(['status', sys.argv[3]]) == 0",
        "import wsicomp.slides.local, wsicomp.slides.serve",
    ],
    ids=["package", "command line", "--help", "encode --help", "info SLIDE", "info STORE", "status", "reader process"],
)
def test_nothing_heavy_is_imported(work: str, tissue_svs: Path, encoded_once: Path, tmp_path: Path) -> None:
    with StatusLog(tmp_path, [Job(tissue_svs, tmp_path / "a.zarr")]):
        pass
    child = subprocess.run(
        [sys.executable, "-c", CHILD.format(work=work), str(tissue_svs), str(encoded_once), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr


def test_the_search_finds_what_is_imported() -> None:
    child = subprocess.run([sys.executable, "-c", CHILD.format(work="import zarr")], capture_output=True, check=False)
    assert b"'zarr'" in child.stderr
