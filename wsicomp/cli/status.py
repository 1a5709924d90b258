"""`wsicomp status`: how the batches that write into a folder stand."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from wsicomp.cli.console import emit, log, say
from wsicomp.cli.options import JsonOption


def status(
    folder: Annotated[Path, typer.Argument(help="Folder that a batch writes its stores into.")],
    json: JsonOption = False,
) -> int:
    """Show how a batch stands, all its parts together; exit 3 if a slide failed or its run was killed.

    Example: wsicomp status /archive
    """
    from wsicomp.pipeline.status import read_status

    found = read_status(folder)
    counts = {
        "slides": len(found.slides),
        "done": found.count("ok", "skipped"),
        "running": found.count("started"),
        "killed": found.count("killed"),
        "failed": found.count("failed"),
        "queued": found.count("queued"),
    }
    failed = [slide for slide in found.slides if slide.event in ("failed", "killed")]
    code = 3 if failed else 0
    if json:
        emit(
            {
                "command": "status",
                "status": "error" if failed else "ok",
                "exit_code": code,
                **counts,
                "store_bytes": found.store_bytes,
                "ratio_to_source": found.ratio_to_source,
                "eta_s": found.eta_s,
                "results": [asdict(slide) for slide in found.slides],
            }
        )
        return code
    slides, *parts = counts.items()
    say(f"{slides[1]} slides: " + ", ".join(f"{count} {name}" for name, count in parts))
    ratio, eta_s = found.ratio_to_source, found.eta_s
    of_sources = "" if ratio is None else f", {ratio:.3f} of the sources"
    say(f"{found.store_bytes:,} bytes{of_sources}; time left: {'unknown' if eta_s is None else duration(eta_s)}")
    for slide in found.slides:
        if slide.event == "started":
            say(f"running: {slide.slide}")
    for slide in failed:
        why = slide.error or "its run ended without a word; run the batch again with --resume"
        log(f"{slide.event}: {slide.slide}: {why}")
    return code


def duration(seconds: float) -> str:
    """Write seconds as hours, minutes and seconds, such as 26:03:09."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
