"""The manifest: size and SHA-256 of every file of a store, and a digest of the manifest itself.

    {"files": {PATH: {"bytes": n, "sha256": hex}, ...}, "format_version": n, "sha256": hex of all that precedes}

It is written last, so a store without it was never finished; and it is one canonical line of JSON, so that any change
to it shows. The outer form (JSON, `format_version`, `sha256` over the canonical rest) stays for ever, so that every
release can tell a newer format from damage; `format_version` is that of the store's header. This module does not look
at what the files hold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wsicomp.errors import StoreCorrupt
from wsicomp.store.files import hash_and_sync, list_files
from wsicomp.store.schema import FORMAT_VERSION, SHA256, check_version

__all__ = ["MANIFEST", "Entry", "Manifest", "is_chunk"]

MANIFEST = "manifest.json"
"""Name of the manifest inside a store; the only file that it does not list."""


@dataclass(frozen=True)
class Entry:
    """Size and SHA-256 (hexadecimal) of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a complete store consists of: relative path to entry, and the version of the store's format."""

    files: dict[str, Entry]
    format_version: int = FORMAT_VERSION

    @classmethod
    def of_folder(cls, root: Path) -> Manifest:
        """Hash every file under a folder, and make each of them last.

        Raises
        ------
        OSError
            If a file cannot be read or synced.
        """
        return cls({name: Entry(*hash_and_sync(root / name)) for name in list_files(root) if name != MANIFEST})

    def to_bytes(self) -> bytes:
        """Serialise as one canonical line of JSON, with its own digest."""
        record: dict[str, object] = {
            "files": {name: {"bytes": entry.bytes, "sha256": entry.sha256} for name, entry in self.files.items()},
            "format_version": self.format_version,
        }
        record["sha256"] = hashlib.sha256(canonical(record)).hexdigest()
        return canonical(record) + b"\n"

    @classmethod
    def from_bytes(cls, raw: bytes, store: str) -> Manifest:
        """Read a manifest back; `store` is how error messages call the store.

        Raises
        ------
        StoreCorrupt
            If any byte of it is not what was written.
        StoreVersion
            If a newer format wrote it.
        """
        damaged = StoreCorrupt(f"{store}: its manifest is damaged; restore {MANIFEST} or re-encode")
        try:
            record = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise damaged from error
        if not isinstance(record, dict):
            raise damaged
        digest = record.pop("sha256", None)
        if digest != hashlib.sha256(canonical(record)).hexdigest():
            raise damaged
        version = check_version(record.get("format_version"), store)
        files = record.get("files")
        if not isinstance(files, dict) or not all(is_entry(item) for item in files.values()):
            raise damaged
        manifest = cls({name: Entry(item["bytes"], item["sha256"]) for name, item in files.items()}, version)
        if manifest.to_bytes() != raw:
            raise damaged
        return manifest

    def differences(self, sizes: Mapping[str, int]) -> dict[str, str]:
        """Compare with a listing: path to reason, for files missing, of another size, or not listed here.

        Parameters
        ----------
        sizes
            Size in bytes of every file that is there, the manifest among them.
        """
        found: dict[str, str] = {}
        for name, entry in self.files.items():
            if name not in sizes:
                found[name] = "missing"
            elif sizes[name] != entry.bytes:
                found[name] = f"{sizes[name]} bytes instead of {entry.bytes}"
        for name in sizes:
            if name not in self.files and name != MANIFEST:
                found[name] = "not a file of this store"
        return found


def is_chunk(name: str) -> bool:
    """Whether a file holds coded tiles (checked tile by tile) rather than structure (checked whole on opening)."""
    return name.startswith(("latents/", "jpegxl/")) and not name.endswith("zarr.json")


def is_entry(item: object) -> bool:
    """Whether a JSON value is the entry of one file."""
    return (
        isinstance(item, dict)
        and item.keys() == {"bytes", "sha256"}
        and type(item["bytes"]) is int
        and isinstance(item["sha256"], str)
        and SHA256.fullmatch(item["sha256"]) is not None
    )


def canonical(record: object) -> bytes:
    """Write a JSON value in the one way: sorted keys, no spaces, ASCII."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
