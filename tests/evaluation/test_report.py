from __future__ import annotations

import csv
import json
import platform
from pathlib import Path

import pytest

from tests.evaluation.toy import GreyClassifier, darkened, toy_data
from wsicomp.errors import DataError
from wsicomp.evaluation.machine import describe_machine
from wsicomp.evaluation.report import ROW_KEYS, Report, read_report, row_name, to_markdown, write_report
from wsicomp.evaluation.study import evaluate

CONTRACT = (
    *("codec", "depth", "quality", "latent_elements", "element_ratio", "bytes_per_tile", "bits_per_pixel"),
    *("psnr_db", "ssim", "ms_ssim", "loss"),
    *("bce", "accuracy", "precision", "recall", "auc", "flip_rate", "intervals"),
)


@pytest.fixture(scope="module")
def report() -> Report:
    data = toy_data()
    reconstructions = [darkened(data, 25), darkened(data, 5, "jpeg", depth=None, quality=20)]
    return evaluate(data, GreyClassifier(), reconstructions, calibrated_threshold=0.1, n_resamples=50)


def test_json_keeps_the_contract_and_comes_back(report: Report, tmp_path: Path) -> None:
    path = write_report(report, tmp_path / "new" / "folder")[0]
    document = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert list(document) == ["rows", "classifier", "data", "machine"]
    for row in document["rows"]:
        assert list(row) == [*CONTRACT, "calibrated"]
    assert read_report(path) == report


def test_csv_is_flat_and_complete(report: Report, tmp_path: Path) -> None:
    path = write_report(report, tmp_path)[1]
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["codec"] for row in rows] == ["original", "wsic", "jpeg"]
    assert rows[0]["psnr_db"] == rows[2]["depth"] == ""
    for read, row in zip(rows, report.rows, strict=True):
        assert float(read["accuracy"]) == row["accuracy"]
        assert [float(read["bce_low"]), float(read["bce_high"])] == row["intervals"]["bce"]
        assert float(read["recall_drop_high"]) == row["intervals"]["recall_drop"][1]
        assert float(read["calibrated_flip_rate"]) == row["calibrated"]["flip_rate"]
    assert not {key for key in rows[0] if key is None or "interval" in key}


def test_values_that_json_lacks_write_nothing(report: Report, tmp_path: Path) -> None:
    broken = Report([{**report.rows[0], "bce": float("nan")}], {}, {}, {})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_report(broken, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_report(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_report(report, tmp_path)[0]
    before = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_report(Report([], {}, {}, {}), tmp_path)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["report.csv", "report.json"]


@pytest.mark.parametrize(
    "content", ["", "[]", '{"rows": []}', '{"rows": [{}], "classifier": {}, "data": {}, "machine": {}}']
)
def test_what_is_not_a_report_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"report\.json: "):
        read_report(path)


def test_markdown_has_a_cell_for_each_column(report: Report) -> None:
    lines = to_markdown(report.rows).splitlines()
    assert len(lines) == 2 + len(report.rows)
    assert len({line.count("|") for line in lines}) == 1
    cells = [cell.strip() for cell in lines[3].strip("|").split("|")]
    assert cells[:5] == ["wsic", "3", "-", "12.50%", "3.000"]
    low, high = report.rows[1]["intervals"]["accuracy"]
    assert f"0.833 [{low:.3f}, {high:.3f}]" in cells
    assert lines[4].startswith("| jpeg | - | 20 | - |")


def test_rows_are_called_by_what_sets_them_apart(report: Report) -> None:
    assert [row_name(row) for row in report.rows] == ["original", "wsic depth 3", "jpeg quality 20"]


def test_the_machine_is_described_without_its_name() -> None:
    machine = describe_machine()
    assert set(machine) == {"cpu", "cores", "system", "python", "torch", "numpy", "zarr", "openslide"}
    assert all(machine.values())
    text = json.dumps(machine)
    assert platform.node() not in text
    assert str(Path.home()) not in text
    assert "/" not in text.replace(str(machine["cpu"]), "")


def test_row_keys_are_the_contract() -> None:
    assert list(ROW_KEYS) == [*CONTRACT, "calibrated"]
