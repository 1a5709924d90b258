"""`wsicomp info`: what a slide or a store is, without reading a pixel of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wsicomp.cli.console import JsonOption, emit, say


def info(
    path: Annotated[Path, typer.Argument(help="A slide or a latent store.", show_default=False)],
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
        else:
            say(f"{key}: {value}")


def _is_store(path: Path) -> bool:
    return path.is_dir() or path.name.endswith((".zarr.zip", ".zarr", ".zarr.partial"))


def _slide(path: Path) -> dict[str, Any]:
    from wsicomp.slides.describe import describe

    return {"kind": "slide", **describe(path).to_json()}


def _store(path: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from wsicomp.store.reader import StoreReader

    with StoreReader(path) as reader:
        header, store_bytes = reader.header, reader.store_bytes
    base = header.levels[0]
    return {
        "kind": "store",
        "path": str(path),
        "store_bytes": store_bytes,
        "bits_per_pixel": 8 * store_bytes / (base.width_px * base.height_px),
        "ratio_to_source": store_bytes / header.source_bytes if header.source_bytes else None,
        "glass_share": 1 - header.tissue_tiles / header.total_tiles,
        **asdict(header),
    }
