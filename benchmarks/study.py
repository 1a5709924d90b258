"""The founding study on two real tasks: train the autoencoder and the classifiers, then score them on the test split.

    python -m benchmarks.study            needs WSICOMP_DATA; goes on where an interrupted run stopped

    runs/perticarari2023        autoencoder on the prostate, lung and `more` train splits
    runs/TASK-WIDTH             classifier of one task, at full width and compact, on original patches
    runs/TASK-WIDTH-report      `wsicomp evaluate` on the test split, at every depth and latent type
    benchmarks/results/study-TASK.json, study-TASK-*.png, study.md

Test splits are read once, by the evaluation; epochs and thresholds are chosen on val. Every step is a command that can
be run by hand; it is printed before it runs.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from wsicomp.evaluation.report import read_report, to_markdown

RUNS = Path("runs")
RESULTS = Path(__file__).parent / "results"
CODEC_DATA = ("prostate", "lung", "more")
COMPACT = ("--width", "0.1875", "--half")
FIGURES = ("loss-ssim", "classifier-elements", "classifier-bytes")
"""The samples stay in runs/: patches of others are not ours to publish."""


@dataclass(frozen=True)
class Task:
    """One classification task: its patches, its classes, and how long its classifiers train."""

    name: str
    classes: str
    label_column: str
    full_epochs: int
    compact_epochs: int


TASKS = (
    Task("lung", "adenocarcinoma,squamous", "diagnosis", 15, 30),
    Task("prostate", "benign,malignant", "label", 8, 15),
)


def main() -> int:
    """Run what has not been run yet; return the exit code."""
    folder = os.environ.get("WSICOMP_DATA")
    if not folder:
        print("study: set WSICOMP_DATA to the folder of the patches", file=sys.stderr)
        return 2
    data = Path(folder)
    sources = [word for name in CODEC_DATA for word in ("--data", str(data / name))]
    codec = RUNS / "perticarari2023"
    train(["autoencoder", *sources], codec)
    RESULTS.mkdir(exist_ok=True)
    tables = []
    for task in TASKS:
        reports = {}
        for width, options, epochs in (("full", (), task.full_epochs), ("compact", COMPACT, task.compact_epochs)):
            run = RUNS / f"{task.name}-{width}"
            columns = ["--data", str(data / task.name), "--label-column", task.label_column, "--classes", task.classes]
            train(["classifier", *columns, "--epochs", str(epochs), *options], run)
            report = RUNS / f"{task.name}-{width}-report"
            if not (report / "report.json").exists():
                wsicomp(
                    *("evaluate", str(data / task.name), "--label-column", task.label_column),
                    *("--classifier", str(run / "weights.safetensors"), "--model", str(codec / "weights.safetensors")),
                    *("--latent-dtypes", "int8,float32", "-o", str(report)),
                )
            reports[width] = json.loads((report / "report.json").read_text(encoding="utf-8"))
            tables.append(f"## {task.name}, {width}\n\n{to_markdown(read_report(report / 'report.json').rows)}\n")
            if width == "full":
                for figure in FIGURES:
                    shutil.copyfile(report / f"{figure}.png", RESULTS / f"study-{task.name}-{figure}.png")
        document = {"command": "make study", "task": task.name, "reports": reports}
        (RESULTS / f"study-{task.name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "study.md").write_text("# The founding study, `make study`\n\n" + "\n".join(tables), encoding="utf-8")
    return 0


def train(words: list[str], run: Path) -> None:
    """Train into a folder unless it is done; an interrupted run is gone on with."""
    if (run / "done").exists():
        return
    wsicomp("train", *words, "-o", str(run), "--resume")
    (run / "done").touch()


def wsicomp(*words: str) -> None:
    """Run a subcommand, and stop the study if it fails."""
    print("wsicomp", shlex.join(words), flush=True)
    subprocess.run([sys.executable, "-c", "from wsicomp.cli.main import run; run()", *words], check=True)


if __name__ == "__main__":
    sys.exit(main())
