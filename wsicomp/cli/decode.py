"""`wsicomp decode`: a store, or a region of it, into an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsicomp.cli.console import emit, progress_bar, say
from wsicomp.cli.options import READ, WRITE, DeviceOption, JsonOption, OverwriteOption, StoreArgument, WeightsOption


def decode(
    store: StoreArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="A .tif, a pyramid if it is of the whole slide, or a .png or .jpg picture.",
            rich_help_panel=WRITE,
        ),
    ],
    region: Annotated[
        str | None,
        typer.Option(
            "--region", help="X,Y,W,H in pixels of the level.", show_default="all of it", rich_help_panel=READ
        ),
    ] = None,
    level: Annotated[
        int | None,
        typer.Option(
            "--level", min=0, help="Level to decode.", show_default="all for a .tif, else 0", rich_help_panel=READ
        ),
    ] = None,
    jpeg_quality: Annotated[
        int | None,
        typer.Option(
            "--jpeg-quality",
            min=1,
            max=100,
            help="Tiles of a .tif as JPEG.",
            show_default="lossless",
            rich_help_panel=WRITE,
        ),
    ] = None,
    model: WeightsOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Decode a latent store into a pyramidal TIFF that OpenSlide opens, or a part of it into an image.

    Example: wsicomp decode slide.zarr -o region.png --region 1000,1000,512,512
    """
    from wsicomp.models.device import resolve_device
    from wsicomp.pipeline.export import export
    from wsicomp.pipeline.view import LatentSlide

    rectangle = _region(region)
    with LatentSlide(store, weights=model, device=resolve_device(device)) as slide, progress_bar("decode") as progress:
        width, height, levels = export(
            slide,
            output,
            level=level,
            region=rectangle,
            jpeg_quality=jpeg_quality,
            overwrite=overwrite,
            progress=progress,
        )
    if json:
        result = {"store": str(store), "output": str(output), "width_px": width, "height_px": height, "levels": levels}
        emit({"command": "decode", "status": "ok", "results": [result]})
    else:
        say(f"{output}: {width} x {height} pixels, {levels} level{'s' * (levels > 1)}")


def _region(text: str | None) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    try:
        x, y, w, h = (int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter("give four whole numbers, X,Y,W,H", param_hint="--region") from None
    return x, y, w, h
