"""`wsicomp encode`: slides into latent stores."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from wsicomp.cli import encode_options as asked
from wsicomp.cli.console import emit, log, progress_bar, say
from wsicomp.cli.encoded import line_of, record_of
from wsicomp.cli.estimate import estimate
from wsicomp.cli.options import DeviceOption, JsonOption, LatentDtypeOption, ModelOption, OverwriteOption, QualityOption
from wsicomp.cli.signals import deferred
from wsicomp.progress import Progress
from wsicomp.slides.settings import DEFAULT_TISSUE_THRESHOLD

if TYPE_CHECKING:
    from wsicomp.pipeline.batch import Job, Outcome
    from wsicomp.pipeline.part import Part


def encode(
    slides: asked.SlidesArgument = None,
    slide_list: asked.ListOption = None,
    recursive: asked.RecursiveOption = False,
    mpp: asked.MppOption = None,
    levels: asked.LevelsOption = None,
    tissue: asked.TissueOption = True,
    tissue_threshold: asked.TissueThresholdOption = DEFAULT_TISSUE_THRESHOLD,
    reader: asked.ReaderOption = "auto",
    on_damage: asked.OnDamageOption = "refuse",
    depth: asked.DepthOption = None,
    quality: QualityOption = None,
    model: ModelOption = "wsic",
    latent_dtype: LatentDtypeOption = None,
    tile_size: asked.TileSizeOption = 256,
    bits_per_pixel: asked.BitsPerPixelOption = None,
    psnr: asked.PsnrOption = None,
    max_bytes: asked.MaxBytesOption = None,
    min_psnr: asked.MinPsnrOption = None,
    min_ms_ssim: asked.MinMsSsimOption = None,
    keep_prediction: asked.KeepPredictionOption = None,
    max_logit_shift: asked.MaxLogitShiftOption = None,
    output: asked.OutputOption = None,
    zipped: asked.ZipOption = False,
    overwrite: OverwriteOption = False,
    resume: asked.ResumeOption = False,
    skip_errors: asked.SkipErrorsOption = False,
    dry_run: asked.DryRunOption = False,
    part: asked.PartOption = None,
    scheduler: asked.SchedulerOption = None,
    workers: asked.WorkersOption = 4,
    memory: asked.MemoryOption = None,
    stage: asked.StageOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> int:
    """Encode slides into latent stores, each whole or not there at all.

    With --min-psnr, --min-ms-ssim or --keep-prediction no tile of any level is below that floor: one that would
    be is coded again at higher qualities, and then as JPEG XL, at the last lossless.

    With --bits-per-pixel, --psnr or --max-bytes a sample of each slide's tiles picks its depth and quality.

    More than one slide is a batch, whose events are written to wsicomp-status.jsonl in the output folder, beside the
    slide list, or beside the first store; `wsicomp status` shows it.

    Example: wsicomp encode slide.svs --depth 3
    """
    from wsicomp.classification.guard import make_floor
    from wsicomp.pipeline import batch
    from wsicomp.pipeline.resources import Resources, parse_bytes
    from wsicomp.pipeline.settings import EncodeSettings, Target, check_scheduler, existing_stores
    from wsicomp.pipeline.staging import Stage
    from wsicomp.pipeline.status import StatusLog
    from wsicomp.pipeline.target import codec_choice
    from wsicomp.slides import SourceSettings
    from wsicomp.slides.settings import OnDamage, Reader

    settings = EncodeSettings(
        model=model,
        depth=depth,
        quality=quality,
        latent_dtype=latent_dtype,
        target=Target.of(bits_per_pixel, psnr, max_bytes),
        floor=make_floor(min_psnr, min_ms_ssim, keep_prediction, max_logit_shift, tile_size, device),
        source=SourceSettings(
            mpp, tile_size, levels, tissue, tissue_threshold, cast(Reader, reader), cast(OnDamage, on_damage)
        ),
        existing=existing_stores(overwrite=overwrite, resume=resume),
        zipped=zipped,
        resources=Resources(workers, None if memory is None else parse_bytes(memory)),
        device=device,
    )
    check_scheduler(scheduler, stage, settings.source)
    choice = codec_choice(settings)
    planned = _planned(
        slides or [], slide_list, output, recursive=recursive, zipped=zipped, check_slides=not skip_errors
    )
    own = _part(part, len(planned))
    jobs = planned if own is None else own.of(planned)
    if dry_run:
        return estimate(jobs, settings, choice, skip_errors=skip_errors, json=json)

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
        if jobs and len(planned) > 1:
            folder = output or (planned[0].store if slide_list is None else slide_list).parent
            status = stack.enter_context(StatusLog(folder, jobs, own))

        places = {job: f"slide {number} of {len(jobs)}: " for number, job in enumerate(jobs, 1)}
        places = places if len(jobs) > 1 else dict.fromkeys(jobs, "")

        def tiles_of(job: Job) -> Progress:
            def show(done: int, total: int, note: str = "") -> None:
                bar(done, total, places[job] + job.slide.name)
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
                log(" ".join(f"wsicomp: error: {places[outcome.job]}{outcome.error}".split()))
                failures.append(outcome)
                if not skip_errors:
                    break
                continue
            results.append(record_of(outcome, outcome.encoded, settings.floor))
            if not json:
                say(places[outcome.job] + line_of(results[-1]))
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
