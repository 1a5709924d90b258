"""`wsicomp verify`: is every byte of a store as it was written, and how near is it to its slide."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from wsicomp.cli.console import emit, log, progress_bar, say
from wsicomp.cli.options import READ, DeviceOption, JsonOption, WeightsOption


def verify(
    stores: Annotated[list[Path], typer.Argument(help="Latent stores.")],
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            help="The slide that the store was made of: also report PSNR and SSIM per level.",
            rich_help_panel=READ,
        ),
    ] = None,
    model: WeightsOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> int:
    """Check every file and tile of latent stores against their checksums; exit 3 if any is damaged.

    Example: wsicomp verify slide.zarr --against slide.svs
    """
    from wsicomp.errors import ConfigError, StoreError
    from wsicomp.store.verify import verify as verify_store

    if against is not None and len(stores) != 1:
        raise ConfigError(f"--against takes one store, and there are {len(stores)}")
    results: list[dict[str, Any]] = []
    with progress_bar("verify") as progress:
        for store in stores:
            _load_tables(store, model)
            try:
                damage = [asdict(item) for item in verify_store(store, progress=progress)]
            except StoreError as error:
                damage = [{"path_in_store": None, "level": None, "row": None, "col": None, "what": str(error)}]
            results.append(
                {"store": str(store), "damage": damage, "marked_tiles": _marked(store) if not damage else []}
            )
        if against is not None and not results[0]["damage"]:
            results[0]["fidelity"] = _fidelity(stores[0], against, model, device, progress)
    levels = [level for result in results for level in result.get("fidelity", [])]
    below_floor, doubted = (any(level[name] for level in levels) for name in ("below_floor", "glass_differs"))
    doubted |= below_floor
    if any(result["damage"] for result in results):
        status, code = "damaged", 3
    elif below_floor:
        status, code = "below-floor", 4
    else:
        status, code = "glass-differs" if doubted else "ok", 0
    if json:
        emit({"command": "verify", "status": status, "exit_code": code, "results": results})
    for result in results:
        for item in result["damage"]:
            log(f"wsicomp: damaged: {_damage_line(result['store'], item)}")
        if not json and not result["damage"]:
            say(f"{result['store']}: {'ok' if not doubted else 'every byte is as it was written, but see below'}")
        if marked := result["marked_tiles"]:
            level, row, col = marked[0]
            log(
                f"wsicomp: warning: {result['store']}: {len(marked)} tiles could not be read from the slide and are "
                f"marked, the first at level {level} tile ({row}, {col})"
            )
    for level in levels:
        if not json:
            for line in _level_lines(level):
                say(f"  level {level['level']}: {line}")
        for kind, line in _doubts(level):
            log(f"wsicomp: {kind}: {stores[0]}: level {level['level']}: {line}")
    return code


def _marked(store: Path) -> list[list[int]]:
    """Level, row and column of each tile of a sound store that its slide could not give."""
    from wsicomp.store.reader import StoreReader

    with StoreReader(store) as reader:
        return [list(place) for place in reader.damaged]


def _load_tables(store: Path, model: str | None) -> None:
    """Let tiles be decoded where the weights are at hand; without them they are checked by their checksums alone."""
    from wsicomp.errors import ModelError, StoreError
    from wsicomp.store.container import open_container
    from wsicomp.store.reader import read_header

    try:
        with closing(open_container(store)) as container:
            header = read_header(container, str(store))
    except StoreError:
        return  # the verification itself says what is wrong
    if header.entropy is None:
        return
    from wsicomp.pipeline.tables import register_tables
    from wsicomp.store.coding import has_model

    problem = f"the entropy tables of its model '{header.model}' are not in the shipped weights; give them with --model"
    try:
        if model is not None:
            register_tables(model)
        if has_model(header):
            return
    except ModelError as error:
        problem = str(error)
    log(f"wsicomp: warning: {store}: every tile is checked by its checksum but not decoded: {problem}")


def _fidelity(store: Path, against: Path, model: str | None, device: str, progress: Any) -> list[dict[str, Any]]:
    from wsicomp.evaluation.against import compare, open_original
    from wsicomp.models.device import resolve_device
    from wsicomp.pipeline.view import LatentSlide

    with (
        LatentSlide(store, weights=model, device=resolve_device(device)) as latent,
        open_original(latent.header, against) as slide,
    ):
        return [asdict(level) for level in compare(latent, slide, progress=progress)]


def _level_lines(level: dict[str, Any]) -> Iterator[str]:
    if level["tiles"]:
        fidelity = f"PSNR {level['psnr_db']:.2f} dB, SSIM {level['ssim']:.4f}, MS-SSIM {level['ms_ssim']:.4f}"
        yield f"{fidelity} over {level['tiles']} tissue tiles"
    else:
        yield "no tissue tiles"
    if level["glass_tiles"]:
        yield f"{level['glass_tiles']} glass tiles, at most {level['glass_departure']:.0f} grey levels off"


def _doubts(level: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from wsicomp.evaluation.against import BLOCK_PX, GLASS_LIMIT

    if differs := level["glass_differs"]:
        worst = max(differs, key=lambda tile: tile["grey_levels"])
        yield (
            "warning",
            f"{len(differs)} of {level['glass_tiles']} glass tiles hold more than glass: {BLOCK_PX} px blocks over "
            f"{GLASS_LIMIT} grey levels off, at most {worst['grey_levels']:.0f}, in tile (row {worst['row']}, col "
            f"{worst['col']}); encode again with a lower --tissue-threshold",
        )
    if below := level["below_floor"]:
        worst = min(below, key=lambda tile: tile["psnr_db"])
        yield (
            "promise not kept",
            f"{len(below)} tiles are below the store's floor, the lowest with {worst['psnr_db']:.2f} dB "
            f"in tile (row {worst['row']}, col {worst['col']}); encode the slide again",
        )


def _damage_line(store: str, item: dict[str, Any]) -> str:
    if item["path_in_store"] is None:  # the store as a whole: the message names it already
        return str(item["what"])
    return f"{store}: {item['path_in_store']}: {item['what']}"
