"""`wsicomp encode`: slides into latent stores."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsicomp.cli.console import JsonOption, emit, log, progress_bar, say
from wsicomp.cli.encoded import line_of, record_of
from wsicomp.cli.options import DeviceOption, LatentDtypeOption, ModelOption, OverwriteOption, QualityOption
from wsicomp.cli.signals import deferred
from wsicomp.progress import Progress
from wsicomp.slides.settings import DEFAULT_TISSUE_THRESHOLD

if TYPE_CHECKING:
    from wsicomp.pipeline.batch import Job, Outcome
    from wsicomp.pipeline.part import Part


def encode(
    slides: Annotated[
        list[Path] | None,
        typer.Argument(help="Slides or pictures, or folders of them.", show_default=False),
    ] = None,
    slide_list: Annotated[
        Path | None,
        typer.Option(
            "--list",
            help="CSV of slides in place of SLIDES: a column slide and, if wanted, mpp and output (a store, or a "
            "folder for it); paths are relative to the CSV. Such as slides.csv.",
            show_default=False,
        ),
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", help="Look for slides in folders of folders too.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the stores, or NAME.zarr for one slide.  [default: beside the slide]",
            show_default=False,
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth",
            min=1,
            help="Depth of the latent: 1 is largest, 4 smallest.  [default: 3, or what meets a target best]",
            show_default=False,
        ),
    ] = None,
    quality: QualityOption = None,
    model: ModelOption = "wsic",
    latent_dtype: LatentDtypeOption = None,
    bits_per_pixel: Annotated[
        float | None,
        typer.Option(
            "--bits-per-pixel",
            help="Target: real bits of the whole store per pixel of the slide; picks depth and quality.",
            show_default=False,
        ),
    ] = None,
    psnr: Annotated[
        float | None,
        typer.Option(
            "--psnr", help="Target: mean PSNR of tissue tiles in dB, in the fewest bytes.", show_default=False
        ),
    ] = None,
    max_bytes: Annotated[
        int | None,
        typer.Option("--max-bytes", help="Target: bytes of the store, never more.", show_default=False),
    ] = None,
    mpp: Annotated[
        float | None, typer.Option("--mpp", help="Micrometres per pixel to encode at.  [default: the slide's own]")
    ] = None,
    tile_size: Annotated[int, typer.Option("--tile-size", min=16, help="Side of a tile in pixels.")] = 256,
    levels: Annotated[
        int | None, typer.Option("--levels", min=1, help="Keep at most this many pyramid levels.  [default: all]")
    ] = None,
    tissue: Annotated[bool, typer.Option("--tissue/--all-tiles", help="Leave out glass, or code every tile.")] = True,
    tissue_threshold: Annotated[
        int,
        typer.Option(
            "--tissue-threshold", min=0, max=255, help="Grey levels from the glass colour that make a tile tissue."
        ),
    ] = DEFAULT_TISSUE_THRESHOLD,
    min_psnr: Annotated[
        float | None,
        typer.Option(
            "--min-psnr",
            help="No tile is below this PSNR in dB, such as 34; one that would be is coded again, finer.",
            show_default=False,
        ),
    ] = None,
    min_ms_ssim: Annotated[
        float | None,
        typer.Option("--min-ms-ssim", help="No tile is below this MS-SSIM, such as 0.98.", show_default=False),
    ] = None,
    keep_prediction: Annotated[
        str | None,
        typer.Option(
            "--keep-prediction",
            help="No tile's prediction changes: a shipped classifier, such as perticarari2023-classifier-lung, "
            ".safetensors or .onnx.",
            show_default=False,
        ),
    ] = None,
    max_logit_shift: Annotated[
        float | None,
        typer.Option(
            "--max-logit-shift",
            help="With --keep-prediction: nor does its logit move by more than this, such as 0.5.",
            show_default=False,
        ),
    ] = None,
    reader: Annotated[
        str, typer.Option("--reader", help="openslide, tiff for a TIFF's own JPEG tiles, or auto for the faster.")
    ] = "auto",
    on_damage: Annotated[
        str,
        typer.Option("--on-damage", help="A tile that cannot be read: refuse the slide, or mark the tile and list it."),
    ] = "refuse",
    zipped: Annotated[bool, typer.Option("--zip", help="Make one file, NAME.zarr.zip, of each store.")] = False,
    part: Annotated[
        str | None,
        typer.Option(
            "--part",
            help="Do only every n-th slide from the i-th on, such as 1/4; the n parts together do all.  [default: "
            "this task's in a SLURM array, else 1/1]",
            show_default=False,
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            help="Encode on the workers of a Dask cluster, such as tcp://10.0.0.1:8786; slides and stores are on "
            "storage that all machines share.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Threads that read tiles.")] = 4,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            help="Most memory of the process, such as 2G; refused at once where a slide's tiles need more.",
            show_default=False,
        ),
    ] = None,
    stage: Annotated[
        Path | None,
        typer.Option(
            "--stage",
            help="Local folder that each slide is copied to before it is read, one slide ahead; for slow storage.",
            show_default=False,
        ),
    ] = None,
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

    With --min-psnr, --min-ms-ssim or --keep-prediction no tissue tile of any level is below that floor: one that would
    be is coded again at higher qualities, and then as JPEG XL, at the last lossless.

    With --bits-per-pixel, --psnr or --max-bytes a sample of each slide's tiles picks its depth and quality.

    More than one slide is a batch, whose events are written to wsicomp-status.jsonl in the output folder, beside the
    slide list, or beside the first store; `wsicomp status` shows it.

    Example: wsicomp encode slide.svs --depth 3
    """
    from wsicomp.classification.guard import make_floor
    from wsicomp.errors import ConfigError
    from wsicomp.pipeline import batch
    from wsicomp.pipeline.resources import Resources, parse_bytes
    from wsicomp.pipeline.settings import EncodeSettings, Target
    from wsicomp.pipeline.staging import Stage
    from wsicomp.pipeline.status import StatusLog
    from wsicomp.pipeline.target import codec_choice
    from wsicomp.slides import SourceSettings
    from wsicomp.slides.settings import check_on_damage, check_reader

    if overwrite and resume:
        raise ConfigError("--overwrite and --resume exclude each other: replace every store, or keep complete ones")
    if stage is not None and scheduler is not None:
        raise ConfigError("--stage is for one machine; workers of a cluster read slides where they all see them")
    if scheduler is not None and on_damage == "mark":
        raise ConfigError("--on-damage mark is for one machine; workers of a cluster refuse a damaged slide")
    settings = EncodeSettings(
        model=model,
        depth=depth,
        quality=quality,
        latent_dtype=latent_dtype,
        target=Target.of(bits_per_pixel, psnr, max_bytes),
        floor=make_floor(min_psnr, min_ms_ssim, keep_prediction, max_logit_shift, tile_size, device),
        source=SourceSettings(
            mpp, tile_size, levels, tissue, tissue_threshold, check_reader(reader), check_on_damage(on_damage)
        ),
        existing="replace" if overwrite else "resume" if resume else "refuse",
        zipped=zipped,
        resources=Resources(workers, None if memory is None else parse_bytes(memory)),
        device=device,
    )
    choice = codec_choice(settings)
    planned = _planned(
        slides or [], slide_list, output, recursive=recursive, zipped=zipped, check_slides=not skip_errors
    )
    own = _part(part, len(planned))
    jobs = planned if own is None else own.of(planned)

    def warn(message: str) -> None:
        log(f"wsicomp: warning: {message}")

    results: list[dict[str, Any]] = []
    failures: list[Outcome] = []
    with progress_bar("encode") as bar, deferred() as check, ExitStack() as stack:
        cluster = None
        if scheduler is not None:
            from wsicomp.pipeline.cluster import Cluster

            cluster = stack.enter_context(Cluster(scheduler, warn))
        copies = None if stage is None else stack.enter_context(Stage(stage))
        status = None
        if len(planned) > 1:
            folder = output or (planned[0].store if slide_list is None else slide_list).parent
            status = stack.enter_context(StatusLog(folder, jobs, own))

        def tiles_of(job: Job) -> Progress:
            def show(done: int, total: int, note: str = "") -> None:
                bar(done, total, job.slide.name)
                check()

            return show

        for outcome in batch.run(
            jobs,
            settings,
            choice,
            stage=copies,
            engine=lambda job, own: None if cluster is None else cluster.engine(job, own),
            started=lambda job: None if status is None else status.started(job),
            progress=tiles_of,
            warn=warn,
        ):
            if status is not None:
                status.ended(outcome)
            if outcome.encoded is None:
                log(f"wsicomp: error: {outcome.error}")
                failures.append(outcome)
                if not skip_errors:
                    break
                continue
            results.append(record_of(outcome, outcome.encoded, settings.floor))
            if not json:
                say(line_of(results[-1]))
    last = failures[-1].error if failures else None
    code = 0 if last is None else 3 if skip_errors else last.exit_code
    if json:
        failed = [{"slide": str(failure.job.slide), "error": str(failure.error)} for failure in failures]
        status_word = "error" if failures else "ok"
        document = {"command": "encode", "status": status_word, "exit_code": code}
        emit({**document, "results": results, "failures": failed})
    elif failures and skip_errors:
        log(f"{len(failures)} of {len(jobs)} slides failed:")
        for failure in failures:
            log(f"  {failure.job.slide}")
    return code


def _planned(
    slides: list[Path],
    slide_list: Path | None,
    output: Path | None,
    *,
    recursive: bool,
    zipped: bool,
    check_slides: bool,
) -> list[Job]:
    """Plan the jobs of the slides or of the slide list, whichever was given."""
    from wsicomp.errors import ConfigError
    from wsicomp.pipeline.batch import plan
    from wsicomp.pipeline.slide_list import read_slide_list

    if slide_list is not None and slides:
        raise ConfigError("SLIDES and --list exclude each other; add the slides to the CSV, or leave it out")
    if slide_list is not None:
        return read_slide_list(slide_list, output, zipped=zipped, check_slides=check_slides)
    if not slides:
        raise ConfigError("there are no slides to encode; name slides or a folder of them, or give --list")
    return plan(slides, output, recursive=recursive, zipped=zipped)


def _part(asked: str | None, slides: int) -> Part | None:
    """Part of the slides that this process does: the one asked for, or that of this task in a SLURM array."""
    from wsicomp.pipeline.part import Part

    if asked is not None:
        return Part.parse(asked)
    part = Part.of_slurm(os.environ) if slides > 1 else None  # one slide is what this very task was given
    if part is not None:
        log(f"wsicomp: part {part} of the slides, by SLURM's array task; --part 1/1 does all")
    return part
