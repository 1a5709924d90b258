"""The main job on one slide: encode at every depth, verify, decode, compare, and draw what is lost.

    python -m benchmarks.demo                      a small H&E slide that stands beside this file
    python -m benchmarks.demo SLIDE.svs            a slide of one's own
    python -m benchmarks.demo --model NAME [SLIDE] another codec than the default, such as perticarari2023

    slide -> store at each depth -> verify -> pixels -> a row of the table, and a column of the picture

`tissue.svs` is 4 x 4 of the JPEG tiles of OpenSlide's test slide CMU-1-Small-Region.svs (CC0), copied byte for byte.
All results go to the folder demo/: the stores, the picture demo.jpg, and the table as demo.json,
without its speeds, which one run on a busy machine does not measure.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import wsicomp
from benchmarks.demo_picture import Column, draw, read_region, telling_region
from wsicomp.evaluation.against import compare
from wsicomp.evaluation.machine import describe_machine
from wsicomp.models.registry import WSIC
from wsicomp.pipeline.view import LatentSlide
from wsicomp.slides import open_source
from wsicomp.store.verify import verify

TISSUE = Path(__file__).with_name("tissue.svs")
DEPTHS = (1, 2, 3, 4)
OUTPUT = Path("demo")
HEADINGS = {
    "depth": "depth",
    "element_ratio": "elements",
    "bits_per_pixel": "bits/px",
    "store_bytes": "bytes",
    "ratio_to_source": "of source",
    "psnr_db": "PSNR dB",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "encode_tiles_per_s": "enc tiles/s",
    "decode_tiles_per_s": "dec tiles/s",
}
FORMATS = {"depth": "d", "element_ratio": ".4f", "store_bytes": ",", "psnr_db": ".2f", "ssim": ".4f", "ms_ssim": ".4f"}


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo")
    parser.add_argument("slide", nargs="?", type=Path, default=TISSUE)
    parser.add_argument("--model", default=WSIC)
    options = parser.parse_args()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir()
    console = Console(highlight=False, width=110)
    rows: list[dict[str, Any]] = []
    with open_source(options.slide) as source:
        mpp = source.info.mpp
        region = telling_region(source)
        columns = [Column(["original", f"{options.slide.stat().st_size:,} bytes"], read_region(source, region))]
        for depth in DEPTHS:
            store = OUTPUT / f"depth-{depth}.zarr"
            encoded = wsicomp.encode(options.slide, store, depth=depth, model=options.model)
            damage = verify(store)
            if damage:
                console.print(f"{store}: {damage[0].what}")
                return 3
            with LatentSlide(store) as slide:
                level = compare(slide, source)[0]
                pixels = slide.read_rgb(0, *region)
                elements = slide.header.channels / (3 * 4**depth)
            rows.append(
                {
                    "depth": depth,
                    "element_ratio": elements,
                    "bits_per_pixel": encoded.bits_per_pixel,
                    "store_bytes": encoded.store_bytes,
                    "ratio_to_source": encoded.ratio_to_source,
                    "psnr_db": level.psnr_db,
                    "ssim": level.ssim,
                    "ms_ssim": level.ms_ssim,
                    "encode_tiles_per_s": encoded.tissue_tiles / encoded.seconds,
                    "decode_tiles_per_s": decoding_rate(store),
                }
            )
            share = f"{100 * (encoded.ratio_to_source or 0):.0f} %"
            columns.append(
                Column([f"depth {depth}", f"{encoded.store_bytes:,} bytes, {share}", f"{level.psnr_db:.1f} dB"], pixels)
            )
    console.print(table(rows, f"{options.model}: {options.slide.name}, {options.slide.stat().st_size:,} bytes"))
    console.print("elements: latent elements per picture element, the founding study's measure; bytes are what counts.")
    console.print("PSNR, SSIM and MS-SSIM: level 0. tiles/s: tissue tiles a second, reading and writing included.")
    draw(columns, None if mpp is None else mpp[0], OUTPUT / "demo.jpg")
    steady = [{key: value for key, value in row.items() if not key.endswith("_per_s")} for row in rows]
    record = {"slide": options.slide.name, "model": options.model, "machine": describe_machine(), "rows": steady}
    (OUTPUT / "demo.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    console.print(f"{OUTPUT / 'demo.jpg'} shows the original, the reconstructions and their errors.")
    return 0


def table(rows: list[dict[str, Any]], title: str) -> Table:
    """Lay the rows out for a terminal."""
    shown = Table(title=title, title_justify="left")
    for heading in HEADINGS.values():
        shown.add_column(heading, justify="right")
    for row in rows:
        cells = []
        for key in HEADINGS:
            default = ".0f" if key.endswith("_per_s") else ".3f"
            cells.append("" if row[key] is None else format(row[key], FORMATS.get(key, default)))
        shown.add_row(*cells)
    return shown


def decoding_rate(store: Path) -> float:
    """Tissue tiles of level 0 that are read and decoded in a second."""
    with LatentSlide(store) as slide:
        started = time.monotonic()
        for _ in slide.decode_tiles(0, iter(slide.header.grid(0))):
            pass
        return float(slide.reader.tissue(0).sum()) / (time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
