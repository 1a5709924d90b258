"""`wsicomp status`: how the batches that write into a folder stand."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from wsicomp.cli.console import JsonOption, emit, log, say, table_console


def status(
    folder: Annotated[Path, typer.Argument(help="Folder that a batch writes its stores into.", show_default=False)],
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
    from rich.table import Table

    ratio, eta_s = found.ratio_to_source, found.eta_s
    cells = [f"{count}" for count in counts.values()]
    cells += [
        f"{found.store_bytes:,}",
        "unknown" if ratio is None else f"{ratio:.3f}",
        "unknown" if eta_s is None else duration(eta_s),
    ]
    table = Table(*counts, "bytes", "of the sources", "time left")
    table.add_row(*cells)
    table_console().print(table)
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
