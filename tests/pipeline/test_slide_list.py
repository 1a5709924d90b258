"""A CSV of slides: what becomes of each row, and that a wrong one is named by its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsicomp.errors import ConfigError, DataError, SlideError
from wsicomp.pipeline.batch import Job
from wsicomp.pipeline.slide_list import read_slide_list


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    for name in ("a.svs", "b.svs", "in/c, d.svs"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path / "slides.csv"


def test_rows_become_jobs_in_order_and_relative_to_the_csv(csv: Path) -> None:
    csv.write_text('slide,mpp,output\na.svs,,\n"in/c, d.svs",0.5,half/x.zarr\n\n b.svs , 1 , deep\n', encoding="utf-8")
    folder = csv.parent
    assert read_slide_list(csv) == [
        Job(folder / "a.svs", folder / "a.zarr"),
        Job(folder / "in/c, d.svs", folder / "half/x.zarr", 0.5),
        Job(folder / "b.svs", folder / "deep/b.zarr", 1.0),
    ]


def test_columns_in_any_order_and_the_mark_that_spreadsheets_write(csv: Path) -> None:
    csv.write_text("\ufeffmpp,slide\n2,a.svs\n", encoding="utf-8")
    assert read_slide_list(csv) == [Job(csv.parent / "a.svs", csv.parent / "a.zarr", 2.0)]


def test_an_output_folder_takes_the_rows_without_an_output(csv: Path) -> None:
    csv.write_text("slide,output\na.svs,own\nb.svs,\n")
    out = csv.parent / "out"
    assert [job.store for job in read_slide_list(csv, out, zipped=True)] == [
        csv.parent / "own/a.zarr.zip",
        out / "b.zarr.zip",
    ]


def test_an_absolute_path_stays(csv: Path) -> None:
    csv.write_text(f"slide\n{csv.parent / 'a.svs'}\n")
    assert read_slide_list(csv)[0].slide == csv.parent / "a.svs"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,mp\na.svs,1\n", "column 'mp' is unknown"),
        ("a.svs\nb.svs\n", "column 'a.svs' is unknown"),
        ("mpp\n1\n", "no column slide"),
        ("", "no column slide"),
        ("slide,slide\na.svs,b.svs\n", "a column twice"),
        ("slide\n", "names no slide; give one row"),
        ("slide,mpp\n,1\n", "line 2: names no slide"),
        ("slide,mpp\na.svs,1\nb.svs\n", "line 3: has 1 fields and the header 2"),
        ("slide,mpp\na.svs,half\n", "line 2: mpp 'half'"),
        ("slide,mpp\na.svs,-1\n", "line 2: mpp '-1'"),
        ("slide,mpp\na.svs,inf\n", "line 2: mpp 'inf'"),
        ("slide,output\na.svs,a.zarr.zip\n", "line 2: a store of this kind ends in .zarr"),
        ("slide\na.svs\n./a.svs\n", "would both become"),
        ("slide,output\na.svs,x.zarr\nb.svs,deep/../x.zarr\n", "a.svs and .*b.svs: would both become"),
        ('slide\n"a.svs\n', "is no CSV file"),
    ],
)
def test_a_wrong_csv_is_refused_in_one_line(csv: Path, text: str, message: str) -> None:
    csv.write_text(text)
    with pytest.raises((ConfigError, DataError), match=message) as refused:
        read_slide_list(csv)
    assert str(csv) in str(refused.value) or "would both become" in message
    assert "\n" not in str(refused.value)


def test_bytes_that_are_no_text(csv: Path) -> None:
    csv.write_bytes(b"slide\n\xff\xfe.svs\n")
    with pytest.raises(DataError, match="is no CSV file in UTF-8"):
        read_slide_list(csv)


def test_a_missing_csv(csv: Path) -> None:
    with pytest.raises(DataError, match=r"slides\.csv: there is no such file"):
        read_slide_list(csv)


def test_one_store_for_a_slide_list(csv: Path) -> None:
    csv.write_text("slide\na.svs\n")
    with pytest.raises(ConfigError, match="names one store"):
        read_slide_list(csv, Path("one.zarr"))


def test_a_slide_that_is_not_there(csv: Path) -> None:
    csv.write_text("slide\na.svs\nnone.svs\n")
    with pytest.raises(SlideError, match=r"line 3: there is no slide .*none\.svs"):
        read_slide_list(csv)
    assert len(read_slide_list(csv, check_slides=False)) == 2


def test_a_slash_at_the_end_of_a_store_makes_no_folder_of_it(csv: Path) -> None:
    csv.write_text("slide,output\na.svs,own.zarr/\n")
    (job,) = read_slide_list(csv, check_slides=False)
    assert job.store == csv.parent / "own.zarr"
