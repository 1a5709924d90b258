"""Chooses the depth and quality that meet a target: so many bits per pixel, so much PSNR, or at most so many bytes.

    a sample of the slide's own tissue tiles -> for each depth, the quality that meets the target, by bisection
                                             -> of those, the depth that is best: most PSNR for a rate, fewest bytes
                                                for a PSNR

A rate counts the whole store: its real bytes, with headers, index and metadata, over the pixels of the pyramid's base.
The sample only predicts, so a store may differ from its target. What this does not do: it enforces no limit of bytes;
`encode_source` does, and `batch` then asks for a `tighter` choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from wsicomp.errors import ConfigError, TargetMissed
from wsicomp.metrics.distortion import mean_psnr_db, psnr_db
from wsicomp.models.device import resolve_device
from wsicomp.models.registry import LoadedModel
from wsicomp.models.wsic import QUALITIES
from wsicomp.pipeline.encode import rows_of, tissue_places
from wsicomp.pipeline.settings import EncodeSettings, Target
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.transforms import codec_depths, load_codec
from wsicomp.slides.source import TileSource, TissueMask
from wsicomp.store.quality import from_steps, to_steps
from wsicomp.store.schema import StoreHeader

__all__ = ["CodecChoice", "FixedCodec", "TargetedCodec", "choose", "codec_choice"]

DEFAULT_DEPTH = 3

SAMPLE_TILES = 32

CAUTION = 0.98
"""A second try aims at this share of what the first one shows to be right."""

INDEX_BYTES = 16
"""The index of a shard takes so many bytes for each tile."""

METADATA_BYTES, LEVEL_BYTES = 3200, 1100
"""A store takes about so many bytes for JSON, masks and manifest, and each of its levels about so many more."""

FINEST = to_steps(QUALITIES - 1)


class CodecChoice(Protocol):
    """Chooses the codec of each slide."""

    def codec_for(self, source: TileSource) -> TileCodec:
        """Return the codec that a source is to be encoded with."""

    def made(self, header: StoreHeader, store_bytes: int, source: TileSource) -> bool:
        """Tell whether a complete store of a source is one that this choice could have made."""

    def tighter(self, made_bytes: int) -> Self:
        """Return the choice to try next, where a store of this one came out larger than the limit."""


@dataclass(frozen=True)
class FixedCodec:
    """Gives every slide the same codec; a `CodecChoice`."""

    codec: TileCodec

    def codec_for(self, source: TileSource) -> TileCodec:
        """Return the codec."""
        return self.codec

    def made(self, header: StoreHeader, store_bytes: int, source: TileSource) -> bool:
        """Tell whether weights, depth, quality and type are the codec's."""
        codec = self.codec
        asked = codec.weights_sha256, codec.depth, codec.quality, codec.latent_dtype
        return asked == (header.weights_sha256, header.depth, header.quality, header.latent_dtype)

    def tighter(self, made_bytes: int) -> Self:
        """Return the same choice, because there is no limit to come under."""
        return self


@dataclass(frozen=True)
class TargetedCodec:
    """Chooses a codec for each slide so that its store meets a target; a `CodecChoice`.

    Parameters
    ----------
    model
        A loaded codec that has qualities.
    target
        What each store shall reach.
    depth
        The only depth to consider; None considers all.
    device
        Where the network runs; None leaves it where it is.
    aim
        Share of the target's bytes to aim at.
    """

    model: LoadedModel
    target: Target
    depth: int | None = None
    device: torch.device | None = None
    aim: float = 1.0

    def codec_for(self, source: TileSource) -> TileCodec:
        """Choose on a sample of the source; see `choose`."""
        target = self.target
        if target.max_bytes is not None:
            target = Target(max_bytes=int(target.max_bytes * self.aim))
        return choose(source, self.model, target, depth=self.depth, device=self.device)

    def made(self, header: StoreHeader, store_bytes: int, source: TileSource) -> bool:
        """Tell whether the store is within the limit, or, without one, whether the choice would be the same today."""
        if self.target.max_bytes is None:
            return FixedCodec(self.codec_for(source)).made(header, store_bytes, source)
        within = store_bytes <= self.target.max_bytes and header.weights_sha256 == self.model.sha256
        return within and self.depth in (None, header.depth)

    def tighter(self, made_bytes: int) -> Self:
        """Return a choice that aims lower by as much as the store came out too large."""
        share = 1.0 if self.target.max_bytes is None else self.target.max_bytes / made_bytes
        return replace(self, aim=self.aim * share * CAUTION)


@dataclass(frozen=True)
class Sample:
    """Holds tiles (N, T, T, 3) uint8, and how many rows and columns of pixels (N, 2) of each lie on the slide."""

    tiles: NDArray[np.uint8]
    sizes: NDArray[np.int64]


@dataclass(frozen=True)
class Setting:
    """Holds a codec's quality in steps, and its mean bytes and PSNR per tile of a sample."""

    codec: TileCodec
    steps: int
    tile_bytes: float
    psnr_db: float


def choose(
    source: TileSource,
    model: LoadedModel,
    target: Target,
    *,
    depth: int | None = None,
    device: torch.device | None = None,
) -> TileCodec:
    """Set a codec so that a source's store meets a target.

    Parameters
    ----------
    source
        The slide; a sample of its tiles is read.
    depth
        The only depth to consider; None considers all that the model has.

    Returns
    -------
    TileCodec
        The codec at the depth and quality chosen.

    Raises
    ------
    ConfigError
        If the slide has no tissue, or the model has no qualities to choose from.
    TargetMissed
        If no setting meets the target.
    SlideError
        If a tile cannot be read.
    """
    mask = source.tissue()
    sample = draw_sample(source, mask)
    allowed = None if target.psnr_db is not None else tile_budget(source, mask, target)
    candidates, nearest = [], []
    for candidate in [depth] if depth is not None else codec_depths(model):
        codec = TileCodec(model, candidate, device=device)
        codec.check_tile_size(source.tile_size)
        if codec.entropy is None:
            raise ConfigError(f"{model.name}: has no qualities to meet a target with; choose a depth, or --model wsic")
        if allowed is not None:
            found = most_within(codec, sample, allowed)
            nearest.append(stream_bytes(codec, sample, 0))
        else:
            found = least_reaching(codec, sample, target.psnr_db or 0.0)
            nearest.append(measure(codec, sample, FINEST).psnr_db)
        if found is not None:
            candidates.append(measure(codec, sample, found))
    if not candidates:
        raise TargetMissed(unreachable(source, mask, target, nearest))
    if allowed is not None:
        best = max(candidates, key=lambda setting: setting.psnr_db)
    else:
        best = min(candidates, key=lambda setting: setting.tile_bytes)
    return TileCodec(model, best.codec.depth, quality=from_steps(best.steps), device=device)


def draw_sample(source: TileSource, mask: TissueMask) -> Sample:
    """Read tissue tiles of all levels, evenly spaced.

    Raises
    ------
    ConfigError
        If there is no tissue.
    """
    places = list(tissue_places(rows_of(source, mask)))
    if not places:
        raise ConfigError(f"{source.name}: holds no tissue to meet a target on; give --depth and --quality")
    chosen = [places[k] for k in np.unique(np.linspace(0, len(places) - 1, SAMPLE_TILES).round().astype(int))]
    tiles = np.stack([source.read_tile(place.level, place.row, place.col) for place in chosen])
    side, sizes = source.tile_size, []
    for place in chosen:
        level = source.levels[place.level]
        sizes.append((min(side, level.height_px - place.row * side), min(side, level.width_px - place.col * side)))
    return Sample(tiles, np.array(sizes, np.int64))


def store_budget(source: TileSource, target: Target) -> float:
    """Return how many bytes the whole store may have."""
    base = source.levels[0]
    return target.max_bytes or (target.bits_per_pixel or 0.0) * base.width_px * base.height_px / 8


def tile_budget(source: TileSource, mask: TissueMask, target: Target) -> float:
    """Return the mean bytes that a tissue tile's stream may have; below 0 where metadata alone are too much."""
    tiles = sum(int(level.sum()) for level in mask.tiles)
    return (store_budget(source, target) - fixed_bytes(source)) / tiles - INDEX_BYTES


def fixed_bytes(source: TileSource) -> int:
    """Estimate the bytes of a store without tiles."""
    return METADATA_BYTES + LEVEL_BYTES * len(source.levels)


def unreachable(source: TileSource, mask: TissueMask, target: Target, nearest: list[float]) -> str:
    """Say that no setting meets the target, and how near the nearest comes."""
    if target.psnr_db is not None:
        return f"{source.name}: {target.psnr_db:g} dB cannot be reached; the finest setting gives {max(nearest):.2f} dB"
    tiles = sum(int(level.sum()) for level in mask.tiles)
    least = fixed_bytes(source) + tiles * (min(nearest) + INDEX_BYTES)
    return (
        f"{source.name}: {store_budget(source, target):,.0f} bytes cannot be reached; "
        f"the smallest setting makes about {least:,.0f}"
    )


def measure(codec: TileCodec, sample: Sample, steps: int) -> Setting:
    """Encode and decode a sample at one quality."""
    quality = np.full(len(sample.tiles), from_steps(steps), np.float32)
    latents = codec.encode(sample.tiles, quality=quality, sizes=sample.sizes)
    decoded = codec.decode(latents, quality=quality)
    psnrs = [
        psnr_db(tile[:height, :width], x_hat[:height, :width])
        for tile, x_hat, (height, width) in zip(sample.tiles, decoded, sample.sizes, strict=True)
    ]
    return Setting(codec, steps, coded_bytes(codec, latents), mean_psnr_db(psnrs))


def stream_bytes(codec: TileCodec, sample: Sample, steps: int) -> float:
    """Return the mean bytes of a tile's stream at one quality."""
    quality = np.full(len(sample.tiles), from_steps(steps), np.float32)
    return coded_bytes(codec, codec.encode(sample.tiles, quality=quality, sizes=sample.sizes))


def coded_bytes(codec: TileCodec, latents: NDArray[np.int16]) -> float:
    """Entropy-code latents (N, C, h, w), and return the mean bytes of their streams."""
    from wsicomp.codec import rans

    if codec.entropy is None:
        raise ConfigError("only a model with an entropy coder can meet a target")
    return float(np.mean([len(rans.encode(latent, codec.entropy)) for latent in latents]))


def most_within(codec: TileCodec, sample: Sample, allowed: float) -> int | None:
    """Find the highest quality, in steps, whose tiles take at most `allowed` bytes in the mean; None if none does."""
    return last_true(lambda steps: stream_bytes(codec, sample, steps) <= allowed)


def least_reaching(codec: TileCodec, sample: Sample, psnr_db: float) -> int | None:
    """Find the lowest quality, in steps, that reaches a mean PSNR; None if none does."""
    below = last_true(lambda steps: measure(codec, sample, steps).psnr_db < psnr_db)
    found = 0 if below is None else below + 1
    return found if found <= FINEST else None


def last_true(holds: Callable[[int], bool]) -> int | None:
    """Find the highest quality, in steps, up to which a condition holds at every step; None if it holds at none."""
    low, high = -1, FINEST
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return None if low < 0 else low


def codec_choice(settings: EncodeSettings) -> CodecChoice:
    """Load one codec for every slide, or set up a choice for each slide where there is a target.

    Raises
    ------
    ModelError
        If the weights cannot be loaded.
    ConfigError
        If they have no such setting, tiles do not fit the depth, or the device is not there.
    """
    device = resolve_device(settings.device)
    if settings.target is not None:
        return TargetedCodec(load_codec(settings.model), settings.target, settings.depth, device)
    codec = TileCodec.load(
        settings.model,
        DEFAULT_DEPTH if settings.depth is None else settings.depth,
        quality=settings.quality,
        latent_dtype=settings.latent_dtype,
        device=device,
    )
    codec.check_tile_size(settings.source.tile_size)
    return FixedCodec(codec)
