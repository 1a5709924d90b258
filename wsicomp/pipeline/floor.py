"""A floor under every tile: each is decoded as it is written, and coded again until it is not below.

    tiles -> codec at the asked quality -> decoded as a reader will -> above the floor?  yes: kept
                 ^                                                        | no
                 +---- the next whole quality, up to the highest ---------+
                                                                          | still no, or the codec has no qualities
                                  JPEG XL at the largest distance that reaches the floor; at the last, lossless

So no tile of the store is below its floor, whatever the tile shows: tissue, fluorescence, a photograph, noise. JPEG XL,
and not a shallower depth, is the fallback: it reaches every fidelity up to the tile itself, while a shallower depth has
a ceiling of its own and would be a second array of latents.

Where a tile that is above the floor costs more than one bit per pixel, where learned codecs lose their lead, JPEG XL is
tried too, and the smaller is kept. JPEG XL of a tile is never further from the original, in PSNR, than the codec's own
tile at the asked quality: a floor only ever adds.

The fidelity is that of the part inside the slide. A classifier is shown that part mirrored out to the whole tile. On
another kind of machine a decoder may round pixels otherwise; the promise is then kept to some 0.01 dB. This module
knows no classifier by name and writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicomp.errors import ConfigError, StoreError
from wsicomp.metrics.distortion import psnr_db
from wsicomp.metrics.similarity import mirrored_out, ms_ssim
from wsicomp.models.device import in_threads
from wsicomp.models.wsic import QUALITIES
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.store import jpegxl
from wsicomp.store.coding import ZSTD_LEVEL
from wsicomp.store.quality import to_steps
from wsicomp.store.tiles import IS_PICTURE

__all__ = ["CodedTile", "Floor", "FloorCoder", "Guard"]

DISTANCES = (8.0, 5.6, 4.0, 2.8, 2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05, 0.0)
"""Distances of JPEG XL that are tried, in half octaves from poor to hardly lossy; the last is lossless."""

WRAPPING_BYTES = 64
"""What a JPEG XL stream takes more in its zarr chunk: length, zeros under zstd, checksum; measured 22 to 76."""


@dataclass(frozen=True)
class Guard:
    """A frozen classifier whose prediction no tile may change.

    Parameters
    ----------
    sha256
        SHA-256 of its weights.
    threshold
        Probability from which a tile is positive; for the record.
    logits
        Tiles (N, T, T, 3) uint8 to logits (N,) float64, each tile's the same whatever stands beside it.
    predict
        Logits (N,) to predictions (N,) bool, at that threshold.
    max_shift
        Largest allowed distance between the logit of a tile and that of its original; None allows any.

    Raises
    ------
    ConfigError
        If the shift is not a finite number above 0.
    """

    sha256: str
    threshold: float
    logits: Callable[[NDArray[np.uint8]], NDArray[np.float64]]
    predict: Callable[[NDArray[np.float64]], NDArray[np.bool_]]
    max_shift: float | None = None

    def __post_init__(self) -> None:
        if self.max_shift is not None and not 0 < self.max_shift < math.inf:
            raise ConfigError(f"a largest logit shift of {self.max_shift:g} cannot be; give one above 0, such as 0.5")


@dataclass(frozen=True)
class Floor:
    """What no tile may be below; at least one of the three.

    Parameters
    ----------
    min_psnr_db
        PSNR in dB, above 0; more than 8 bits can tell apart (100 dB) is lossless.
    min_ms_ssim
        MS-SSIM above 0; 1 is lossless.
    guard
        A classifier whose predictions stay.

    Raises
    ------
    ConfigError
        If nothing is asked for, or a number cannot be.
    """

    min_psnr_db: float | None = None
    min_ms_ssim: float | None = None
    guard: Guard | None = None

    def __post_init__(self) -> None:
        if self.min_psnr_db is None and self.min_ms_ssim is None and self.guard is None:
            raise ConfigError("a floor needs a PSNR, an MS-SSIM or a classifier")
        if self.min_psnr_db is not None and not 0 < self.min_psnr_db < math.inf:
            raise ConfigError(f"a PSNR of at least {self.min_psnr_db:g} dB cannot be; give one above 0, such as 34")
        if self.min_ms_ssim is not None and not 0 < self.min_ms_ssim <= 1:
            raise ConfigError(
                f"an MS-SSIM of at least {self.min_ms_ssim:g} cannot be; give one above 0 and at most 1, such as 0.98"
            )

    @property
    def record(self) -> dict[str, str | int | float]:
        """The floor as the header of a store has it."""
        found: dict[str, str | int | float] = {}
        if self.min_psnr_db is not None:
            found["min_psnr_db"] = float(self.min_psnr_db)
        if self.min_ms_ssim is not None:
            found["min_ms_ssim"] = float(self.min_ms_ssim)
        if self.guard is not None:
            found |= {"classifier": self.guard.sha256, "threshold": float(self.guard.threshold)}
            if self.guard.max_shift is not None:
                found["max_logit_shift"] = float(self.guard.max_shift)
        return found


@dataclass(frozen=True)
class CodedTile:
    """A tile that is not below the floor: a latent or a JPEG XL stream, and how near it is.

    Parameters
    ----------
    quality
        Quality of the latent in steps, 0 for a codec without qualities; 255 where the tile is a stream.
    latent
        (C, T / 2**d, T / 2**d) of the stored type.
    stream
        JPEG XL of the whole tile.
    psnr_db, ms_ssim
        Of what a reader gets of the part inside the slide; infinite and 1 where that is the original.
    """

    quality: int
    latent: NDArray[Any] | None
    stream: bytes | None
    psnr_db: float
    ms_ssim: float


@dataclass(frozen=True)
class Original:
    """A tile as it should be.

    Parameters
    ----------
    x
        (T, T, 3) uint8.
    height_px, width_px
        The part inside the slide.
    logit
        The guard's on it; None without a guard.
    """

    x: NDArray[np.uint8]
    height_px: int
    width_px: int
    logit: float | None = None

    def inside(self, x: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the part inside the slide, of this tile or of one decoded."""
        return x[: self.height_px, : self.width_px]


class FloorCoder:
    """Codes tiles so that none is below a floor.

    Parameters
    ----------
    codec
        The codec at its depth and asked quality.
    floor
        What no tile may be below.
    """

    def __init__(self, codec: TileCodec, floor: Floor) -> None:
        self._codec = codec
        self._floor = floor
        self._qualities: list[float | None] = [codec.quality]
        if codec.quality is not None:
            self._qualities += range(math.floor(codec.quality) + 1, QUALITIES)

    def code(self, tiles: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[CodedTile]:
        """Code tiles, each as small as is tried and none below the floor.

        Parameters
        ----------
        tiles
            (N, T, T, 3) uint8.
        sizes
            (N, 2) height and width in pixels of the part of each that lies on the slide.

        Raises
        ------
        ModelError
            If the classifier cannot take the tiles.
        StoreError
            If JPEG XL is not lossless here.
        """
        originals = self._originals(tiles, sizes)
        found: dict[int, CodedTile] = {}
        asked_db: dict[int, float] = {}
        for quality in self._qualities:
            left = [index for index in range(len(tiles)) if index not in found]
            if not left:
                break
            latents, decoded = self._through_codec([originals[index] for index in left], quality)
            checked = self._check([originals[index] for index in left], decoded)
            for index, latent, (good, psnr, similarity) in zip(left, latents, checked, strict=True):
                asked_db.setdefault(index, psnr)
                if good:
                    found[index] = CodedTile(to_steps(quality), latent, None, psnr, similarity)
        left = [index for index in range(len(tiles)) if index not in found]
        found |= self._as_jpegxl({index: originals[index] for index in left}, asked_db, {})
        kept = {index: tile.latent for index, tile in found.items() if tile.latent is not None}
        limits = {}
        for index, coded_bytes in zip(kept, in_threads(self._latent_bytes, kept.values()), strict=True):
            if 8 * coded_bytes > math.prod(sizes[index].tolist()):
                limits[index] = coded_bytes - WRAPPING_BYTES
        found |= self._as_jpegxl({index: originals[index] for index in limits}, asked_db, limits)
        return [found[index] for index in range(len(tiles))]

    def holds(self, tiles: NDArray[np.uint8], sizes: NDArray[np.int64], shown: NDArray[np.uint8]) -> list[bool]:
        """Tell of tiles whether the floor still holds when one picture, (T, T, 3) uint8, is shown in place of each.

        The other parameters and the ModelError are those of `code`.
        """
        return [good for good, _, _ in self._check(self._originals(tiles, sizes), [shown] * len(tiles))]

    def _originals(self, tiles: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[Original]:
        originals = [Original(x, *size) for x, size in zip(tiles, sizes.tolist(), strict=True)]
        if self._floor.guard is None:
            return originals
        logits = self._logits(originals, list(tiles))
        return [Original(o.x, o.height_px, o.width_px, float(v)) for o, v in zip(originals, logits, strict=True)]

    def _through_codec(
        self, originals: list[Original], quality: float | None
    ) -> tuple[NDArray[Any], Sequence[NDArray[np.uint8]]]:
        """Encode tiles, and decode them as a reader of the store will."""
        qualities = np.full(len(originals), quality or 0, np.float32)
        sizes = np.array([(o.height_px, o.width_px) for o in originals], np.int64)
        latents = self._codec.encode(np.stack([o.x for o in originals]), quality=qualities, sizes=sizes)
        return latents, list(self._codec.decode(latents, quality=qualities))

    def _check(
        self, originals: Sequence[Original], decoded: Sequence[NDArray[np.uint8]], least_db: Sequence[float] = ()
    ) -> list[tuple[bool, float, float]]:
        """Whether each decoded tile is above the floor, its PSNR in dB, and its MS-SSIM where all else is well."""
        floor = self._floor
        psnrs = [psnr_db(o.inside(o.x), o.inside(x)) for o, x in zip(originals, decoded, strict=True)]
        least = [max(floor.min_psnr_db or 0, db) for db in least_db or [0.0] * len(psnrs)]
        good = [psnr >= wanted or math.isinf(psnr) for psnr, wanted in zip(psnrs, least, strict=True)]
        if floor.guard is not None:
            # The same pixels have the same prediction; asking again could only add a float's noise.
            asked = [index for index, psnr in enumerate(psnrs) if good[index] and math.isfinite(psnr)]
            logits = self._logits([originals[index] for index in asked], [decoded[index] for index in asked])
            wanted_logits = np.array([originals[index].logit for index in asked], np.float64)
            kept = floor.guard.predict(logits) == floor.guard.predict(wanted_logits)
            if floor.guard.max_shift is not None:
                kept &= np.abs(logits - wanted_logits) <= floor.guard.max_shift
            for index, is_kept in zip(asked, kept, strict=True):
                good[index] = bool(is_kept)

        def similarity(index: int) -> float:
            original = originals[index]
            return ms_ssim(original.inside(original.x), original.inside(decoded[index])) if good[index] else math.nan

        similarities = in_threads(similarity, range(len(psnrs)))
        enough = [good[k] and similarities[k] >= (floor.min_ms_ssim or -1) for k in range(len(psnrs))]
        return list(zip(enough, psnrs, similarities, strict=True))

    def _logits(self, originals: Sequence[Original], tiles: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        if self._floor.guard is None or not tiles:
            return np.empty(0)
        shown = [mirrored_out(o.inside(x), len(x)) for o, x in zip(originals, tiles, strict=True)]
        return self._floor.guard.logits(np.stack(shown))

    def _as_jpegxl(
        self, originals: dict[int, Original], asked_db: dict[int, float], limits: dict[int, int]
    ) -> dict[int, CodedTile]:
        """JPEG XL at the largest distance that will do, by bisection; tiles too long for their limit are left out.

        Fidelity grows as the distance shrinks, but for some noise; whatever is returned has been checked itself.
        """
        last = len(DISTANCES) - 1
        low, high = dict.fromkeys(originals, 0), dict.fromkeys(originals, last)
        found: dict[int, CodedTile] = {}
        while left := [index for index in originals if low[index] <= high[index]]:
            rungs = [(low[index] + high[index]) // 2 for index in left]
            tried = in_threads(
                jpegxl_of, [(originals[index].x, DISTANCES[k]) for index, k in zip(left, rungs, strict=True)]
            )
            checked = self._check(
                [originals[index] for index in left], [x for _, x in tried], [asked_db[index] for index in left]
            )
            for index, rung, (stream, _), (good, psnr, similarity) in zip(left, rungs, tried, checked, strict=True):
                fits = index not in limits or len(stream) < limits[index]
                if good:
                    high[index] = rung - 1
                    if fits:
                        found[index] = CodedTile(IS_PICTURE, None, stream, psnr, similarity)
                elif rung == last:
                    raise StoreError("JPEG XL does not give a tile back losslessly; install another imagecodecs")
                else:
                    # Finer streams are longer, so one that is too long already ends the search.
                    low[index] = rung + 1 if fits else last + 1
        return found

    def _latent_bytes(self, latent: NDArray[Any]) -> int:
        if self._codec.entropy is None:
            import imagecodecs

            return len(imagecodecs.zstd_encode(latent.tobytes(), level=ZSTD_LEVEL))
        from wsicomp.codec.zarr_rans import code_ahead

        return len(code_ahead(latent, self._codec.entropy.digest))


def jpegxl_of(asked: tuple[NDArray[np.uint8], float]) -> tuple[bytes, NDArray[np.uint8]]:
    """Stream of a tile at a distance, and what it is decoded to."""
    tile, distance = asked
    stream = jpegxl.encode(tile, distance)
    return stream, jpegxl.decode(stream, len(tile))
