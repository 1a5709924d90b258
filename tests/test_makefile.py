"""The Makefile documents every target, and cleaning never deletes a training."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

MAKEFILE = Path(__file__).parents[1] / "Makefile"


def make(folder: Path, target: str) -> str:
    # The tests may themselves run under make, which would hand its flags and its level down.
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    ended = subprocess.run(["make", target], cwd=folder, env=env, capture_output=True, text=True, check=True)
    return ended.stdout


def test_clean_keeps_trainings(tmp_path: Path) -> None:
    shutil.copy(MAKEFILE, tmp_path)
    for name in ("runs/codec", "demo", ".venv"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "runs" / "codec" / "weights.safetensors").write_bytes(b"hours of work")
    make(tmp_path, "clean")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Makefile", "runs"]
    assert (tmp_path / "runs" / "codec" / "weights.safetensors").exists()


def test_help_shows_every_target(tmp_path: Path) -> None:
    shutil.copy(MAKEFILE, tmp_path)
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE.read_text(encoding="utf-8"), re.M))
    shown = {line.split()[0] for line in make(tmp_path, "help").splitlines() if len(line.split()) > 2}
    assert shown == targets
