"""The entropy coder's speed beside constriction's, and what its contexts save on latents, beside tables and zstd.

python -m benchmarks.rans        writes benchmarks/results/rans.json

Speeds are of one core, in symbols per second of CPU time of the thread: medians of interleaved runs over made-up
latents of 48 x 32 x 32, dense and sparse, whole calls with their checksums. Rates need real patches (WSICOMP_DATA):
models are fitted on train patches of both organs and measured, as whole streams, on validation patches of other slides;
latents are the study's autoencoder's, and an 8x8 DCT quantised to about what a codec trained on rate would send.
Without the data, only speeds are measured.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import constriction
import imagecodecs
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from wsicomp.codec import rans
from wsicomp.codec.entropy_model import EntropyModel
from wsicomp.evaluation.machine import describe_machine
from wsicomp.pipeline.tile_codec import TileCodec

RESULTS = Path(__file__).parent / "results" / "rans.json"
RUNS = 15
SHAPE = (48, 32, 32)
TRAIN_PATCHES, VAL_PATCHES = 120, 48
DCT_STEPS = (40, 90)

Latents = list[NDArray[np.int16]]
Row = dict[str, str | int | float]


def main() -> None:
    """Measure and write the results."""
    data = os.environ.get("WSICOMP_DATA")
    sections: dict[str, list[Row]] = {
        "speed": [row for spread in (20.0, 0.16) for row in speeds(spread)],
        "start": list(start()),
        "rates": list(rates(Path(data))) if data else [],
    }
    document = {"command": "python -m benchmarks.rans", "machine": describe_machine(), **sections}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for rows in sections.values():
        for row in rows:
            print("  ".join(f"{key} {value}" for key, value in row.items()))


def speeds(spread: float) -> Iterator[Row]:
    """Time encoding and decoding of latents of one spread by each coder, in turns."""
    rng = np.random.default_rng(0)
    place = np.exp(rng.normal(0, 0.5, SHAPE[1:]))  # quiet and busy places, so that contexts have something to find
    draw = [np.rint(rng.laplace(0, spread, SHAPE) * place).clip(-127, 127).astype(np.int16) for _ in range(24)]
    train, latents = draw[:20], draw[20:]
    symbols = sum(latent.size for latent in latents)
    coders = {
        "constriction": constriction_coder(train),
        "wsicomp, tables": our_coder(EntropyModel.fit(train, classes=1)),
        "wsicomp, contexts": our_coder(EntropyModel.fit(train)),
    }
    streams = {name: [encode(latent) for latent in latents] for name, (encode, _) in coders.items()}
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in coders}
    for _ in range(RUNS):
        for name, (encode, decode) in coders.items():
            started = time.thread_time()
            for latent in latents:
                encode(latent)
            between = time.thread_time()
            decoded = [decode(stream) for stream in streams[name]]
            ended = time.thread_time()
            assert all(np.array_equal(a, b) for a, b in zip(decoded, latents, strict=True))  # noqa: S101
            times[name][0].append(between - started)
            times[name][1].append(ended - between)
    peer = [statistics.median(t) for t in times["constriction"]]
    for name, (encoding, decoding) in times.items():
        encode_s, decode_s = statistics.median(encoding), statistics.median(decoding)
        yield {
            "coder": name,
            "bits_per_symbol": round(8 * sum(map(len, streams[name])) / symbols, 4),
            "encode_msymbols_per_s": round(symbols / encode_s / 1e6, 1),
            "decode_msymbols_per_s": round(symbols / decode_s / 1e6, 1),
            "encode_ratio_to_constriction": round(peer[0] / encode_s, 2),
            "decode_ratio_to_constriction": round(peer[1] / decode_s, 2),
        }


Coder = tuple[Callable[[NDArray[np.int16]], bytes], Callable[[bytes], NDArray[np.int16]]]


def our_coder(model: EntropyModel) -> Coder:
    """Our coder, whole: contexts, rANS, checksum."""
    model.digest, model.table_by_energy, model.tables.lookup, model.tables.spans  # noqa: B018  # computed once, outside
    return lambda latent: rans.encode(latent, model), lambda stream: rans.decode(stream, SHAPE, model)


def constriction_coder(train: Latents) -> Coder:
    """Code with constriction's ANS by tabulated per-channel models of the same training latents, without a checksum."""
    models = []
    for c in range(SHAPE[0]):
        counts = np.bincount(np.concatenate([latent[c].ravel() for latent in train]) + 128, minlength=256) + 0.01
        models.append(constriction.stream.model.Categorical(counts / counts.sum(), perfect=False))

    def encode(latent: NDArray[np.int16]) -> bytes:
        coder = constriction.stream.stack.AnsCoder()
        values = latent.reshape(SHAPE[0], -1).astype(np.int32) + 128  # (C, h, w) -> (C, h * w)
        for c in reversed(range(SHAPE[0])):
            coder.encode_reverse(values[c], models[c])
        stream: bytes = coder.get_compressed().tobytes()
        return stream

    def decode(stream: bytes) -> NDArray[np.int16]:
        coder = constriction.stream.stack.AnsCoder(np.frombuffer(stream, np.uint32).copy())
        values = np.stack([coder.decode(model, SHAPE[1] * SHAPE[2]) for model in models])
        return (values - 128).astype(np.int16).reshape(SHAPE)  # (C, h * w) -> (C, h, w)

    return encode, decode


def start() -> Iterator[Row]:
    """Time the import of the coder in fresh processes: compiling, and with the compiled loops on disk."""
    program = "import time; t = time.perf_counter(); import wsicomp.codec.rans; print(time.perf_counter() - t)"
    bare = "import time, numpy, google_crc32c; t = time.perf_counter(); import numba; print(time.perf_counter() - t)"
    for name, code, environment in (
        ("import numba alone", bare, {}),
        ("import of the coder, compiled before", program, {}),
        ("import of the coder, nothing compiled", program, {"NUMBA_CACHE_DIR": "new"}),
    ):
        seconds = []
        for _ in range(3):
            seconds.append(run_with(code, environment))
        yield {"what": name, "median_s": round(statistics.median(seconds), 3), "min_s": round(min(seconds), 3)}


def run_with(code: str, environment: dict[str, str]) -> float:
    """Run a program that prints seconds; a cache called "new" is an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        extra = {"NUMBA_CACHE_DIR": folder} if environment else {}
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=os.environ | extra)
    return float(done.stdout)


def rates(data: Path) -> Iterator[Row]:
    """Bits per symbol on validation latents, for each organ, by each way to code them."""
    tiles = {
        (organ, split): patches(data / organ, split, count)
        for organ in ("prostate", "lung")
        for split, count in (("train", TRAIN_PATCHES), ("val", VAL_PATCHES))
    }
    kinds: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.int16]]] = {
        f"perticarari2023 depth {depth}": TileCodec.load("perticarari2023", depth).encode for depth in (3, 4)
    }
    kinds |= {f"DCT step {step}": partial(dct, step=step) for step in DCT_STEPS}
    for kind, latents_of in kinds.items():
        sets = {key: list(latents_of(value)) for key, value in tiles.items()}
        train = sets["prostate", "train"] + sets["lung", "train"]
        models = {classes: EntropyModel.fit(train, classes=classes) for classes in (1, 8, 12)}
        for organ in ("prostate", "lung"):
            latents = sets[organ, "val"]
            symbols, pixels = sum(x.size for x in latents), tiles[organ, "val"][..., 0].size
            sizes: dict[str, int] = {
                "zstd -15": sum(
                    len(imagecodecs.zstd_encode(x.clip(-128, 127).astype(np.int8), level=15)) for x in latents
                )
            }
            for classes, model in models.items():
                name = "tables" if classes == 1 else f"contexts, {classes} classes"
                sizes[name] = sum(len(rans.encode(latent, model)) for latent in latents)
            for name, size in sizes.items():
                yield {
                    "latents": kind,
                    "organ": organ,
                    "coder": name,
                    "bits_per_symbol": round(8 * size / symbols, 4),
                    "bits_per_pixel": round(8 * size / pixels, 4),
                    "against_tables_percent": round(100 * size / sizes["tables"] - 100, 2),
                    "against_zstd_percent": round(100 * size / sizes["zstd -15"] - 100, 2),
                }


def patches(folder: Path, split: str, count: int) -> NDArray[np.uint8]:
    """Read a seeded sample (count, T, T, 3) uint8 of a data set's split."""
    index = pd.read_csv(folder / "index.csv")
    chosen = index[index["split"] == split].sample(count, random_state=0)
    return np.stack([np.asarray(Image.open(folder / path).convert("RGB")) for path in chosen["path"]])


def dct(tiles: NDArray[np.uint8], step: float) -> NDArray[np.int16]:
    """8x8 DCT of YCbCr as a latent (N, 192, T/8, T/8), low frequencies first, quantised with a dead zone."""
    r, g, b = np.moveaxis(tiles.astype(np.float32), -1, 0)  # (N, T, T, 3) -> 3 of (N, T, T)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    k = np.arange(8)
    basis = np.cos(np.pi * (2 * k + 1) * k[:, None] / 16) / np.where(k[:, None] == 0, np.sqrt(8), 2)
    planes = []
    for plane, wider in ((y - 128, 1.0), (0.564 * (b - y), 1.6), (0.713 * (r - y), 1.6)):
        n, height, width = plane.shape
        blocks = plane.reshape(n, height // 8, 8, width // 8, 8)  # (N, T, T) -> (N, T/8, 8, T/8, 8)
        z = np.einsum("ki,lj,nyixj->nklyx", basis, basis, blocks, optimize=True) / (step * wider)
        planes.append(z.reshape(n, 64, height // 8, width // 8))  # (N, 8, 8, T/8, T/8) -> (N, 64, T/8, T/8)
    frequencies = [10 * max(i, j) + i + j + 3 * plane for plane in range(3) for i in range(8) for j in range(8)]
    latent = np.concatenate(planes, axis=1)[:, np.argsort(frequencies, kind="stable")]
    quantised: NDArray[np.int16] = (np.sign(latent) * np.floor(np.abs(latent) + 0.35)).astype(np.int16)
    return quantised


if __name__ == "__main__":
    main()
