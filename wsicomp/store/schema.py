"""The header of a latent store: what it holds, how it is laid out, and its place in the group's attributes.

    StoreHeader --to_attributes--> {"wsicomp": every field of its version} --from_attributes--> StoreHeader

    group                     shape                                   chunk                 shard
    latents/LEVEL             (C, ceil(H / 2**d), ceil(W / 2**d))     (C, T/2**d, T/2**d)   up to 16 x 16 chunks
    tissue/LEVEL              (rows, cols) bool                       the whole array       none
    icc_profile (optional)    (bytes,) uint8                          the whole array       none
    damaged (optional)        (n, 3) uint32                           the whole array       none

Where some tiles may be pictures, these stand beside them (`records` says more); `fidelity` only where there is a floor:

    quality/LEVEL             (rows, cols) uint8                      the whole array       none
    jpegxl/LEVEL              (rows, cols, 4 T**2 + 1024) uint8       (1, 1, all)           up to 16 x 16 chunks
    fidelity/LEVEL            (rows, cols, 2) float32                 the whole array       none

What `latents` holds is decided by the model: quantised latents for `perticarari2023`, residual symbols for `wsic`.

Every version of the format has its own set of fields, and a header keeps the version that it was read with. A field
that no known version has comes from a newer format and is never taken for damage. `features` names what a reader must
understand beyond its fields, so that an older program can say what it lacks. A header holds numbers, plain keys and
hashes: no dates, no file names, no free text, so nothing of a patient can slip in. Latents are not declared as an image
to other programs, because they are none. This module touches no file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from wsicomp._version import __version__
from wsicomp.errors import StoreCorrupt, StoreVersion
from wsicomp.geometry import LEVEL_STEP, SHARD_TILES, Level, TileGrid
from wsicomp.store.quality import check_quality

__all__ = ["FORMAT_VERSION", "PICTURES", "LatentDtype", "StoreHeader", "check_version"]

FORMAT_VERSION = 2
"""The newest format that this program reads, and the only one that it writes."""

PICTURES = "pictures"
"""Feature of a store in which some tiles are pictures instead of latents."""

FEATURES = frozenset({PICTURES})
"""Features that this program understands."""

LatentDtype = Literal["int8", "int16", "float16", "float32"]

LATENT_DTYPES = ("int8", "int16", "float16", "float32")
ENTROPY_DTYPES = ("int8", "int16")
"""Types that an entropy model can code."""

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
"""Model and vendor keys: short, and without the spaces that free text needs."""

RULE_TEXT = re.compile(r"[ -~]{0,64}")
CREATED_BY = re.compile(r"wsicomp [0-9A-Za-z.+!-]{1,32}")
SHA256 = re.compile(r"[0-9a-f]{64}")


def since(version: int, default: Any) -> Any:
    """Declare a field of the header that older versions of the format do not have."""
    return field(default=default, metadata={"since": version})


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
        A promise that no tile, glass too, is below this; in version 1 it was made for tissue tiles alone. Plain keys to
        numbers and short strings, of which `min_psnr_db` and `min_ms_ssim` hold for the recorded fidelity of tissue
        tiles. None where nothing was promised; version 1 then has no such field. A store with a floor may have
        pictures.
    created_by
        The program that wrote the store: "wsicomp VERSION".
    format_version
        Version of the store's format: the one that it was read with.
    source_fingerprint
        Fingerprint of the source, 64 lowercase hexadecimal digits; None where there is none. Since version 2.
    features
        Names of what a reader must understand to read the store, sorted. Since version 2.

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
    source_fingerprint: str | None = since(2, None)
    features: tuple[str, ...] = since(2, ())

    def __post_init__(self) -> None:
        check_int("format_version", self.format_version, 1, FORMAT_VERSION)
        for later in (item for item in fields(self) if item.metadata.get("since", 1) > self.format_version):
            if getattr(self, later.name) != later.default:
                raise ValueError(f"format version {self.format_version} has no {later.name}")
        check_text("model", self.model, KEY)
        check_text("weights_sha256", self.weights_sha256, SHA256)
        check_int("depth", self.depth, 1, 8)
        if self.quality is not None:
            check_quality(self.quality)
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
        if self.source_fingerprint is not None:
            check_text("source_fingerprint", self.source_fingerprint, SHA256)
        check_features(self.features)
        if self.floor is not None and not self.has_pictures:
            raise ValueError(f"a store with a floor needs the feature {PICTURES}")

    @property
    def has_pictures(self) -> bool:
        """Whether a tile may be a picture, or have a quality of its own; version 1 says so by its floor."""
        return PICTURES in self.features or (self.format_version == 1 and self.floor is not None)

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
        """Group attributes as JSON values: `wsicomp`, every field of the header's version."""
        record = {name: value for name, value in asdict(self).items() if name in names_of(self, self.format_version)}
        if self.floor is None and self.format_version == 1:
            del record["floor"]
        record["levels"] = [asdict(level) for level in self.levels]
        for name in {"mpp", "glass_rgb", "features"} & record.keys():
            record[name] = None if record[name] is None else list(record[name])
        return {"wsicomp": record}

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
            If the store was written by a newer format, or needs a feature that this program lacks.
        StoreCorrupt
            If a field is missing, or holds what the format does not allow.
        """
        record = attributes.get("wsicomp")
        if not isinstance(record, dict):
            raise StoreCorrupt(f"{store}: its header is damaged: no 'wsicomp' attributes; restore or re-encode it")
        check_version(record.get("format_version"), store, record.get("features"))
        if unknown := record.keys() - names_of(cls, FORMAT_VERSION):
            raise StoreVersion(
                f"{store}: its header has {listed('field', unknown)} of a newer format; update wsicomp to read it"
            )
        values: dict[str, Any] = dict(record)
        if values["format_version"] == 1:
            if "floor" in values and values["floor"] is None:
                raise StoreCorrupt(f"{store}: its header is damaged: floor is null, where version 1 leaves it out")
            values.setdefault("floor", None)
        if odd := values.keys() ^ names_of(cls, values["format_version"]):
            raise StoreCorrupt(
                f"{store}: its header is damaged: {listed('field', odd)} missing or too many; restore it"
            )
        try:
            values["levels"] = tuple(level_from(item) for item in list_of("levels", record["levels"]))
            for name in {"mpp", "glass_rgb", "features"} & values.keys():
                if name != "mpp" or values[name] is not None:
                    values[name] = tuple(list_of(name, values[name]))
            return cls(**values)
        except ValueError as error:
            raise StoreCorrupt(f"{store}: its header is damaged: {error}; restore or re-encode it") from error


def names_of(header: StoreHeader | type[StoreHeader], version: int) -> set[str]:
    """Name the fields that a header has in a version of the format."""
    return {item.name for item in fields(header) if item.metadata.get("since", 1) <= version}


def check_version(version: object, store: str, features: object = None) -> int:
    """Return the version of a store's format, and refuse a newer one.

    Parameters
    ----------
    version, features
        The two fields of the header; whatever stands there.
    store
        How an error message calls the store.

    Raises
    ------
    StoreVersion
        If the store needs a feature that this program lacks, or its version is newer than this program reads.
    StoreCorrupt
        If it is no version at all.
    """
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise StoreCorrupt(f"{store}: its header is damaged: format_version is {version!r}; restore or re-encode it")
    asked = features if isinstance(features, list) else []
    if lacking := {name for name in asked if isinstance(name, str) and KEY.fullmatch(name)} - FEATURES:
        raise StoreVersion(f"{store}: needs {listed('feature', lacking)}; update wsicomp to read it")
    if version > FORMAT_VERSION:
        raise StoreVersion(
            f"{store}: format version {version} is newer than {FORMAT_VERSION}; update wsicomp to read it"
        )
    return version


def listed(what: str, names: Iterable[str]) -> str:
    """Name things in a message: "feature 'a'", "features 'a' and 'b'"."""
    quoted = sorted(repr(str(name)) for name in names)
    return f"{what}{'s' if len(quoted) > 1 else ''} {' and '.join(quoted)}"


def check_int(name: str, value: object, low: int, high: int) -> None:
    """Raise ValueError unless `value` is an int in low..high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}, not a whole number in {low}..{high}")


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


def check_features(features: object) -> None:
    """Raise ValueError unless `features` is a sorted tuple of features that this program understands, each once."""
    if not isinstance(features, tuple) or features != tuple(sorted(FEATURES & set(map(str, features)))):
        raise ValueError(f"features is not a sorted tuple of {' or '.join(sorted(FEATURES))}")


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
