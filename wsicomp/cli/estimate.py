"""`wsicomp encode --dry-run`: what would be written, in about how many bytes and seconds; nothing is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wsicomp.cli.console import emit, log, progress_bar, say

if TYPE_CHECKING:
    from wsicomp.pipeline.batch import Job
    from wsicomp.pipeline.estimate import Estimate
    from wsicomp.pipeline.settings import EncodeSettings
    from wsicomp.pipeline.target import CodecChoice

__all__ = ["estimate"]

ACTIONS = {"make": "would be made", "replace": "would be replaced", "keep": "would be kept"}


def estimate(
    jobs: Sequence[Job], settings: EncodeSettings, choice: CodecChoice, *, skip_errors: bool, json: bool
) -> int:
    """Print an estimate of each job and their sum, and return the exit code that encoding would end with."""
    from wsicomp.pipeline.estimate import estimates

    results: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    code = 0
    with progress_bar("estimate") as progress:
        for number, found in enumerate(estimates(jobs, settings, choice), 1):
            progress(number, len(jobs), found.job.slide.name)
            if found.error is not None:
                log(f"wsicomp: error: {found.error}")
                failures.append({"slide": str(found.job.slide), "error": str(found.error)})
                code = code or (3 if skip_errors else found.error.exit_code)  # the first failure ends an encoding
                continue
            results.append(record_of(found))
            if not json:
                say(line_of(results[-1]))
    made = [result for result in results if result["action"] != "keep"]
    total = {name: sum(result[name] or 0 for result in made) for name in ("store_bytes", "seconds")}
    if json:
        status = "error" if failures else "ok"
        document = {"command": "encode", "status": status, "exit_code": code, "dry_run": True, **total}
        emit({**document, "results": results, "failures": failures})
    elif len(made) > 1:
        say(f"{len(made)} stores: about {total['store_bytes']:,} bytes in {total['seconds']:.0f} s")
    return code


def record_of(found: Estimate) -> dict[str, Any]:
    """Record of an estimate: JSON values."""
    return {
        "slide": str(found.job.slide),
        "store": str(found.job.store),
        "action": found.action,
        "depth": found.depth,
        "quality": found.quality,
        "tiles": found.tiles,
        "tissue_tiles": found.tissue_tiles,
        "store_bytes": found.store_bytes,
        "seconds": found.seconds,
    }


def line_of(result: dict[str, Any]) -> str:
    """Say the same in one line."""
    quality = "" if result["quality"] is None else f", quality {result['quality']:g}"
    tiles = f"{result['tissue_tiles']} of {result['tiles']} tiles"
    size = f"{result['store_bytes']:,} bytes"
    if result["action"] != "keep":
        size = f"about {size} in {result['seconds']:.0f} s"
    return f"{result['store']}: {ACTIONS[result['action']]}: depth {result['depth']}{quality}, {tiles}, {size}"
