"""A store held against the slide that it was made of: PSNR and SSIM of the tissue tiles, level by level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsicomp.errors import ConfigError
from wsicomp.evaluation.fidelity import Fidelity, measure
from wsicomp.metrics.distortion import mean_psnr_db
from wsicomp.metrics.similarity import MIN_SIDE_SSIM_PX
from wsicomp.pipeline.view import LatentSlide
from wsicomp.progress import Progress, silent
from wsicomp.slides.source import TileSource

__all__ = ["LevelFidelity", "compare"]


@dataclass(frozen=True)
class LevelFidelity:
    """Means over the tissue tiles of a level, each cropped at the slide's edge; slivers under 11 px are left out."""

    level: int
    tiles: int
    psnr_db: float
    ssim: float
    ms_ssim: float


def compare(slide: LatentSlide, source: TileSource, *, progress: Progress = silent) -> list[LevelFidelity]:
    """Measure what a store lost of its source; levels without tissue are left out.

    Parameters
    ----------
    slide
        The store.
    source
        The slide that it was encoded from, opened at the store's resolution and tile size.

    Raises
    ------
    ConfigError
        If the sizes say that this is not the slide of the store.
    """
    header = slide.header
    if source.levels[: len(header.levels)] != header.levels:
        raise ConfigError(
            f"{source.name}: is {source.levels[0].width_px} x {source.levels[0].height_px} pixels and the store "
            f"{header.levels[0].width_px} x {header.levels[0].height_px}; it is not the slide of this store"
        )
    done, results = 0, []
    for level in header.levels:
        mask = slide.reader.tissue(level.index)
        tissue = [tile for tile in level.grid(header.tile_size) if mask[tile.row, tile.col]]
        parts: list[Fidelity] = []
        for start in range(0, len(tissue), slide.codec.batch_size):
            batch = tissue[start : start + slide.codec.batch_size]
            for tile, pixels in slide.decode_tiles(level.index, batch):
                if min(tile.width_px, tile.height_px) >= MIN_SIDE_SSIM_PX:
                    inside = (slice(tile.height_px), slice(tile.width_px))
                    x = source.read_tile(level.index, tile.row, tile.col)[inside]
                    parts.append(measure(x[None], pixels[inside][None]))  # (h, w, 3) -> (1, h, w, 3)
            done += len(batch)
            progress(done, header.tissue_tiles)
        if parts:
            results.append(
                LevelFidelity(
                    level=level.index,
                    tiles=len(parts),
                    psnr_db=mean_psnr_db(np.concatenate([part.psnr_db for part in parts])),
                    ssim=float(np.concatenate([part.ssim for part in parts]).mean()),
                    ms_ssim=float(np.concatenate([part.ms_ssim for part in parts]).mean()),
                )
            )
    return results
