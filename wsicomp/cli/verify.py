"""`wsicomp verify`: is every byte of a store as it was written, and how near is it to its slide."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from wsicomp.cli.console import JsonOption, emit, log, progress_bar, say
from wsicomp.cli.options import DeviceOption, WeightsOption


def verify(
    stores: Annotated[list[Path], typer.Argument(help="Latent stores.", show_default=False)],
    against: Annotated[
        Path | None,
        typer.Option("--against", help="The slide that the store was made of: also report PSNR and SSIM per level."),
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
            _load_entropy_model(store, model)
            try:
                damage = [asdict(item) for item in verify_store(store, progress=progress)]
            except StoreError as error:
                damage = [{"path_in_store": None, "level": None, "row": None, "col": None, "what": str(error)}]
            results.append({"store": str(store), "damage": damage})
        if against is not None and not results[0]["damage"]:
            results[0]["fidelity"] = _fidelity(stores[0], against, model, device, progress)
    damaged = any(result["damage"] for result in results)
    code = 3 if damaged else 0
    if json:
        emit({"command": "verify", "status": "damaged" if damaged else "ok", "exit_code": code, "results": results})
    for result in results:
        for item in result["damage"]:
            log(f"wsicomp: damaged: {_damage_line(result['store'], item)}")
        if not json and not result["damage"]:
            say(f"{result['store']}: ok")
        for level in result.get("fidelity", []) if not json else []:
            say(
                f"  level {level['level']}: PSNR {level['psnr_db']:.2f} dB, SSIM {level['ssim']:.4f}, "
                f"MS-SSIM {level['ms_ssim']:.4f} over {level['tiles']} tissue tiles"
            )
    return code


def _load_entropy_model(store: Path, model: str | None) -> None:
    """Let damage be named by tile where the weights are at hand; without them it is named by file."""
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
    from wsicomp.pipeline.tile_codec import TileCodec

    try:
        TileCodec.for_store(header, weights=model)
    except (ModelError, StoreError) as error:
        log(f"wsicomp: warning: {store}: checked by file and not by tile: {error}")


def _fidelity(store: Path, against: Path, model: str | None, device: str, progress: Any) -> list[dict[str, Any]]:
    from wsicomp.evaluation.against import compare
    from wsicomp.models.device import resolve_device
    from wsicomp.pipeline.view import LatentSlide
    from wsicomp.slides import SourceSettings, open_source

    with LatentSlide(store, weights=model, device=resolve_device(device)) as latent:
        mpp = math.sqrt(math.prod(latent.header.mpp)) if latent.header.mpp is not None else None
        with open_source(against, SourceSettings(mpp=mpp, tile_size=latent.header.tile_size)) as slide:
            return [asdict(level) for level in compare(latent, slide, progress=progress)]


def _damage_line(store: str, item: dict[str, Any]) -> str:
    if item["path_in_store"] is None:  # the store as a whole: the message names it already
        return str(item["what"])
    return f"{store}: {item['path_in_store']}: {item['what']}"
