"""A CSV file of slides as the jobs of a batch.

    slide,mpp,output                     -> Job(DIR/a.svs, DIR/a.zarr)
    a.svs,,                              -> Job(DIR/b.svs, DIR/half/b.zarr, mpp=0.5)
    b.svs,0.5,half/b.zarr                   where DIR is the folder of the CSV

Only `slide` is required. What it does not do: it opens no slide.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

from wsicomp.disk import explain
from wsicomp.errors import ConfigError, DataError, SlideError
from wsicomp.pipeline.batch import Job, check_stores, store_suffix

__all__ = ["COLUMNS", "read_slide_list"]

COLUMNS = ("slide", "mpp", "output")


def read_slide_list(
    path: Path, output: Path | None = None, *, zipped: bool = False, check_slides: bool = True
) -> list[Job]:
    """Read the slides of a batch from a CSV file, in its order.

    Parameters
    ----------
    path
        The CSV: a header with the column `slide` and, where wanted, `mpp` (micrometres per pixel to encode at) and
        `output` (the store, or the folder for it); paths are relative to the CSV's own folder, an empty field is as
        none.
    output
        Folder for the stores of rows without an output of their own; None puts each beside its slide.
    zipped
        Whether stores are packed into one file each.
    check_slides
        Whether a slide that is not there is refused now, and not when its turn comes.

    Raises
    ------
    DataError
        If the CSV cannot be read, or has other columns or a wrong number.
    ConfigError
        If two slides have one store, or a store cannot stand where it would.
    SlideError
        If a slide is not there.
    """
    if output is not None and output.name.endswith((".zarr", ".zarr.zip")):
        raise ConfigError(f"{output}: names one store, and a slide list may hold many slides; give a folder")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream, strict=True)
            header = [name.strip() for name in next(rows, [])]
            check_header(path, header)
            lines = [(rows.line_num, fields) for fields in rows if any(field.strip() for field in fields)]
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {explain(error)}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no CSV file in UTF-8; save it as one") from error
    if not lines:
        raise DataError(f"{path}: names no slide; give one row for each")
    jobs = []
    for number, fields in lines:
        where = f"{path} line {number}"
        if len(fields) != len(header):
            raise DataError(f"{where}: has {len(fields)} fields and the header {len(header)}; quote commas in names")
        row = {name: field.strip() for name, field in zip(header, fields, strict=True)}
        jobs.append(job_of(row, where, path.parent, output, store_suffix(zipped)))
        if check_slides and not jobs[-1].slide.is_file():
            raise SlideError(f"{where}: there is no slide {jobs[-1].slide}; paths are relative to the CSV's folder")
    check_stores(jobs)
    return jobs


def check_header(path: Path, header: list[str]) -> None:
    """Raise DataError unless the columns are some of `COLUMNS`, each once, `slide` among them."""
    known = ", ".join(COLUMNS)
    for name in header:
        if name not in COLUMNS:
            raise DataError(f"{path}: column '{name}' is unknown; the columns are {known}, of which slide is required")
    if "slide" not in header:
        raise DataError(f"{path}: has no column slide; the columns are {known}, the first line names them")
    if len(set(header)) != len(header):
        raise DataError(f"{path}: has a column twice; the columns are {known}")


def job_of(row: dict[str, str], where: str, folder: Path, output: Path | None, suffix: str) -> Job:
    """Job of one row; `where` is how messages call it.

    Raises
    ------
    DataError
        If the row names no slide, its mpp is no number above 0, or its output is a store of the other kind.
    """
    if not row["slide"]:
        raise DataError(f"{where}: names no slide")
    slide = folder / row["slide"]
    mpp = None
    if text := row.get("mpp"):
        try:
            mpp = float(text)
        except ValueError:
            mpp = math.nan
        if not 0 < mpp < math.inf:
            raise DataError(f"{where}: mpp '{text}' is no number of micrometres per pixel above 0")
    if not (own := row.get("output")):
        return Job(slide, (output or slide.parent) / (slide.stem + suffix), mpp)
    store = folder / own
    if not store.name.endswith((".zarr", ".zarr.zip")):
        store = store / (slide.stem + suffix)
    elif not store.name.endswith(suffix):
        raise DataError(f"{where}: a store of this kind ends in {suffix}")
    return Job(slide, store, mpp)
