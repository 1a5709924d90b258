"""Whether tile borders show: errors, gradients and jumps across them, beside those inside tiles.

python -m benchmarks.seams [MODEL]        writes benchmarks/results/seams.json; needs WSICOMP_DATA

    e = x_hat - x, and for each pair of neighbouring columns (and rows) k - 1, k the means over their pixels:
    error     (e[k]^2 + e[k - 1]^2) at borders / inside             is a border less like the original?
    gradient  (x_hat[k] - x_hat[k - 1])^2 at borders / inside, over that of x    is there a line to be seen?
    jump      (e[k] - e[k - 1])^2 at borders / inside               do errors go on across a border as they do inside?

Every tile is decoded alone, so a border is where a codec could give itself away; a ratio of 1 cannot be told from any
other place. The slide is JPEG at source, in blocks of 8 px that the tiles' borders fall on: where blocks meet, its
pixels jump, and every codec errs more, so "inside" is where blocks meet inside a tile. Errors on the two sides of a
border know nothing of one another, while neighbours inside a tile share theirs; so a jump stays above 1 for every codec
of independent tiles: it is 1 / (1 - correlation of neighbours' errors). AVIF is measured beside, as one of those.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicomp.evaluation.classical import ImageCodec
from wsicomp.evaluation.machine import describe_machine
from wsicomp.models.registry import WSIC
from wsicomp.models.wsic import QUALITIES
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.transforms import codec_depths, load_codec
from wsicomp.slides import SourceSettings, open_source

RESULTS = Path(__file__).parent / "results" / "seams.json"
SLIDE = "CMU-1-Small-Region.svs"
TILE = 256
JPEG_BLOCK = 8
AVIF_QUALITIES = (10, 25, 40)


def main() -> None:
    """Measure and write the results."""
    model = load_codec(sys.argv[1] if sys.argv[1:] else WSIC)
    with open_source(Path(os.environ["WSICOMP_DATA"]) / "slides" / SLIDE, SourceSettings(tile_size=TILE)) as slide:
        base = slide.levels[0]
        rows, cols = base.height_px // TILE, base.width_px // TILE
        tiles = np.stack([slide.read_tile(0, row, col) for row in range(rows) for col in range(cols)])
    x = lay_out(tiles, rows, cols)
    results: list[dict[str, Any]] = []
    for depth in codec_depths(model):
        codec = TileCodec(model, depth)
        for quality in range(0, QUALITIES, 2):
            qualities = np.full(len(tiles), quality, np.float32)
            decoded = codec.decode(codec.encode(tiles, quality=qualities), quality=qualities)
            setting = {"codec": model.name, "setting": f"depth {depth} quality {quality}"}
            results.append(setting | ratios(x, lay_out(decoded, rows, cols)))
            print(results[-1], flush=True)
    for level in AVIF_QUALITIES:
        avif = ImageCodec("avif-444-s4", level)
        setting = {"codec": avif.name, "setting": avif.setting}
        results.append(setting | ratios(x, lay_out(avif.run(tiles).x_hat, rows, cols)))
        print(results[-1], flush=True)
    document = {
        "command": shlex.join(["python", "-m", "benchmarks.seams", *sys.argv[1:]]),
        "machine": describe_machine(),
        "model": model.name,
        "weights_sha256": model.sha256,
        "slide": SLIDE,
        "results": results,
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def lay_out(tiles: NDArray[np.uint8], rows: int, cols: int) -> NDArray[np.float32]:
    """Lay tiles (rows * cols, T, T, 3) out as one picture (rows * T, cols * T, 3)."""
    grid = tiles.reshape(rows, cols, TILE, TILE, 3).swapaxes(1, 2)  # (rows, cols, T, T, 3) -> (rows, T, cols, T, 3)
    return grid.reshape(rows * TILE, cols * TILE, 3).astype(np.float32)


def ratios(x: NDArray[np.float32], x_hat: NDArray[np.float32]) -> dict[str, float]:
    """Error, gradient and jump at borders over inside, of pictures (H, W, 3), over columns and rows together."""
    error = x_hat - x
    near = at_borders(lambda a: np.square(a[:, 1:]) + np.square(a[:, :-1]), error)
    seen = at_borders(lambda a: np.square(np.diff(a, axis=1)), x_hat)
    usual = at_borders(lambda a: np.square(np.diff(a, axis=1)), x)
    jump = at_borders(lambda a: np.square(np.diff(a, axis=1)), error)
    return {"error": near, "gradient": seen / usual, "jump": jump}


def at_borders(energy: Callable[[NDArray[np.float32]], NDArray[np.float32]], picture: NDArray[np.float32]) -> float:
    """Energy between columns (H, W - 1, 3) at the borders of tiles over inside, and so between rows; their mean."""
    found = []
    for turned in (picture, picture.swapaxes(0, 1)):
        columns = energy(turned).mean(axis=(0, 2))
        places = np.arange(1, turned.shape[1])
        border, blocks = places % TILE == 0, places % JPEG_BLOCK == 0
        found.append(float(columns[border].mean() / columns[blocks & ~border].mean()))
    return sum(found) / len(found)


if __name__ == "__main__":
    main()
