"""Rows of a GPU: its network stage, and encoding end to end; not measured where torch has no CUDA device.

What bounds the network stage is the copy of tiles to the device, which is measured too, from pinned memory.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.pipeline.stages import Bench, encode_whole, load_latents, load_tiles, read_slide, run_network
from benchmarks.pipeline.timing import Row, Target, interleaved, ratios, timed, walls
from wsicomp.pipeline.tile_codec import CUDA_BATCH, TileCodec

__all__ = ["gpu_rows"]

NETWORK_TILES_PER_S = 20_000
NETWORK_BATCHES = 16
NOT_MEASURED = "not measured: no CUDA device"

ROWS = {
    "gpu-network": ("network stage on the GPU, tiles per second", f"{NETWORK_TILES_PER_S:,} a second", Target(1.0)),
    "gpu-whole": ("encode, end to end, on the GPU", "the slower of reading and of coding with writing", Target(0.8)),
    "gpu-busy": ("network stage alone, on the GPU", "encode, end to end: share of its time", Target()),
    "gpu-copy": ("network stage on the GPU, tiles per second", "copying tiles to the GPU", Target()),
}


def gpu_rows(bench: Bench, slide: Path) -> list[Row]:
    """Measure the rows of a GPU, or say that they are not measured."""
    if not torch.cuda.is_available():
        return [
            Row(key, what, against, None, target, note=NOT_MEASURED) for key, (what, against, target) in ROWS.items()
        ]
    device = torch.device("cuda")
    codec = TileCodec(bench.model, bench.codec.depth, quality=bench.codec.quality, device=device)
    on_gpu = replace(bench, codec=codec)
    store, again = bench.scratch / "gpu.zarr", bench.scratch / "gpu-again.zarr"
    encode_whole(on_gpu, slide, store)
    tiles, latents = load_tiles(slide), load_latents(store)
    many = tiles[torch.arange(NETWORK_BATCHES * CUDA_BATCH).remainder(len(tiles)).numpy()]
    pinned = torch.from_numpy(many[:CUDA_BATCH]).pin_memory()

    def copy() -> None:
        for _ in range(NETWORK_BATCHES):
            pinned.to(device, non_blocking=True)
        torch.cuda.synchronize()

    cases = {
        "whole": lambda: encode_whole(on_gpu, slide, store),
        "read": lambda: read_slide(slide, bench.readers),
        "write": lambda: latents.write(again),
        "network": lambda: run_network(codec, many),
        "copy": copy,
    }
    seconds = walls(interleaved({name: timed(case) for name, case in cases.items()}, bench.rounds))
    slower = [max(times) for times in zip(seconds["read"], seconds["write"], strict=True)]
    rates = [len(many) / s for s in seconds["network"]]
    busy = [s * len(tiles) / len(many) for s in seconds["network"]]
    found = {
        "gpu-network": tuple(rate / NETWORK_TILES_PER_S for rate in rates),
        "gpu-whole": ratios(slower, seconds["whole"]),
        "gpu-busy": ratios(busy, seconds["whole"]),
        "gpu-copy": ratios(seconds["copy"], seconds["network"]),
    }
    values = {"gpu-network": {"tiles_per_s": statistics.median(rates)}}
    note = torch.cuda.get_device_name(device)
    return [
        Row(key, what, against, found[key], target, values.get(key, {}), note)
        for key, (what, against, target) in ROWS.items()
    ]
