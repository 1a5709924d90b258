"""The header of a latent store: what it holds, how it is laid out, and its place in the group's attributes.

    StoreHeader --to_attributes--> {"ome": NGFF 0.5, "wsicomp": every field} --from_attributes--> StoreHeader

    group                     shape                                   chunk                 shard
    latents/LEVEL             (C, ceil(H / 2**d), ceil(W / 2**d))     (C, T/2**d, T/2**d)   up to 16 x 16 chunks
    tissue/LEVEL              (rows, cols) bool                       the whole array       none
    icc_profile (optional)    (bytes,) uint8                          the whole array       none

Where a floor was set under every tile, and only there, these stand beside them (`floored` says more):

    quality/LEVEL             (rows, cols) uint8                      the whole array       none
    fidelity/LEVEL            (rows, cols, 2) float32                 the whole array       none
    jpegxl/LEVEL              (rows, cols, 4 T**2 + 1024) uint8       (1, 1, all)           up to 16 x 16 chunks

`ome` lets any NGFF viewer place the latents; only `wsicomp` is read back. A header holds numbers, plain keys and
hashes: no dates, no file names, no free text, so nothing of a patient can slip in. This module touches no file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Literal

from wsicomp._version import __version__
from wsicomp.errors import StoreCorrupt, StoreVersion
from wsicomp.geometry import LEVEL_STEP, SHARD_TILES, Level, TileGrid

__all__ = ["FORMAT_VERSION", "LatentDtype", "StoreHeader", "check_version"]

FORMAT_VERSION = 1
"""The newest format that this program reads, and the one that it writes."""

LatentDtype = Literal["int8", "int16", "float16", "float32"]

LATENT_DTYPES = ("int8", "int16", "float16", "float32")
ENTROPY_DTYPES = ("int8", "int16")
"""Types that an entropy model can code."""

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
"""Model and vendor keys: short, and without the spaces that free text needs."""

RULE_TEXT = re.compile(r"[ -~]{0,64}")
CREATED_BY = re.compile(r"wsicomp [0-9A-Za-z.+!-]{1,32}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoreHeader:
    """Everything that a reader must know before it reads a tile.

    Parameters
    ----------
    model
        Registry key of the codec, such as "perticarari2023".
    weights_sha256
        SHA-256 of the codec's weights, 64 lowercase hexadecimal digits.
    depth
        Latent pixels are 2**depth image pixels wide; 1 to 8.
    quality
        Quality setting of the codec, 0 to 15 in steps of 1/16; None for a codec without one.
    channels
        Channels of a latent, C.
    latent_dtype
        Type of the stored elements.
    tile_size
        Side of a tile in image pixels, a multiple of 2**depth.
    levels
        The pyramid, finest level first.
    mpp
        Micrometres per pixel of level 0, x and y; None where unknown.
    objective_power
        Magnification of the objective; None where unknown.
    vendor
        Key of the scanner's make; None where unknown.
    source_bytes
        Size of the source on disk; None where there was no such file.
    tissue_rule
        How the tissue mask was made: plain keys to numbers and short strings.
    glass_rgb
        Colour that a glass tile is decoded to, three values in 0..255.
    tissue_tiles, total_tiles
        Tiles that hold tissue, and all tiles, over all levels.
    entropy
        Digest of the entropy model that the latents are coded with, 64 lowercase hexadecimal digits, for int8 and int16
        alone; None where they are bytes compressed by zstd.
    floor
        What no tissue tile is below: plain keys to numbers and short strings, of which `min_psnr_db` and `min_ms_ssim`
        hold for the recorded fidelity. None where no floor was set; the header on disk then has no such field.
    created_by
        The program that wrote the store: "wsicomp VERSION".
    format_version
        Version of the store's format.

    Raises
    ------
    ValueError
        If a field has a type or a value that the format does not allow.
    """

    model: str
    weights_sha256: str
    depth: int
    quality: float | None
    channels: int
    latent_dtype: LatentDtype
    tile_size: int
    levels: tuple[Level, ...]
    mpp: tuple[float, float] | None
    objective_power: float | None
    vendor: str | None
    source_bytes: int | None
    tissue_rule: dict[str, str | int | float]
    glass_rgb: tuple[int, int, int]
    tissue_tiles: int
    total_tiles: int
    entropy: str | None = None
    floor: dict[str, str | int | float] | None = None
    created_by: str = field(default_factory=lambda: f"wsicomp {__version__}")
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        check_int("format_version", self.format_version, FORMAT_VERSION, FORMAT_VERSION)
        check_text("model", self.model, KEY)
        check_text("weights_sha256", self.weights_sha256, SHA256)
        check_int("depth", self.depth, 1, 8)
        if self.quality is not None:
            check_quality("quality", self.quality)
        check_int("channels", self.channels, 1, 65_536)
        if self.latent_dtype not in LATENT_DTYPES:
            raise ValueError(f"latent_dtype is {self.latent_dtype!r}, not one of {', '.join(LATENT_DTYPES)}")
        if self.entropy is not None:
            check_text("entropy", self.entropy, SHA256)
            if self.latent_dtype not in ENTROPY_DTYPES:
                raise ValueError(f"entropy codes {' and '.join(ENTROPY_DTYPES)}, not latent_dtype {self.latent_dtype}")
        check_int("tile_size", self.tile_size, 1, 65_536)
        if self.tile_size % 2**self.depth:
            raise ValueError(f"tile_size {self.tile_size} is not a multiple of {2**self.depth} (2**depth)")
        check_levels(self.levels)
        if self.mpp is not None:
            check_tuple("mpp", self.mpp, 2)
            for value in self.mpp:
                check_positive("mpp", value)
        if self.objective_power is not None:
            check_positive("objective_power", self.objective_power)
        if self.vendor is not None:
            check_text("vendor", self.vendor, KEY)
        if self.source_bytes is not None:
            check_int("source_bytes", self.source_bytes, 0, 2**63 - 1)
        check_rule("tissue_rule", self.tissue_rule)
        if self.floor is not None:
            check_rule("floor", self.floor)
            if not self.floor:
                raise ValueError("floor is empty")
        check_tuple("glass_rgb", self.glass_rgb, 3)
        for value in self.glass_rgb:
            check_int("glass_rgb", value, 0, 255)
        total = sum(len(level.grid(self.tile_size)) for level in self.levels)
        check_int("total_tiles", self.total_tiles, total, total)
        check_int("tissue_tiles", self.tissue_tiles, 0, total)
        check_text("created_by", self.created_by, CREATED_BY)

    @property
    def chunk_px(self) -> int:
        """Side of one tile's latent, in latent pixels: tile_size / 2**depth."""
        return self.tile_size >> self.depth

    def grid(self, level: int) -> TileGrid:
        """Tile grid of one level.

        Raises
        ------
        IndexError
            If the store has no such level.
        """
        if not 0 <= level < len(self.levels):
            raise IndexError(f"no level {level} in a store of {len(self.levels)} levels")
        return self.levels[level].grid(self.tile_size)

    def latent_shape(self, level: int) -> tuple[int, int, int]:
        """Shape (C, ceil(H / 2**depth), ceil(W / 2**depth)) of one level's latents."""
        grid = self.grid(level)
        step = 2**self.depth
        return self.channels, -(-grid.height_px // step), -(-grid.width_px // step)

    def shard_shape(self, level: int) -> tuple[int, int, int]:
        """Shape of one level's shards: 16 x 16 tiles, or fewer where the level itself has fewer.

        A smaller shard has a smaller index (16 bytes per tile), which counts on the small levels of a pyramid.
        """
        grid = self.grid(level)
        rows, cols = min(SHARD_TILES, grid.rows), min(SHARD_TILES, grid.cols)
        return self.channels, rows * self.chunk_px, cols * self.chunk_px

    def to_attributes(self) -> dict[str, object]:
        """Group attributes as JSON values: `ome` (NGFF 0.5 multiscales) and `wsicomp` (every field that applies)."""
        record = asdict(self)
        if self.floor is None:
            del record["floor"]
        record["levels"] = [asdict(level) for level in self.levels]
        record["mpp"] = None if self.mpp is None else list(self.mpp)
        record["glass_rgb"] = list(self.glass_rgb)
        return {"ome": self._multiscales(), "wsicomp": record}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, object], store: str = "the store") -> StoreHeader:
        """Read a header back from group attributes.

        Parameters
        ----------
        attributes
            Attributes of the store's root group, as JSON values.
        store
            How an error message calls the store.

        Raises
        ------
        StoreVersion
            If the store was written by a newer format.
        StoreCorrupt
            If a field is missing, unknown, or holds what the format does not allow.
        """
        record = attributes.get("wsicomp")
        if not isinstance(record, dict):
            raise StoreCorrupt(f"{store}: its header is damaged: no 'wsicomp' attributes; restore or re-encode it")
        check_version(record.get("format_version"), store)
        names = {field.name for field in fields(cls)}
        if record.keys() | {"floor"} != names:
            odd = ", ".join(repr(name) for name in sorted((record.keys() | {"floor"}) ^ names, key=str))
            raise StoreCorrupt(f"{store}: its header is damaged: fields missing or unknown: {odd}; restore it")
        values = dict(record)
        try:
            values["levels"] = tuple(level_from(item) for item in list_of("levels", record["levels"]))
            values["glass_rgb"] = tuple(list_of("glass_rgb", record["glass_rgb"]))
            if "floor" in record and record["floor"] is None:
                raise ValueError("floor is null, where a store without one has no such field")
            if record["mpp"] is not None:
                values["mpp"] = tuple(list_of("mpp", record["mpp"]))
            return cls(**values)
        except ValueError as error:
            raise StoreCorrupt(f"{store}: its header is damaged: {error}; restore or re-encode it") from error

    def _multiscales(self) -> dict[str, object]:
        axes: list[dict[str, str]] = [
            {"name": "c", "type": "channel"},
            {"name": "y", "type": "space"},
            {"name": "x", "type": "space"},
        ]
        if self.mpp is not None:
            for axis in axes[1:]:
                axis["unit"] = "micrometer"
        mpp_x, mpp_y = self.mpp or (1.0, 1.0)
        datasets = []
        for level in self.levels:
            step = level.downsample * 2**self.depth
            scale = {"type": "scale", "scale": [1.0, mpp_y * step, mpp_x * step]}
            datasets.append({"path": f"latents/{level.index}", "coordinateTransformations": [scale]})
        return {"version": "0.5", "multiscales": [{"name": "latents", "axes": axes, "datasets": datasets}]}


def check_version(version: object, store: str) -> None:
    """Refuse a store of another format.

    Raises
    ------
    StoreVersion
        If the version is newer than this program reads.
    StoreCorrupt
        If it is no version at all.
    """
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise StoreCorrupt(f"{store}: its header is damaged: format_version is {version!r}; restore or re-encode it")
    if version > FORMAT_VERSION:
        raise StoreVersion(
            f"{store}: format version {version} is newer than {FORMAT_VERSION}; update wsicomp to read it"
        )


def check_int(name: str, value: object, low: int, high: int) -> None:
    """Raise ValueError unless `value` is an int in low..high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}, not a whole number in {low}..{high}")


def check_quality(name: str, value: object) -> None:
    """Raise ValueError unless `value` is a number in 0..15 and a whole number of sixteenths."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 15 or value * 16 % 1:
        raise ValueError(f"{name} is {value!r}, not a number in 0..15 in steps of 1/16")


def check_positive(name: str, value: object) -> None:
    """Raise ValueError unless `value` is a finite number above 0; JSON has no NaN and no infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{name} is {value!r}, not a finite number above 0")


def check_text(name: str, value: object, pattern: re.Pattern[str]) -> None:
    """Raise ValueError unless `value` is a string of the pattern."""
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{name} is not of the form {pattern.pattern}")


def check_tuple(name: str, value: object, length: int) -> None:
    """Raise ValueError unless `value` is a tuple of that length."""
    if not isinstance(value, tuple) or len(value) != length:
        raise ValueError(f"{name} is not {length} values")


def check_levels(levels: object) -> None:
    """Raise ValueError unless `levels` is a pyramid of downsamples 1, 4, 16, ..."""
    if not isinstance(levels, tuple) or not 1 <= len(levels) <= 32:
        raise ValueError("levels is not a tuple of 1 to 32 levels")
    for index, level in enumerate(levels):
        if not isinstance(level, Level):
            raise ValueError(f"level {index} is not a Level")
        check_int(f"index of level {index}", level.index, index, index)
        check_int(f"downsample of level {index}", level.downsample, LEVEL_STEP**index, LEVEL_STEP**index)
        check_int(f"width_px of level {index}", level.width_px, 1, 2**31 - 1)
        check_int(f"height_px of level {index}", level.height_px, 1, 2**31 - 1)


def check_rule(name: str, rule: object) -> None:
    """Raise ValueError unless `rule` maps plain keys to finite numbers and short printable strings."""
    if not isinstance(rule, dict):
        raise ValueError(f"{name} is not a mapping")
    for key, value in rule.items():
        check_text(f"a key of {name}", key, KEY)
        if isinstance(value, str):
            check_text(f"{name} {key}", value, RULE_TEXT)
        elif not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} {key} is {value!r}, not a finite number or a short string")


def list_of(name: str, value: object) -> list[object]:
    """Return `value`, a JSON list; raise ValueError if it is not one."""
    if not isinstance(value, list):
        raise ValueError(f"{name} is not a list")
    return value


def level_from(item: object) -> Level:
    """One level from its JSON object; raise ValueError if it is not one."""
    if not isinstance(item, dict) or item.keys() != {field.name for field in fields(Level)}:
        raise ValueError("a level does not name exactly its index, downsample, width_px and height_px")
    return Level(**item)
