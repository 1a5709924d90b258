"""The blocks of every page run, in order, in a folder of stand-ins for the slides and patches that they name.

    README.md, docs/*.md -> ```sh: wsicomp and python -m, in this process | ```python: exec -> all of them succeed

The static part, which also looks at blocks that are not run, is `test_docs.py`.
"""

from __future__ import annotations

import csv
import importlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmarks.demo import TISSUE
from tests.docs_pages import BLOCKS, PAGES, ROOT, Block
from tests.factories import glass
from wsicomp.cli.main import execute
from wsicomp.datasets.phantom import phantom_patches
from wsicomp.slides.svs import write_svs

RUN = {page: [block for block in BLOCKS if block.page == page and block.no_run is None] for page in PAGES}
LUNG_PATCHES = 16


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide with tissue around (1000, 1000), two more in a folder, a list of these, a picture, and patches, lung."""
    folder = tmp_path_factory.mktemp("stand-ins")
    tissue = tifffile.imread(TISSUE)
    image = glass(1600, 1600)
    image[1040:1264, 1040:1264] = tissue[500:724, 500:724]
    write_svs(folder / "slide.svs", image, mpp=0.5)
    Image.fromarray(tissue[500:756, 500:756]).save(folder / "patch.png")
    (folder / "in").mkdir()
    for number in (1, 2):
        write_svs(
            folder / "in" / f"000{number}.svs", np.ascontiguousarray(tissue[100 * number :, 400:][:560, :560]), mpp=0.5
        )
    (folder / "slides.csv").write_text("slide,mpp,output\nin/0001.svs,1.0,a.zarr\nin/0002.svs,,\n", encoding="utf-8")
    (folder / "scratch").mkdir()
    patches = phantom_patches(LUNG_PATCHES, size=64, seed=0, split="test")
    splits = ("train", "val", "test", "test")
    (folder / "lung").mkdir()
    with (folder / "lung" / "index.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "diagnosis", "group", "split"])
        for number, (tile, label) in enumerate(zip(patches.tiles, patches.labels, strict=True)):
            Image.fromarray(tile).save(folder / "lung" / f"{number}.png")
            diagnosis = ("adenocarcinoma", "squamous")[label]
            table.writerow([f"{number}.png", diagnosis, f"original-{number // 2}", splits[number // 2 % 4]])
    return folder


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.mark.usefixtures("one_torch_thread")
@pytest.mark.parametrize("page", [page for page in PAGES if RUN[page]], ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(
    page: Path, stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "work"
    shutil.copytree(stand_ins, folder)
    monkeypatch.chdir(folder)
    for block in RUN[page]:
        run(block, capsys)


def run(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a block in the present folder."""
    if block.language == "python":
        exec(compile(block.code, block.name, "exec"), {"__name__": "__main__"})  # noqa: S102
        return
    for words in block.commands():
        if words[:2] == ["python", "-m"]:
            importlib.import_module(words[2]).main(words[3:])
            continue
        assert words[0] == "wsicomp", f"{block.name}: {words[0]} is not run here; mark the block no-run"
        code = execute([path for word in words[1:] for path in expanded(word)])
        assert code == 0, f"{block.name}: `{' '.join(words)}` ends with {code}: {capsys.readouterr().err}"


def expanded(word: str) -> list[str]:
    """Paths that a word with a * stands for, as a shell would have them; any other word as it is."""
    return sorted(str(path) for path in Path().glob(word)) if "*" in word and not os.path.isabs(word) else [word]
