"""wsicomp: learned compression of whole-slide pathology images, measured in bytes and in diagnosis.

    import wsicomp

    encoded = wsicomp.encode("slide.svs", "slide.zarr", depth=3)
    assert not wsicomp.verify("slide.zarr")              # no damage
    with wsicomp.open("slide.zarr") as slide:            # an openslide.AbstractSlide
        tile = slide.read_region((0, 0), 0, (512, 512))
    wsicomp.decode("slide.zarr", "slide.tif")

These functions do what the commands of the same names do, for one slide, by the same code. Importing the package
imports no network library; the functions do when they are called. They raise the exceptions of `wsicomp.errors`.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from wsicomp._version import __version__
from wsicomp.progress import Progress, silent

if TYPE_CHECKING:
    from wsicomp.evaluation.against import LevelFidelity
    from wsicomp.pipeline.encoded import Encoded
    from wsicomp.pipeline.export import Exported
    from wsicomp.pipeline.view import LatentSlide
    from wsicomp.slides.settings import OnDamage, Reader
    from wsicomp.store.verify import Damage

__all__ = ["__version__", "compare", "decode", "encode", "open", "verify"]


def encode(
    slide: str | os.PathLike[str],
    store: str | os.PathLike[str],
    *,
    mpp: float | None = None,
    max_levels: int | None = None,
    tissue_only: bool = True,
    tissue_threshold: int | None = None,
    reader: Reader = "auto",
    on_damage: OnDamage = "refuse",
    depth: int | None = None,
    quality: float | None = None,
    model: str = "wsic",
    latent_dtype: str | None = None,
    tile_size: int = 256,
    bits_per_pixel: float | None = None,
    psnr_db: float | None = None,
    max_bytes: int | None = None,
    min_psnr_db: float | None = None,
    min_ms_ssim: float | None = None,
    keep_prediction: str | None = None,
    max_logit_shift: float | None = None,
    overwrite: bool = False,
    resume: bool = False,
    scheduler: str | None = None,
    workers: int = 4,
    memory_bytes: int | None = None,
    stage: str | os.PathLike[str] | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> Encoded:
    """Encode a slide into a latent store that is either whole or not there.

    Parameters
    ----------
    slide
        A slide, or a picture.
    store
        Where the store will stand: a folder, by custom `NAME.zarr`, or one file, `NAME.zarr.zip`.
    mpp
        Micrometres per pixel to encode at; None keeps the slide's.
    max_levels
        Keep at most this many pyramid levels; None keeps all.
    tissue_only
        Whether glass is left out.
    tissue_threshold
        Grey levels from the glass colour that make a tile tissue; None is the default of `SourceSettings`.
    reader
        "openslide", "tiff" for a TIFF's own JPEG tiles, or "auto" for the faster.
    on_damage
        "refuse" refuses a slide with a tile that cannot be read, "mark" marks the tile and lists it.
    depth
        Depth of the latent, 1 (largest) to 4 (smallest); None is 3, or what meets a target best.
    quality
        Quality level of `wsic`, 0 (smallest) to 7 (finest); None is 4, and all that the study's codec takes.
    model
        Name of a shipped codec, or path of a weights file.
    latent_dtype
        For the study's codec "int8", "float16" or "float32"; None is the codec's own, int8 or, for `wsic`, int16.
    tile_size
        Side of a tile in pixels.
    bits_per_pixel, psnr_db, max_bytes
        A target, one at most, that picks depth and quality on a sample of tiles: real bits of the store per pixel of
        the slide, mean PSNR of tissue tiles in the fewest bytes, or bytes of the store, never more.
    min_psnr_db, min_ms_ssim
        Floors that no tile of any level is below.
    keep_prediction, max_logit_shift
        A classifier, shipped name or file, whose prediction of no tile changes, nor its logit by more than the shift.
    overwrite
        Whether an existing store may be replaced.
    resume
        Whether a complete store of this slide and these settings is kept; a partial or damaged one is made again.
    scheduler
        Address of a Dask cluster whose workers encode; None encodes in this process.
    workers
        Threads that read tiles.
    memory_bytes
        Most memory of the process; None sets no limit.
    stage
        Local folder that the slide is copied to before it is read.
    device
        "auto", "cpu" or "cuda".
    progress
        Called with the number of tiles done and of all, in this thread; what it raises ends the encoding.

    Returns
    -------
    Encoded
        Sizes, counts of tiles, measured fidelity and warnings.

    Raises
    ------
    SlideError
        If the slide cannot be read.
    StoreError
        If the store cannot be written.
    ConfigError
        If a setting is not possible, or the store exists.
    TargetMissed
        If the slide cannot be encoded towards the target.
    ModelError
        If the codec or the classifier cannot be loaded, or its weights lack this depth and quality.
    """
    from wsicomp.classification.guard import make_floor
    from wsicomp.pipeline import batch
    from wsicomp.pipeline.resources import Resources
    from wsicomp.pipeline.settings import EncodeSettings, Target, check_scheduler, existing_stores
    from wsicomp.pipeline.target import codec_choice
    from wsicomp.slides import SourceSettings
    from wsicomp.slides.settings import DEFAULT_TISSUE_THRESHOLD

    threshold = DEFAULT_TISSUE_THRESHOLD if tissue_threshold is None else tissue_threshold
    settings = EncodeSettings(
        model=model,
        depth=depth,
        quality=quality,
        latent_dtype=latent_dtype,
        target=Target.of(bits_per_pixel, psnr_db, max_bytes),
        floor=make_floor(min_psnr_db, min_ms_ssim, keep_prediction, max_logit_shift, tile_size, device),
        source=SourceSettings(mpp, tile_size, max_levels, tissue_only, threshold, reader, on_damage),
        existing=existing_stores(overwrite=overwrite, resume=resume),
        zipped=os.fspath(store).endswith(".zip"),
        resources=Resources(workers, memory_bytes),
        device=device,
    )
    check_scheduler(scheduler, stage, settings.source)
    jobs = [batch.Job(Path(slide), Path(store))]
    batch.check_stores(jobs)
    with ExitStack() as stack:
        copies = cluster = None
        if stage is not None:
            from wsicomp.pipeline.staging import Stage

            copies = stack.enter_context(Stage(Path(stage)))
        if scheduler is not None:
            from wsicomp.pipeline.cluster import Cluster

            cluster = stack.enter_context(Cluster(scheduler))
        (outcome,) = batch.run(
            jobs,
            settings,
            codec_choice(settings),
            stage=copies,
            engine=lambda job, own: None if cluster is None else cluster.engine(job, own),
            progress=lambda job: progress,
        )
    if outcome.encoded is None:
        raise outcome.error or AssertionError("a failed outcome has its error")
    return outcome.encoded


def decode(
    store: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    level: int | None = None,
    region: tuple[int, int, int, int] | None = None,
    jpeg_quality: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress = silent,
) -> Exported:
    """Decode a store, a level of it or a region of a level into an image file.

    Parameters
    ----------
    store
        A folder `NAME.zarr` or a file `NAME.zarr.zip`.
    output
        The file; its suffix chooses the format: .tif, .tiff, .png, .jpg or .jpeg.
    level
        Level to decode; None is all of them for a TIFF without a region, else 0.
    region
        Left, top, width and height in pixels of the level; None is the whole level.
    jpeg_quality
        Store a TIFF's tiles as JPEG of that quality, 1 to 100; None keeps the decoded pixels exactly.
    weights
        Weights file of one's own that the store was encoded with; None looks among those shipped.
    device
        "auto", "cpu" or "cuda".
    overwrite
        Whether a file that exists may be replaced.
    progress
        Called with what is done and all that there is, in tiles or rows of tiles.

    Returns
    -------
    Exported
        Width, height and number of levels of the image.

    Raises
    ------
    ConfigError
        If the part or the format is not possible, or the file exists.
    StoreError
        If the store is damaged, or the file cannot be written.
    WeightsMismatch
        If the weights are not at hand.
    """
    from wsicomp.pipeline.export import export

    with open(store, weights=weights, device=device) as slide:
        return export(
            slide,
            Path(output),
            level=level,
            region=region,
            jpeg_quality=jpeg_quality,
            overwrite=overwrite,
            progress=progress,
        )


def verify(
    store: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
) -> list[Damage]:
    """Check every file and tile of a store against its checksums; no network library is imported.

    Parameters
    ----------
    store
        A folder `NAME.zarr` or a file `NAME.zarr.zip`.
    weights
        Weights file of one's own that the store was encoded with, so that its latents are decoded too; without it
        they are checked by their checksums alone.
    progress
        Called with the number of files and shards checked so far and in all.

    Returns
    -------
    list of Damage
        Empty for a store that is exactly as it was written.

    Raises
    ------
    StoreError
        If there is no store, its run did not end, or a newer format wrote it.
    ModelError
        If the weights cannot be read.
    """
    from wsicomp.store.verify import verify as verify_store

    if weights is not None:
        from wsicomp.pipeline.tables import register_tables

        register_tables(os.fspath(weights))
    return verify_store(os.fspath(store), progress=progress)


def compare(
    store: str | os.PathLike[str],
    slide: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> list[LevelFidelity]:
    """Measure how near a store is to its slide, every tile of every level, as `wsicomp verify --against` does.

    Parameters
    ----------
    store
        A folder `NAME.zarr` or a file `NAME.zarr.zip`.
    slide
        The slide that it was made of.
    weights
        Weights file of one's own that the store was encoded with; None looks among those shipped.
    device
        "auto", "cpu" or "cuda".
    progress
        Called with the number of tiles done and of all.

    Returns
    -------
    list of LevelFidelity
        PSNR, SSIM and MS-SSIM of tissue, and what glass hides, one for each level.

    Raises
    ------
    ConfigError
        If it is another slide.
    SlideError
        If the slide cannot be read.
    StoreError
        If the store is damaged.
    """
    from wsicomp.evaluation.against import compare as compare_levels
    from wsicomp.evaluation.against import open_original

    with open(store, weights=weights, device=device) as latent, open_original(latent.header, Path(slide)) as source:
        return compare_levels(latent, source, progress=progress)


def open(
    store: str | os.PathLike[str], *, weights: str | os.PathLike[str] | None = None, device: str = "auto"
) -> LatentSlide:
    """Open a latent store as an `openslide.AbstractSlide`.

    Parameters
    ----------
    store
        A folder `NAME.zarr` or a file `NAME.zarr.zip`.
    weights
        Weights file of one's own that the store was encoded with; None looks among those shipped.
    device
        "auto", "cpu" or "cuda".

    Raises
    ------
    StoreError
        If the store is incomplete, damaged, of a newer format, or no store.
    WeightsMismatch
        If the weights are not at hand.
    """
    from wsicomp.models.device import resolve_device
    from wsicomp.pipeline.view import LatentSlide

    return LatentSlide(
        os.fspath(store), weights=None if weights is None else os.fspath(weights), device=resolve_device(device)
    )
