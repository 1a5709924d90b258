"""`wsicomp evaluate`."""

from __future__ import annotations

import csv
import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Cli, fails, listing
from wsicomp.datasets import phantom
from wsicomp.pipeline.encode import encode_source
from wsicomp.pipeline.encoded import Encoded

STUDY = "perticarari2023"
CONTRACT = {
    *("codec", "depth", "quality", "latent_elements", "element_ratio", "bytes_per_tile", "bits_per_pixel"),
    *("psnr_db", "ssim", "ms_ssim", "loss", "bce", "accuracy", "precision", "recall", "auc", "flip_rate", "intervals"),
}
"""Keys of a row that scripts rely on."""

QUICK = ("--resamples", "20")


def test_the_report_of_a_table(cli: Cli, patches: Path, tiny_classifier: Path, tmp_path: Path) -> None:
    options = ("--model", STUDY, "-o", tmp_path / "report", *QUICK, "--json")
    ended = cli("evaluate", patches, "--classifier", tiny_classifier, *options)
    assert (ended.code, ended.err) == (0, "")
    document = ended.document
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report.keys() == {"rows", "classifier", "data", "machine"}
    assert {key: document[key] for key in report} == report
    assert document.keys() - report.keys() == {"command", "status", "exit_code", "misses", "files"}
    assert (document["status"], document["misses"]) == ("ok", [])
    assert sorted(document["files"]) == sorted(str(path) for path in (tmp_path / "report").iterdir())
    assert {Path(name).suffix for name in document["files"]} >= {".json", ".csv", ".png"}

    rows = report["rows"]
    assert [row["depth"] for row in rows] == [0, 1, 2, 3, 4]
    for row in rows:
        assert row.keys() == CONTRACT | {"calibrated"}
    original, *reconstructed = rows
    assert (original["element_ratio"], original["bits_per_pixel"], original["flip_rate"]) == (1, 24, 0)
    assert [row["latent_elements"] for row in reconstructed] == [64 * 64 * 3 // 2**depth for depth in (1, 2, 3, 4)]
    assert [row["element_ratio"] for row in reconstructed] == [0.5, 0.25, 0.125, 0.0625]
    for row in reconstructed:
        assert row["codec"] == "perticarari2023"
        assert row["bits_per_pixel"] == pytest.approx(8 * row["bytes_per_tile"] / 64**2)
        assert 5 < row["psnr_db"] < 60
    # the 12 patches of the test split, and the classes of the classifier's own notes
    data = report["data"]
    assert (data["name"], data["tiles"], data["groups"]) == ("patches", 12, 12)
    assert (data["negative"], data["positive"], data["positives"]) == ("dark", "light", 6)
    assert report["classifier"]["threshold"] == 0.5
    assert report["classifier"]["calibrated_threshold"] is not None

    with (tmp_path / "report/report.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [float(line["auc"]) for line in table] == [row["auc"] for row in rows]


def test_a_folder_of_classes(cli: Cli, classes_only: Path, bright_onnx: Path) -> None:
    ended = cli("evaluate", classes_only, "--classifier", bright_onnx, "--depths", "0,2", *QUICK, "--json")
    assert ended.code == 0
    report = ended.document
    assert report["files"] == []
    assert report["data"]["tiles"] == 24
    assert report["classifier"] == {"name": "bright", "threshold": 0.5, "calibrated_threshold": None}
    original = report["rows"][0]
    assert (original["accuracy"], original["precision"], original["recall"], original["auc"]) == (1, 1, 1, 1)


def test_the_bytes_are_those_of_the_store_on_disk(
    cli: Cli, patches: Path, bright_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weighed = []

    def weigh(*arguments: Any, **options: Any) -> Encoded:
        encoded = encode_source(*arguments, **options)
        weighed.append(sum(path.stat().st_size for path in encoded.store.rglob("*") if path.is_file()))
        return encoded

    monkeypatch.setattr("wsicomp.evaluation.reconstruct.encode_source", weigh)
    options = ("--model", STUDY, "--depths", "1,4", "--latent-dtypes", "int8,float16", *QUICK, "--json")
    rows = cli("evaluate", patches, "--classifier", bright_onnx, *options).document["rows"][1:]
    assert [row["bytes_per_tile"] * 12 for row in rows] == pytest.approx(weighed)
    assert [(row["codec"], row["depth"]) for row in rows] == [
        ("perticarari2023", 1),
        ("perticarari2023", 4),
        ("perticarari2023 float16", 1),
        ("perticarari2023 float16", 4),
    ]
    assert rows[2]["bytes_per_tile"] > rows[0]["bytes_per_tile"]


def test_options(cli: Cli, patches: Path, bright_onnx: Path) -> None:
    options = ("--split", "train", "--classes", "light,dark", "--threshold", "0.9", "--depths", "0", *QUICK, "--json")
    report = cli("evaluate", patches / "index.csv", "--classifier", bright_onnx, *options).document
    assert (report["data"]["tiles"], report["data"]["positive"]) == (8, "dark")
    assert report["classifier"]["threshold"] == 0.9
    assert report["rows"][0]["auc"] == 0  # the classes are told apart perfectly, and named the wrong way round


@pytest.mark.parametrize(
    ("gate", "misses"),
    [
        (["--max-accuracy-drop", "0.03"], "accuracy fell by 0.5000, from 1.0000 to 0.5000; the limit is 0.03"),
        (["--max-auc-drop", "0.1"], "auc fell by 0.5000"),
        (["--max-recall-drop", "0"], None),
        (["--max-accuracy-drop", "0.5", "--max-auc-drop", "1"], None),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_gates(
    cli: Cli, patches: Path, bright_onnx: Path, white_codec: Path, gate: list[str], misses: str | None, as_json: bool
) -> None:
    # on white patches everything is positive: accuracy and AUC fall to a half, recall stays
    arguments = [patches, "--classifier", bright_onnx, "--model", white_codec, "--depths", "0,2", *QUICK]
    ended = cli("evaluate", *arguments, *gate, *(["--json"] if as_json else []))
    assert ended.code == (4 if misses else 0)
    if misses:
        (line,) = ended.err.splitlines()
        assert line.startswith("wsicomp: gate missed: perticarari2023 depth 2: ")
        assert misses in line
    else:
        assert ended.err == ""
    if as_json:
        document = ended.document
        assert document["status"] == ("gate-missed" if misses else "ok")
        assert len(document["misses"]) == bool(misses)
    else:
        assert "| perticarari2023 | 2 |" in ended.out


def test_without_data_the_phantom_is_scored(cli: Cli, monkeypatch: pytest.MonkeyPatch, tiny_classifier: Path) -> None:
    for split in ("val", "test"):
        monkeypatch.setitem(phantom.PHANTOM_COUNTS, split, 8)
    monkeypatch.setattr("wsicomp.cli.evaluate.PHANTOM_CLASSIFIER", str(tiny_classifier))
    ended = cli("evaluate", "--depths", "4", *QUICK, "--json")
    assert ended.code == 0
    report = ended.document
    assert report["data"]["name"] == "phantom"
    assert [row["depth"] for row in report["rows"]] == [0, 4]
    assert report["classifier"]["calibrated_threshold"] is not None


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        ([], 2, "--classifier"),
        (["--classifier", "none.onnx"], 3, "none.onnx"),
        (["--classifier", "none"], 3, "none"),
        (["--classifier", "perticarari2023"], 3, "perticarari2023-classifier"),
        (["--classifier", "C", "--depths", "1,1"], 2, "--depths"),
        (["--classifier", "C", "--depths", "-1"], 2, "--depths"),
        (["--classifier", "C", "--depths", "0,7"], 2, "depth 7 is unknown"),
        (["--classifier", "C", "--classes", "dark"], 2, "--classes"),
        (["--classifier", "C", "--classes", "dark,red"], 3, "'red'"),
        (["--classifier", "C", "--split", "train2"], 3, "train2"),
        (["--classifier", "C", "--latent-dtypes", "int4"], 2, "int4"),
        (["--classifier", "C", "--max-auc-drop", "3"], 2, "--max-auc-drop"),
        (["--classifier", "C", "--label-column", "kind"], 3, "'kind'"),
        (["--classifier", "C", "--threshold", "2"], 2, "--threshold"),
    ],
)
def test_refusals(
    cli: Cli, tmp_path: Path, patches: Path, bright_onnx: Path, options: list[str], code: int, word: str
) -> None:
    words = [str(bright_onnx) if option == "C" else option for option in options]
    fails(cli, tmp_path, code, (word,), patches, "-o", tmp_path / "report", *words, command="evaluate")


def test_no_data(cli: Cli, tmp_path: Path, bright_onnx: Path) -> None:
    fails(cli, tmp_path, 3, ("none",), "none", "--classifier", bright_onnx, command="evaluate")
    (tmp_path / "empty").mkdir()
    fails(cli, tmp_path, 3, ("empty", "no patches"), "empty", "--classifier", bright_onnx, command="evaluate")


@pytest.mark.parametrize(
    ("sizes", "word"),
    [([(32, 32), (48, 48)], "differ in size"), ([(32, 48), (32, 48)], "square")],
)
def test_patches_that_cannot_be_studied(
    cli: Cli, tmp_path: Path, bright_onnx: Path, sizes: list[tuple[int, int]], word: str
) -> None:
    for label, (height, width) in zip(("a", "b"), sizes, strict=True):
        (tmp_path / "data" / label).mkdir(parents=True)
        Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(tmp_path / "data" / label / "0.png")
    arguments = ("data", "--classifier", bright_onnx, "--depths", "1", *QUICK)
    fails(cli, tmp_path, 3, (word,), *arguments, command="evaluate")


def test_a_missing_table_is_said_to_be_missing(cli: Cli, tmp_path: Path) -> None:
    fails(cli, tmp_path, 3, ("nope.csv", "no such file or folder"), "nope.csv", command="evaluate")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"file,label\n0.png,a\n", ("index.csv", "no column 'path'")),
        (b"path,label\n", ("no patches in it",)),
        (b"path,label\n0.png,a\nmissing.png,b\n", ("missing.png", "cannot be read as an image")),
        (b"path,label\nindex.csv,a\n0.png,b\n", ("index.csv", "cannot be read as an image")),
        (b"path,label\n0.png,a\n,b\n", ("index.csv, line 3", "a value is missing")),
        (b"path,label,split\n0.png,a,mine\n", ("line 2", "'mine' is none of train, val, test")),
        (b"path,label\n\xff\xfe\x00", ("index.csv", "cannot be read as a CSV")),
        (b"", ("no patches in it",)),
    ],
)
def test_tables_at_fault(cli: Cli, tmp_path: Path, bright_onnx: Path, content: bytes, words: tuple[str, ...]) -> None:
    (tmp_path / "index.csv").write_bytes(content)
    Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(tmp_path / "0.png")
    arguments = ("index.csv", "--classifier", bright_onnx, "--depths", "1", "-o", "report")
    fails(cli, tmp_path, 3, words, *arguments, command="evaluate")


def test_a_report_that_exists_is_replaced_only_when_asked(
    cli: Cli, tmp_path: Path, patches: Path, bright_onnx: Path
) -> None:
    arguments = (patches, "--classifier", bright_onnx, "-o", "report", *QUICK)
    (tmp_path / "report").mkdir()  # an empty folder is as good as none
    assert cli("evaluate", *arguments, "--depths", "4").code == 0
    first = listing(tmp_path)
    fails(cli, tmp_path, 2, ("report", "exists already", "--overwrite"), *arguments, command="evaluate")
    (tmp_path / "report/samples.png").rename(tmp_path / "report/left.png")
    assert cli("evaluate", *arguments, "--depths", "0", "--overwrite").code == 0
    second = listing(tmp_path)
    assert "report/left.png" not in second
    assert second["report/report.json"] != first["report/report.json"]


@pytest.mark.parametrize("foreign", ["thesis.docx", "folder/", "other.json"])
def test_what_is_no_report_is_never_replaced(
    cli: Cli, tmp_path: Path, patches: Path, bright_onnx: Path, foreign: str
) -> None:
    path = tmp_path / "mine" / foreign
    path.parent.mkdir()
    if foreign.endswith("/"):
        path.mkdir()
    else:
        path.write_text("years of work")
    arguments = (patches, "--classifier", bright_onnx, "--depths", "0", "-o", "mine", "--overwrite", *QUICK)
    fails(cli, tmp_path, 2, ("mine", "give another folder"), *arguments, command="evaluate")


def test_a_place_that_cannot_be_written_is_found_before_the_work(
    cli: Cli, tmp_path: Path, patches: Path, bright_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("a file")
    asked: list[str] = []
    monkeypatch.setattr("wsicomp.datasets.labelled.LabelledTiles.load", lambda *_: asked.append("pixels"))
    arguments = (patches, "--classifier", bright_onnx, "--depths", "0", *QUICK)
    for output, code, word in (
        ("taken", 2, "is a file"),
        ("taken/report", 2, "taken is a file"),
        ("/proc/report", 3, "/proc"),
    ):
        fails(cli, tmp_path, code, (word,), *arguments, "-o", output, command="evaluate")
    assert asked == []


def test_a_figure_that_cannot_be_written_leaves_no_half_report(
    cli: Cli, tmp_path: Path, patches: Path, bright_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> list[Path]:
        raise OSError(errno.ENOSPC, "No space left on device", "samples.png")

    monkeypatch.setattr("wsicomp.evaluation.plots.write_plots", full)
    ended = cli("evaluate", patches, "--classifier", bright_onnx, "--depths", "0", "-o", "report", *QUICK)
    ended.failed(3, "samples.png", "the disk is full")
    assert "| original | 0 |" in ended.out  # what was computed is not lost
    assert listing(tmp_path) == {}


def test_a_report_is_not_written_into_a_store(
    cli: Cli, tmp_path: Path, store: Path, patches: Path, bright_onnx: Path
) -> None:
    output = store / "new/report"
    arguments = (patches, "--classifier", bright_onnx, "-o", output, *QUICK)
    fails(cli, tmp_path, 2, ("report", "lies inside the store"), *arguments, command="evaluate")
    assert not output.parent.exists()
