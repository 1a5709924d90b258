"""The tiles that every codec is given, in sets that are reported apart.

    lung       adenocarcinoma and squamous patches of one split, 224 px: the frozen classifier's task; JPEG at source
    prostate   all patches of one split, 256 px; they were stored as JPEG before anything here sees them
    slide      tissue tiles of CMU-1-Small-Region.svs, 256 px, level 0, by wsicomp's own mask; JPEG at source
    ihc        scikit-image's `immunohistochemistry` picture in 256 px tiles; its source is not JPEG

The first three need WSICOMP_DATA. Nothing here trains, and no tile is ever drawn or written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
import tifffile
from numpy.typing import NDArray

from wsicomp.datasets.labelled import LabelledTiles
from wsicomp.datasets.patches import PatchTable
from wsicomp.slides import SourceSettings, open_source

__all__ = ["SETS", "SourceJpegs", "TileSet", "load_set"]

LUNG_CLASSES = ("adenocarcinoma", "squamous")
SLIDE = Path("slides") / "CMU-1-Small-Region.svs"
SIDE_PX = 256
EOSIN, DAB = 1, 2
JPEG_SUFFIXES = (".jpg", ".jpeg")


@dataclass(frozen=True)
class SourceJpegs:
    """The JPEG streams that the pixels came out of, and how many pixels they hold together."""

    streams: tuple[bytes, ...]
    pixels: int


@dataclass(frozen=True)
class TileSet:
    """Tiles of one organ or source.

    Parameters
    ----------
    name
        One of `SETS`.
    tiles
        (N, S, S, 3) uint8 RGB.
    about
        What a reader of the results should know of them.
    study
        The same tiles with labels and groups, where a frozen classifier scores them.
    source
        JPEG streams of the source; None where it is not JPEG.
    counterstain
        The stain beside haematoxylin, as the column of `rgb2hed`.
    """

    name: str
    tiles: NDArray[np.uint8]
    about: str
    study: LabelledTiles | None = None
    source: SourceJpegs | None = None
    counterstain: int = EOSIN


def load_set(name: str, data: Path | None, *, split: str, every: int) -> TileSet:
    """Load one set, of the patches every Nth; the slide and the picture have few tiles, and are taken whole.

    Parameters
    ----------
    data
        Folder of the patches and slides; None where there is none, which is enough for `ihc`.
    split
        Split of the patch tables; the slide and the picture have none.

    Raises
    ------
    ValueError
        If the set needs the folder and there is none.
    DataError, SlideError
        If patches or the slide cannot be read.
    """
    if name == "ihc":
        return ihc()
    if data is None:
        raise ValueError(f"tile set '{name}' needs the folder of the data: set WSICOMP_DATA")
    return {"lung": lung, "prostate": prostate}[name](data, split, every) if name != "slide" else slide(data)


SETS = ("lung", "prostate", "slide", "ihc")


def lung(data: Path, split: str, every: int) -> TileSet:
    """Adenocarcinoma against squamous, with labels and groups."""
    table = PatchTable.load(data / "lung", label_column="diagnosis").select(split=split, classes=LUNG_CLASSES)
    table = PatchTable(table.name, table.patches[::every])
    tiles = np.stack(table.images())
    study = LabelledTiles("lung", tiles, table.labels(LUNG_CLASSES[1]), table.groups(), LUNG_CLASSES)
    about = f"{len(tiles)} lung patches, {split} split; stored as JPEG before, which codecs find again at high rates"
    return TileSet("lung", tiles, about, study, patch_jpegs(table, tiles))


def prostate(data: Path, split: str, every: int) -> TileSet:
    """Patches of prostate biopsies."""
    table = PatchTable.load(data / "prostate").select(split=split)
    table = PatchTable(table.name, table.patches[::every])
    tiles = np.stack(table.images())
    about = f"{len(tiles)} prostate patches, {split} split; stored as JPEG before, so a codec partly re-codes artefacts"
    return TileSet("prostate", tiles, about, None, patch_jpegs(table, tiles))


def patch_jpegs(table: PatchTable, tiles: NDArray[np.uint8]) -> SourceJpegs | None:
    """Read the patches' own files, where all of them are JPEG."""
    if any(patch.path.suffix.lower() not in JPEG_SUFFIXES for patch in table.patches):
        return None
    return SourceJpegs(tuple(patch.path.read_bytes() for patch in table.patches), tiles[..., 0].size)


def slide(data: Path) -> TileSet:
    """Tissue tiles that lie whole inside the slide: those at its edge would be filled up by reflection."""
    with open_source(data / SLIDE, SourceSettings(tile_size=SIDE_PX, max_levels=1)) as source:
        (grid,) = (level.grid(SIDE_PX) for level in source.levels)
        tissue = source.tissue().tiles[0]
        places = [t for t in grid if tissue[t.row, t.col] and t.width_px == t.height_px == SIDE_PX]
        tiles = np.stack([source.read_tile(0, place.row, place.col) for place in places])
    about = f"{len(tiles)} tissue tiles of CMU-1-Small-Region.svs, JPEG at source; source rows are of all its tiles"
    return TileSet("slide", tiles, about, None, slide_jpegs(data / SLIDE))


def slide_jpegs(path: Path) -> SourceJpegs:
    """Every JPEG tile of a slide's first page, each made whole with the page's shared tables."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        tables = page.jpegtables
        assert tables is not None  # noqa: S101
        streams = []
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            tiff.filehandle.seek(offset)
            stream = tiff.filehandle.read(count)
            streams.append(stream[:2] + tables[2:-2] + stream[2:])
        return SourceJpegs(tuple(streams), page.imagewidth * page.imagelength)


def ihc() -> TileSet:
    """Colon tissue, immunostained with DAB and haematoxylin, as a PNG."""
    picture: NDArray[np.uint8] = skimage.data.immunohistochemistry()  # type: ignore[no-untyped-call]
    height, width = (side // SIDE_PX for side in picture.shape[:2])
    whole = picture[: height * SIDE_PX, : width * SIDE_PX]
    # (h * S, w * S, 3) -> (h, S, w, S, 3) -> (h * w, S, S, 3)
    cut = whole.reshape(height, SIDE_PX, width, SIDE_PX, 3).swapaxes(1, 2).reshape(-1, SIDE_PX, SIDE_PX, 3)
    tiles = np.ascontiguousarray(cut)
    about = f"{len(tiles)} tiles of scikit-image's immunohistochemistry picture, never JPEG"
    return TileSet("ihc", tiles, about, counterstain=DAB)
