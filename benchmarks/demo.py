"""The main job on one slide: encode at every depth, verify, decode, compare, and draw what came out.

    python -m benchmarks.demo                      a real tissue picture, made into a pyramidal SVS with glass around it
    python -m benchmarks.demo SLIDE.svs            a slide of one's own
    python -m benchmarks.demo --model NAME [SLIDE] with another codec than the default, such as perticarari2023

The picture is scikit-image's immunohistochemistry image (real colon tissue); it is repeated, mirrored, to the size of a
small slide. All results go to the folder demo/.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import wsicomp
from wsicomp.evaluation.against import compare
from wsicomp.models.registry import WSIC
from wsicomp.pipeline.view import LatentSlide
from wsicomp.slides import open_source
from wsicomp.slides.source import TileSource
from wsicomp.slides.svs import write_svs
from wsicomp.store.verify import verify

DEPTHS = (1, 2, 3, 4)
OUTPUT = Path("demo")
MPP = 0.5
GLASS = (243, 243, 242)


def main() -> int:
    """Run the demo; return the exit code."""
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo")
    parser.add_argument("slide", nargs="?", type=Path)
    parser.add_argument("--model", default=WSIC)
    options = parser.parse_args()
    if options.slide is not None:
        path = options.slide
    else:
        path = OUTPUT / "tissue.svs"
        write_svs(path, tissue_on_glass(), mpp=MPP)
    console = Console(highlight=False, width=110)
    title = f"{options.model}: {path.name}, {path.stat().st_size:,} bytes"
    table = Table(title=title, title_justify="left")
    headers = (
        "depth",
        "elements",
        "bits/px",
        "bytes",
        "of source",
        "PSNR dB",
        "SSIM",
        "MS-SSIM",
        "enc tiles/s",
        "dec tiles/s",
    )
    for header in headers:
        table.add_column(header, justify="right")
    with open_source(path) as source:
        region = detailed_region(source)
        pictures = [("original", read_original(source, region))]
        for depth in DEPTHS:
            store = OUTPUT / f"depth-{depth}.zarr"
            encoded = wsicomp.encode(path, store, depth=depth, model=options.model)
            damage = verify(store)
            if damage:
                console.print(f"{store}: {damage[0].what}")
                return 3
            with LatentSlide(store) as slide:
                level = compare(slide, source)[0]
                elements = slide.header.channels / (3 * 4**depth)
                pictures.append((f"depth {depth}, {encoded.bits_per_pixel:.2f} bits/px", slide.read_rgb(0, *region)))
            table.add_row(
                str(depth),
                f"{elements:.4f}",
                f"{encoded.bits_per_pixel:.3f}",
                f"{encoded.store_bytes:,}",
                f"{encoded.ratio_to_source:.3f}",
                f"{level.psnr_db:.2f}",
                f"{level.ssim:.4f}",
                "" if level.ms_ssim is None else f"{level.ms_ssim:.4f}",
                f"{encoded.tissue_tiles / encoded.seconds:.0f}",
                f"{decoding_rate(store):.0f}",
            )
    console.print(table)
    console.print("tiles/s: tissue tiles a second, reading and writing included.")
    console.print("elements: latent elements per picture element, the founding study's measure; bytes are what counts.")
    draw(pictures, OUTPUT / "demo.jpg")
    console.print(f"{OUTPUT / 'demo.jpg'}: the original, the reconstructions and their errors")
    return 0


def decoding_rate(store: Path) -> float:
    """Tissue tiles of level 0 that are read and decoded in a second."""
    with LatentSlide(store) as slide:
        started = time.monotonic()
        for _ in slide.decode_tiles(0, iter(slide.header.grid(0))):
            pass
        return float(slide.reader.tissue(0).sum()) / (time.monotonic() - started)


def tissue_on_glass() -> NDArray[np.uint8]:
    """Lay a mirrored 2 x 2 sheet of the tissue picture on glass, (2048, 2560, 3) uint8."""
    from skimage import data

    picture = data.immunohistochemistry()  # type: ignore[no-untyped-call]
    row = np.concatenate([picture, picture[:, ::-1]], axis=1)
    tissue = np.concatenate([row, row[::-1]])
    noise = np.random.default_rng(0).normal(0, 1.5, (2048, 2560, 1))
    sheet = np.clip(np.array(GLASS) + noise, 0, 255).astype(np.uint8)
    sheet[400 : 400 + tissue.shape[0], 700 : 700 + tissue.shape[1]] = tissue
    return sheet


def detailed_region(source: TileSource) -> tuple[int, int, int, int]:
    """Left, top, width and height of the two by two tiles with the most detail."""
    level, size = source.levels[0], source.tile_size
    places = np.argwhere(source.tissue().tiles[0][:-1, :-1])
    if not len(places):
        return 0, 0, min(size, level.width_px), min(size, level.height_px)

    def detail(place: NDArray[np.intp]) -> float:
        x, y = int(place[1]) * size, int(place[0]) * size
        picture = read_original(source, (x, y, 2 * size, 2 * size)).astype(np.int16)
        return float(np.abs(np.diff(picture, axis=0)).mean() + np.abs(np.diff(picture, axis=1)).mean())

    row, col = max(places[:: len(places) // 50 + 1], key=detail)
    x, y = int(col) * size, int(row) * size
    return x, y, min(2 * size, level.width_px - x), min(2 * size, level.height_px - y)


def read_original(source: TileSource, region: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Pixels of a region that begins at a tile, (H, W, 3) uint8."""
    x, y, width, height = region
    size = source.tile_size
    rows = [
        np.concatenate([source.read_tile(0, row, col) for col in range(x // size, -(-(x + width) // size))], axis=1)
        for row in range(y // size, -(-(y + height) // size))
    ]
    return np.concatenate(rows)[:height, :width]


def draw(pictures: list[tuple[str, NDArray[np.uint8]]], path: Path) -> None:
    """Draw the pictures over their errors, four times enlarged in amplitude."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, len(pictures), figsize=(3.2 * len(pictures), 6.8), layout="constrained")
    original = pictures[0][1].astype(np.int16)
    for column, (title, picture) in enumerate(pictures):
        axes[0, column].imshow(picture)
        axes[0, column].set_title(title, fontsize=10)
        error = np.abs(picture.astype(np.int16) - original).mean(axis=2)
        axes[1, column].imshow(4 * error, cmap="magma", vmin=0, vmax=255)
        axes[1, column].set_title("4 x mean absolute error" if column else "no error", fontsize=9)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.savefig(path, dpi=100, pil_kwargs={"quality": 88})
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
