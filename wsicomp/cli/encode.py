"""`wsicomp encode`: slides into latent stores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsicomp.cli.console import JsonOption, emit, log, progress_bar, say
from wsicomp.cli.options import DeviceOption, LatentDtypeOption, ModelOption, OverwriteOption, QualityOption
from wsicomp.cli.signals import deferred
from wsicomp.progress import Progress

if TYPE_CHECKING:
    from wsicomp.pipeline.batch import Job, Outcome
    from wsicomp.pipeline.encode import Encoded


def encode(
    slides: Annotated[list[Path], typer.Argument(help="Slides, or folders with slides in them.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the stores, or NAME.zarr for one slide.  [default: beside the slide]",
            show_default=False,
        ),
    ] = None,
    depth: Annotated[int, typer.Option("--depth", min=1, help="Depth of the latent: 1 is largest, 4 smallest.")] = 3,
    quality: QualityOption = None,
    model: ModelOption = "perticarari2023",
    latent_dtype: LatentDtypeOption = None,
    mpp: Annotated[
        float | None, typer.Option("--mpp", help="Micrometres per pixel to encode at.  [default: the slide's own]")
    ] = None,
    tile_size: Annotated[int, typer.Option("--tile-size", min=16, help="Side of a tile in pixels.")] = 256,
    levels: Annotated[
        int | None, typer.Option("--levels", min=1, help="Keep at most this many pyramid levels.  [default: all]")
    ] = None,
    tissue: Annotated[bool, typer.Option("--tissue/--all-tiles", help="Leave out glass, or code every tile.")] = True,
    tissue_threshold: Annotated[
        int | None,
        typer.Option(
            "--tissue-threshold", min=0, max=255, help="Grey levels from the glass colour that make a tile tissue."
        ),
    ] = None,
    zipped: Annotated[bool, typer.Option("--zip", help="Make one file, NAME.zarr.zip, of each store.")] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Threads that read tiles.")] = 4,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip complete stores; make partial or damaged ones again.")
    ] = False,
    skip_errors: Annotated[
        bool, typer.Option("--skip-errors", help="Go on after a slide that fails; exit 3 and list them at the end.")
    ] = False,
    json: JsonOption = False,
) -> int:
    """Encode slides into latent stores, each whole or not there at all.

    Example: wsicomp encode slide.svs --depth 3
    """
    from wsicomp.errors import ConfigError
    from wsicomp.models.device import resolve_device
    from wsicomp.pipeline import batch
    from wsicomp.pipeline.tile_codec import TileCodec

    if overwrite and resume:
        raise ConfigError("--overwrite and --resume exclude each other: replace every store, or keep complete ones")
    codec = TileCodec.load(model, depth, quality=quality, latent_dtype=latent_dtype, device=resolve_device(device))
    codec.check_tile_size(tile_size)
    jobs = batch.plan(slides, output, zipped=zipped)
    settings = batch.SlideSettings(mpp, tile_size, levels, tissue, tissue_threshold)
    results: list[dict[str, Any]] = []
    failures: list[Outcome] = []
    with progress_bar("encode") as bar, deferred() as check:

        def tiles_of(job: Job) -> Progress:
            def show(done: int, total: int, note: str = "") -> None:
                bar(done, total, job.slide.name)
                check()

            return show

        for outcome in batch.run(
            jobs,
            codec,
            settings,
            overwrite=overwrite,
            resume=resume,
            zipped=zipped,
            readers=workers,
            progress=tiles_of,
            warn=lambda message: log(f"wsicomp: warning: {message}"),
        ):
            if outcome.encoded is None:
                log(f"wsicomp: error: {outcome.error}")
                failures.append(outcome)
                if not skip_errors:
                    break
                continue
            results.append(_result(outcome, outcome.encoded))
            if not json:
                say(_line(results[-1]))
    if json:
        failed = [{"slide": str(failure.job.slide), "error": str(failure.error)} for failure in failures]
        emit({"command": "encode", "status": "error" if failures else "ok", "results": results, "failures": failed})
    elif failures and skip_errors:
        log(f"{len(failures)} of {len(jobs)} slides failed:")
        for failure in failures:
            log(f"  {failure.job.slide}")
    if not failures:
        return 0
    last = failures[-1].error
    return 3 if skip_errors or last is None else last.exit_code


def _result(outcome: Outcome, encoded: Encoded) -> dict[str, Any]:
    return {
        "slide": str(outcome.job.slide),
        "store": str(outcome.job.store),
        "status": outcome.status,
        "depth": encoded.depth,
        "quality": encoded.quality,
        "source_bytes": encoded.source_bytes,
        "store_bytes": encoded.store_bytes,
        "bits_per_pixel": encoded.bits_per_pixel,
        "ratio_to_source": encoded.ratio_to_source,
        "tiles": encoded.tiles,
        "tissue_tiles": encoded.tissue_tiles,
        "glass_share": 1 - encoded.tissue_tiles / encoded.tiles,
        "seconds": encoded.seconds,
    }


def _line(result: dict[str, Any]) -> str:
    if result["status"] == "skipped":
        return f"{result['store']}: complete already, skipped"
    ratio = result["ratio_to_source"]
    return (
        f"{result['store']}: depth {result['depth']}, "
        + (f"quality {result['quality']}, " if result["quality"] is not None else "")
        + f"{result['store_bytes']:,} bytes, "
        f"{result['bits_per_pixel']:.3f} bits per pixel, "
        + (f"{ratio:.2f} of the source file, " if ratio is not None else "")
        + f"{result['tissue_tiles']} of {result['tiles']} tiles ({result['glass_share']:.0%} glass), "
        f"{result['seconds']:.1f} s"
    )
