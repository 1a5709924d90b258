"""Make the golden stores of the newest format: `python -m tests.golden.make_golden FOLDER`.

Run once per format, and never again over stores that a release has written: they are there so that each later release
proves that it still reads what this one wrote. What they hold is worked out by whole-number arithmetic alone, so that
no version of numpy can change what is expected. Each version of the format has the same three:

    vN-int8.zarr          three levels, several shards, glass, edges, a colour profile; from version 2 a fingerprint
    vN-float16.zarr.zip   packed, one level, neither mpp nor colour profile
    vN-rans.zarr.zip      packed, int16 coded by the entropy model in v1-rans.npz, which `make_entropy` fitted
    vN-pictures.zarr.zip  packed, two levels, a floor, tiles of all three kinds
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.store.stores import Content, Floored, write_content, write_floored
from wsicomp.codec.entropy_model import EntropyModel
from wsicomp.codec.zarr_rans import register_model
from wsicomp.geometry import pyramid
from wsicomp.store.schema import FORMAT_VERSION, PICTURES, LatentDtype, StoreHeader
from wsicomp.store.tiles import IS_PICTURE
from wsicomp.store.zipped import pack

FOLDER = Path(__file__).parent


def golden_entropy() -> str:
    """Register the entropy model of the golden stores and return its digest."""
    with np.load(FOLDER / "v1-rans.npz", allow_pickle=False) as arrays:
        return register_model(EntropyModel.from_arrays(dict(arrays)))


def golden_content(
    version: int,
    latent_dtype: LatentDtype,
    width_px: int,
    height_px: int,
    *,
    full: bool,
    entropy: str | None = None,
) -> Content:
    """Content by formula: tile (row, col) is glass where 5 row + 3 col + level is a multiple of 4."""
    tile_size, depth, channels = 8, 2, 2
    levels = pyramid(width_px, height_px, tile_size, None if full else 1)
    masks, latents = [], []
    for level in levels:
        grid = level.grid(tile_size)
        rows, cols = np.indices((grid.rows, grid.cols))
        masks.append((5 * rows + 3 * cols + level.index) % 4 != 0)
        c, y, x = np.indices((channels, -(-level.height_px // 2**depth), -(-level.width_px // 2**depth)))
        values = (7 * c + 11 * y + 13 * x + x * y + level.index) % 61 - 30
        step = tile_size >> depth
        latents.append(np.where(masks[-1][y // step, x // step], values, 0).astype(latent_dtype))
    header = StoreHeader(
        model="perticarari2023",
        weights_sha256="0123456789abcdef" * 4,
        depth=depth,
        quality=None if full else 3,
        channels=channels,
        latent_dtype=latent_dtype,
        tile_size=tile_size,
        levels=levels,
        mpp=(0.25, 0.5) if full else None,
        objective_power=40.0 if full else None,
        vendor="aperio" if full else None,
        source_bytes=123_456 if full else None,
        tissue_rule={"rule": "formula", "threshold": 0.5} if full else {},
        glass_rgb=(243, 242, 244),
        tissue_tiles=sum(int(mask.sum()) for mask in masks),
        total_tiles=sum(mask.size for mask in masks),
        entropy=entropy,
        created_by="wsicomp 0.1.0",
        format_version=version,
        source_fingerprint="fedcba9876543210" * 4 if full and version > 1 else None,
    )
    return Content(header, tuple(masks), tuple(latents), b"golden profile" if full else None)


ENTROPY = golden_entropy()

GOLDEN = {
    f"v{version}-{name}": content
    for version in range(1, FORMAT_VERSION + 1)
    for name, content in {
        "int8.zarr": golden_content(version, "int8", 141, 27, full=True),
        "float16.zarr.zip": golden_content(version, "float16", 30, 21, full=False),
        "rans.zarr.zip": golden_content(version, "int16", 43, 29, full=False, entropy=ENTROPY),
    }.items()
}


def golden_pictures(version: int) -> Floored:
    """Content by formula whose tissue tiles are pictures where row + col is even, above a floor."""
    content = golden_content(version, "int8", 45, 27, full=True)
    header = replace(
        content.header,
        quality=4,
        floor={"min_psnr_db": 30.0},
        features=(PICTURES,) if version > 1 else (),
    )
    latents, qualities, fidelities, pictures = [], [], [], []
    for mask, values in zip(content.masks, content.latents, strict=True):
        rows, cols = np.indices(mask.shape)
        is_picture = mask & ((rows + cols) % 2 == 0)
        covered = np.repeat(np.repeat(is_picture, 2, 0), 2, 1)[: values.shape[1], : values.shape[2]]
        latents.append(np.where(covered, 0, values).astype(values.dtype))
        steps = 64 + 8 * (cols % 3)
        qualities.append(np.where(is_picture, IS_PICTURE, np.where(mask, steps, 0)).astype(np.uint8))
        measured = np.stack([30 + rows + cols / 2, 0.5 + cols / 64], -1)
        measured[is_picture] = np.inf, 1
        fidelities.append(np.where(mask[..., None], measured, np.nan).astype(np.float32))
        y, x, c = np.indices((8, 8, 3))
        pictures.append(
            {
                (int(row), int(col)): ((31 * y + 17 * x + 7 * c + 5 * row + col) % 256).astype(np.uint8)
                for row, col in np.argwhere(is_picture)
            }
        )
    content = replace(content, header=header, latents=tuple(latents), icc_profile=None)
    return Floored(content, tuple(qualities), tuple(fidelities), tuple(pictures))


GOLDEN_PICTURES = {
    f"v{version}-pictures.zarr.zip": golden_pictures(version) for version in range(1, FORMAT_VERSION + 1)
}


def main(folder: Path) -> None:
    """Write every golden store of the newest format into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    newest = {name: content for name, content in GOLDEN.items() if content.header.format_version == FORMAT_VERSION}
    for name, content in newest.items():
        if name.endswith(".zip"):
            with tempfile.TemporaryDirectory() as scratch:
                write_content(Path(scratch, "s.zarr"), content)
                pack(Path(scratch, "s.zarr"), folder / name)
        else:
            write_content(folder / name, content)
    with tempfile.TemporaryDirectory() as scratch:
        name = f"v{FORMAT_VERSION}-pictures.zarr.zip"
        write_floored(Path(scratch, "s.zarr"), GOLDEN_PICTURES[name])
        pack(Path(scratch, "s.zarr"), folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
