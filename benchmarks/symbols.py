"""A hundred million symbols, decoded under other conditions than they were coded under: how many come out wrong.

python -m benchmarks.symbols [MODEL]        writes benchmarks/results/symbols.json

Tiles go through the encoder of `wsic` at every depth and quality, into streams, and back: by one thread and by several,
as int16, from arrays of another memory layout, and in a second process whose loops are compiled for a plain x86-64
without vector units, which gives the very code that another machine would run. The encoder's symbols are also compared
between batch sizes and numbers of threads. With WSICOMP_DATA the tiles are validation patches, else phantoms.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsicomp.codec import rans
from wsicomp.codec.entropy_model import EntropyModel
from wsicomp.datasets.patches import PatchTable
from wsicomp.datasets.phantom import phantom_patches
from wsicomp.evaluation.machine import describe_machine
from wsicomp.models.registry import WSIC
from wsicomp.models.wsic import QUALITIES
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.transforms import codec_depths, load_codec

RESULTS = Path(__file__).parent / "results" / "symbols.json"
SYMBOLS = 100_000_000
BATCH = 8

Latents = NDArray[np.int16]


def main() -> None:
    """Count and write the results; or, as a child, decode streams from a file and print their digest."""
    if sys.argv[1:2] == ["--decode"]:
        print(decode_file(Path(sys.argv[2]), sys.argv[3]))
        return
    source = sys.argv[1] if sys.argv[1:] else WSIC
    model = load_codec(source)
    wrong = {"one thread": 0, "four threads": 0, "other memory layout": 0, "plain x86-64 process": 0}
    encoder = {"batches of 1": 0, "one thread": 0}
    symbols = 0
    with tempfile.TemporaryDirectory() as folder:
        for tiles in batches():
            for depth in codec_depths(model):
                codec = TileCodec(model, depth)
                latents = code(codec, tiles)
                symbols += latents.size
                for name, others in compare(entropy_of(codec), latents, depth, source, Path(folder)).items():
                    wrong[name] += others
                for name, others in compare_encoders(codec, tiles, latents).items():
                    encoder[name] += others
            print(f"{symbols:,} symbols, wrong: {wrong}, encoder's own: {encoder}", flush=True)
            if symbols >= SYMBOLS:
                break
    document = {
        "command": shlex.join(["python", "-m", "benchmarks.symbols", *sys.argv[1:]]),
        "machine": describe_machine(),
        "model": model.name,
        "weights_sha256": model.sha256,
        "symbols": symbols,
        "wrong": wrong,
        "encoder_differs": encoder,
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def batches() -> Iterator[NDArray[np.uint8]]:
    """Endless batches of tiles (N, S, S, 3) uint8, S a multiple of 16."""
    data = os.environ.get("WSICOMP_DATA")
    seed = 0
    while True:
        if data is None:
            yield phantom_patches(BATCH, seed=seed, split="val").tiles
        else:
            for name in ("prostate", "lung"):
                images = PatchTable.load(Path(data) / name).select(split="val").images()
                order = np.random.default_rng(seed).permutation(len(images))[:BATCH]
                yield np.stack([images[k] for k in order])
        seed += BATCH


def code(codec: TileCodec, tiles: NDArray[np.uint8]) -> Latents:
    """Symbols of tiles at all whole qualities, (8 N, C, t, t)."""
    levels = [np.full(len(tiles), quality, np.float32) for quality in range(QUALITIES)]
    return np.concatenate([codec.encode(tiles, quality=quality) for quality in levels])


def compare(entropy: EntropyModel, latents: Latents, depth: int, source: str, folder: Path) -> dict[str, int]:
    """Symbols that each way of decoding gets wrong."""
    shape = latents.shape[1:]
    streams = [rans.encode(latent, entropy) for latent in latents]
    alone = np.stack([rans.decode(stream, shape, entropy) for stream in streams])
    with ThreadPoolExecutor(4) as pool:
        together = np.stack(list(pool.map(lambda stream: rans.decode(stream, shape, entropy), streams)))
    turned = [rans.encode(np.asfortranarray(latent), entropy) for latent in latents]
    layout = sum(latents[0].size for one, other in zip(streams, turned, strict=True) if one != other)
    elsewhere = decode_elsewhere(streams, depth, shape, source, folder)
    return {
        "one thread": int(np.count_nonzero(alone != latents)),
        "four threads": int(np.count_nonzero(together != latents)),
        "other memory layout": layout,
        "plain x86-64 process": 0 if elsewhere == digest(latents) else latents.size,
    }


def compare_encoders(codec: TileCodec, tiles: NDArray[np.uint8], latents: Latents) -> dict[str, int]:
    """Symbols that the encoder decides otherwise in other batches or with another number of threads."""
    quality = np.zeros(len(tiles), np.float32)
    expected = latents[: len(tiles)]
    single = np.concatenate([codec.encode(tiles[k : k + 1], quality=quality[k : k + 1]) for k in range(len(tiles))])
    before = torch.get_num_threads()
    torch.set_num_threads(1 if before > 1 else 2)
    threads = codec.encode(tiles, quality=quality)
    torch.set_num_threads(before)
    return {
        "batches of 1": int(np.count_nonzero(single != expected)),
        "one thread": int(np.count_nonzero(threads != expected)),
    }


def decode_elsewhere(streams: list[bytes], depth: int, shape: tuple[int, ...], source: str, folder: Path) -> str:
    """Digest of what a process without vector units decodes."""
    path = folder / "streams.npz"
    joined = np.frombuffer(b"".join(streams), np.uint8)
    np.savez(path, joined=joined, sizes=[len(stream) for stream in streams], depth=depth, shape=shape)
    plain = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(folder / "compiled")}
    words = [sys.executable, "-m", "benchmarks.symbols", "--decode", str(path), source]
    run = subprocess.run(words, env=os.environ | plain, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def decode_file(path: Path, source: str) -> str:
    """Decode what `decode_elsewhere` wrote, for its digest."""
    with np.load(path) as file:
        ends = np.cumsum(file["sizes"])
        streams = [part.tobytes() for part in np.split(file["joined"], ends[:-1])]
        shape, depth = tuple(file["shape"].tolist()), int(file["depth"])
    entropy = entropy_of(TileCodec.load(source, depth))
    return digest(np.stack([rans.decode(stream, shape, entropy) for stream in streams]))


def entropy_of(codec: TileCodec) -> EntropyModel:
    """Entropy model of a codec that has one."""
    if codec.entropy is None:
        raise SystemExit(f"{codec.key} has no entropy coder")
    return codec.entropy


def digest(latents: Latents) -> str:
    """SHA-256 of symbols."""
    return hashlib.sha256(np.ascontiguousarray(latents).tobytes()).hexdigest()


if __name__ == "__main__":
    main()
