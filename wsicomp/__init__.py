"""wsicomp: learned compression of whole-slide pathology images, measured in bytes and in diagnosis.

    import wsicomp

    wsicomp.encode("slide.svs", "slide.zarr", depth=3)
    with wsicomp.open("slide.zarr") as slide:            # an openslide.AbstractSlide
        tile = slide.read_region((0, 0), 0, (512, 512))

Importing the package imports no network library; the two functions do when they are called.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from wsicomp._version import __version__

if TYPE_CHECKING:
    from wsicomp.pipeline.encoded import Encoded
    from wsicomp.pipeline.view import LatentSlide

__all__ = ["__version__", "encode", "open"]


def encode(
    slide: str | os.PathLike[str],
    store: str | os.PathLike[str],
    *,
    depth: int | None = None,
    quality: float | None = None,
    bits_per_pixel: float | None = None,
    psnr_db: float | None = None,
    max_bytes: int | None = None,
    min_psnr_db: float | None = None,
    min_ms_ssim: float | None = None,
    keep_prediction: str | None = None,
    max_logit_shift: float | None = None,
    model: str = "wsic",
    latent_dtype: str | None = None,
    mpp: float | None = None,
    overwrite: bool = False,
    device: str = "auto",
) -> Encoded:
    """Encode a slide into a latent store that is either whole or not there.

    Parameters
    ----------
    slide
        Any slide that OpenSlide opens.
    store
        Where the store will stand: a folder, by custom `NAME.zarr`, or one file, `NAME.zarr.zip`.
    depth
        Depth of the latent, 1 (largest) to 4 (smallest); None is 3, or what meets a target best.
    quality
        Quality level of `wsic`, 0 (smallest) to 7 (finest); None is 4, and all that the study's codec takes.
    bits_per_pixel, psnr_db, max_bytes
        A target, one at most, that picks depth and quality on a sample of tiles: real bits of the store per pixel of
        the slide, mean PSNR of tissue tiles in the fewest bytes, or bytes of the store, never more.
    min_psnr_db, min_ms_ssim
        Floors that no tissue tile of any level is below.
    keep_prediction, max_logit_shift
        A classifier, shipped name or file, whose prediction of no tile changes, nor its logit by more than the shift.
    model
        Name of a shipped codec, or path of a weights file.
    latent_dtype
        For the study's codec "int8", "float16" or "float32"; None is the codec's own, int8 or, for `wsic`, int16.
    mpp
        Micrometres per pixel to encode at; None keeps the slide's.
    overwrite
        Whether an existing store may be replaced.
    device
        "auto", "cpu" or "cuda".

    Raises
    ------
    SlideError
        If the slide cannot be read.
    StoreError
        If the store cannot be written.
    ConfigError
        If a setting is not possible, or the store exists.
    StoreTooLarge
        If the slide cannot be encoded in so few bytes.
    ModelError
        If the codec or the classifier cannot be loaded, or its weights lack this depth and quality.
    """
    from wsicomp.classification.guard import make_floor
    from wsicomp.pipeline.batch import encode_within
    from wsicomp.pipeline.settings import EncodeSettings, Target
    from wsicomp.pipeline.target import codec_choice
    from wsicomp.slides import SourceSettings, open_source

    reading = SourceSettings(mpp=mpp)
    settings = EncodeSettings(
        model=model,
        depth=depth,
        quality=quality,
        latent_dtype=latent_dtype,
        target=Target.of(bits_per_pixel, psnr_db, max_bytes),
        floor=make_floor(min_psnr_db, min_ms_ssim, keep_prediction, max_logit_shift, reading.tile_size, device),
        source=reading,
        existing="replace" if overwrite else "refuse",
        zipped=os.fspath(store).endswith(".zip"),
        device=device,
    )
    with open_source(slide, reading) as source:
        return encode_within(source, Path(store), settings, codec_choice(settings))


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
