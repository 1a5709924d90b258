"""Two processes train the model that one process trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from wsicomp.datasets.patches import PatchTable
from wsicomp.errors import ConfigError
from wsicomp.training.distributed import Processes

CPU = torch.device("cpu")
WORDS = ["train", "codec", "--depths", "1,3", "--steps", "15", "--batch-size", "4", "--crop", "32", "--device", "cpu"]


def train(data: Path, run: Path, count: int) -> list[dict[str, float]]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "--no-python"]
    command = [sys.executable, "-c", "from wsicomp.cli.main import run; run()"]
    words = [sys.executable, *launcher, *command, *WORDS, "--data", str(data), "-o", str(run)]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("trained on") == 1
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_two_processes_follow_one(tissue: PatchTable, tmp_path: Path) -> None:
    data = tissue.patches[0].path.parent
    alone, together = train(data, tmp_path / "one", 1), train(data, tmp_path / "two", 2)
    assert [entry["step"] for entry in together] == [entry["step"] for entry in alone] == [15]
    for key in ("loss", "bits_per_pixel", "psnr_db"):
        assert together[0][key] == pytest.approx(alone[0][key], rel=0.005), key
    one, two = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    moved = [name for name in one if name.startswith("module.model.") and "weight" in name]
    errors = [float((one[name] - two[name]).abs().mean() / one[name].abs().mean()) for name in moved]
    assert np.median(errors) < 0.002


def test_a_batch_is_shared_out_whole() -> None:
    rows = np.arange(12)
    shares = [rows[Processes(rank, 3, CPU).share(12)] for rank in range(3)]
    np.testing.assert_array_equal(np.concatenate(shares), rows)
    with pytest.raises(ConfigError, match="a batch of 8 cannot be shared by 3 processes"):
        Processes(0, 3, CPU).share(8)


def test_one_process_is_left_as_it_is() -> None:
    alone, module = Processes(0, 1, CPU), torch.nn.Linear(2, 2)
    assert alone.writes
    assert alone.parallel(module) is module
    assert alone.mean(torch.tensor(3.5)) == 3.5
    alone.wait()
