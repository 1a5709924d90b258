"""`wsicomp info`: what a slide or a store is, without reading a pixel of it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsicomp.cli.console import emit, say
from wsicomp.cli.options import JsonOption

if TYPE_CHECKING:
    from wsicomp.store.reader import StoreReader


ZIP_MAGIC = b"PK\x03\x04"
FLOOR_KEYS = ("floor", "tiles_by_quality", "psnr_db", "ms_ssim")
"""What a store with a floor has more to say of, each a mapping."""


def info(
    path: Annotated[Path, typer.Argument(help="A slide or a latent store.")],
    json: JsonOption = False,
) -> None:
    """Show size, levels, resolution and scanner of a slide, and what a latent store holds; never its free text.

    Example: wsicomp info slide.svs
    """
    described = _store(path) if _is_store(path) else _slide(path)
    if json:
        emit({"command": "info", "status": "ok", **described})
        return
    for key, value in described.items():
        if key == "levels":
            for index, level in enumerate(value):
                sizes = ", ".join(f"{name} {number:g}" for name, number in level.items() if name != "index")
                say(f"level {index}: {sizes}")
        elif isinstance(value, dict) and key in FLOOR_KEYS:
            say(f"{key}: " + ", ".join(f"{name} {_number(number)}" for name, number in value.items()))
        else:
            say(f"{key}: {value:g}" if key == "quality" and value is not None else f"{key}: {value}")


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _is_store(path: Path) -> bool:
    if path.is_dir() or path.name.endswith((".zarr.zip", ".zarr", ".zarr.partial")):
        return True
    with suppress(OSError), path.open("rb") as stream:
        return stream.read(len(ZIP_MAGIC)) == ZIP_MAGIC  # a packed store under another name; no slide is a zip file
    return False


def _slide(path: Path) -> dict[str, Any]:
    from wsicomp.slides.describe import describe

    return {"kind": "slide", **describe(path)}


def _store(path: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from wsicomp.store.reader import StoreReader

    with StoreReader(path) as reader:
        header, store_bytes = reader.header, reader.store_bytes
        damaged = [list(place) for place in reader.damaged]
        floored = (_kinds(reader) if header.has_pictures else {}) | (_fidelity(reader) if header.floor else {})
    base = header.levels[0]
    return {
        "kind": "store",
        "path": str(path),
        "store_bytes": store_bytes,
        "bits_per_pixel": 8 * store_bytes / (base.width_px * base.height_px),
        "ratio_to_source": store_bytes / header.source_bytes if header.source_bytes else None,
        "glass_share": 1 - header.tissue_tiles / header.total_tiles,
        **asdict(header),
        **floored,
        "damaged_tiles": damaged,
    }


def _kinds(reader: StoreReader) -> dict[str, Any]:
    """How the tissue tiles of a store are coded that may have pictures."""
    import numpy as np

    from wsicomp.store.quality import from_steps
    from wsicomp.store.tiles import IS_PICTURE

    counts = reader.tile_counts()
    of_levels = ((reader.quality(k), reader.tissue(k)) for k in range(len(reader.header.levels)))
    steps = np.concatenate([quality[tissue] for quality, tissue in of_levels if quality is not None])
    found, tiles = np.unique(steps[steps != IS_PICTURE], return_counts=True)
    by_quality = {f"{from_steps(step):g}": int(count) for step, count in zip(found, tiles, strict=True)}
    return {
        "latent_tiles": counts.latents,
        "jpegxl_tiles": counts.pictures,
        "tiles_by_quality": None if reader.header.quality is None else by_quality,
    }


def _fidelity(reader: StoreReader) -> dict[str, Any]:
    """How near the tissue tiles of a store with a floor are; None dB is lossless."""
    import numpy as np

    levels = [reader.fidelity(level) for level in range(len(reader.header.levels))]
    fidelity = np.concatenate([level[~np.isnan(level[..., 0])] for level in levels if level is not None])

    def number(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    psnr_db, ms_ssim = fidelity.T if len(fidelity) else np.full((2, 1), np.nan)
    return {
        "psnr_db": {"min": number(psnr_db.min()), "median": number(np.median(psnr_db))},
        "ms_ssim": {"min": number(ms_ssim.min()), "median": number(np.median(ms_ssim))},
        "lossless_tiles": int(np.isinf(psnr_db).sum()),
    }
