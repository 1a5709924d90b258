"""The entropy coder's speed beside constriction's, and its rates on symbols of `wsic` beside simpler ways to code them.

python -m benchmarks.rans [--model WEIGHTS]        writes benchmarks/results/rans.json

Speeds are of one core, in symbols per second of CPU time of the thread: medians of interleaved runs over latents of
64 x 32 x 32, whole calls with their checksums: dense made-up ones, whose every symbol says something, sparse made-up
ones, nine tenths zeros, and those of real tiles where weights and data are given. Ours computes a network to find each
symbol's table; constriction, as one would use it at hand, has one table for each channel. So there is a row for what is
left when the time of that network, which is timed beside, is taken off. Rates need weights of `wsic`
and real patches (WSICOMP_DATA): whole streams of validation patches, at every depth, at three qualities.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import constriction
import imagecodecs
import numpy as np
import torch
from numpy.typing import NDArray

from wsicomp.codec import rans
from wsicomp.codec.entropy_model import EntropyModel
from wsicomp.datasets.patches import PatchTable
from wsicomp.evaluation.machine import describe_machine
from wsicomp.models.context import SLICES
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.transforms import codec_depths, load_codec
from wsicomp.training.rate import ScaleNetwork, integers

RESULTS = Path(__file__).parent / "results" / "rans.json"
RUNS = 15
DEPTH, SIDE = 3, 32
TRAIN_PATCHES, VAL_PATCHES = 60, 24
ORGANS = ("prostate", "lung")
QUALITIES = (1.0, 4.0, 7.0)

WITHOUT_TABLES = "wsicomp without choosing tables"

Latents = list[NDArray[np.int16]]
Row = dict[str, str | int | float]


@dataclass(frozen=True)
class Coder:
    """Two functions between a latent and its stream."""

    encode: Callable[[NDArray[np.int16]], bytes]
    decode: Callable[[bytes], NDArray[np.int16]]


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rans")
    parser.add_argument("--model", help="name or path of weights of wsic; without them, only speeds are measured")
    model, data = parser.parse_args().model, os.environ.get("WSICOMP_DATA")
    torch.set_num_threads(1)
    sections: dict[str, list[Row]] = {"speed": [], "start": list(start()), "rates": []}
    for name, spread in (("dense", 20.0), ("sparse", 0.16)):
        train, latents = made_up(20, spread, seed=0), made_up(4, spread, seed=1)
        sections["speed"] += speeds(name, random_model(train), train, latents)
    if model and data:
        sections["speed"] += real_speeds(model, Path(data))
        sections["rates"] += rates(model, Path(data))
    document = {
        "command": shlex.join(["python", "-m", "benchmarks.rans", *sys.argv[1:]]),
        "machine": describe_machine(),
        **sections,
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for rows in sections.values():
        for row in rows:
            print("  ".join(f"{key} {value}" for key, value in row.items()))


def made_up(count: int, spread: float, seed: int) -> Latents:
    """Latents (64, 32, 32) of quiet and busy places."""
    rng = np.random.default_rng(seed)
    place = np.exp(rng.normal(0, 0.5, (SIDE, SIDE)))
    draws = [rng.laplace(0, spread, (sum(SLICES[DEPTH]), SIDE, SIDE)) for _ in range(count)]
    return [np.rint(draw * place).clip(-127, 127).astype(np.int16) for draw in draws]


def random_model(train: Latents) -> EntropyModel:
    """Model of an untrained network, which costs as much time as a trained one, half of its units being on."""
    torch.manual_seed(0)
    network = ScaleNetwork(SLICES[DEPTH])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return EntropyModel.fit(integers(network), train)


def speeds(name: str, model: EntropyModel, train: Latents, latents: Latents) -> Iterator[Row]:
    """Time encoding and decoding of latents by each coder, in turns."""
    symbols, shape = sum(latent.size for latent in latents), latents[0].shape
    coders = {"constriction": table_for_each_channel(train), "wsicomp": our_coder(model, shape)}
    streams = {name: [coder.encode(latent) for latent in latents] for name, coder in coders.items()}
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in (*coders, WITHOUT_TABLES)}
    classes = [model.classify(latent) for latent in latents]
    for _ in range(RUNS):
        started = time.thread_time()
        for latent, tile_class in zip(latents, classes, strict=True):
            model.scales.tables(latent, tile_class)
        choosing = time.thread_time() - started
        for coder_name, coder in coders.items():
            started = time.thread_time()
            for latent in latents:
                coder.encode(latent)
            between = time.thread_time()
            decoded = [coder.decode(stream) for stream in streams[coder_name]]
            ended = time.thread_time()
            assert all(np.array_equal(a, b) for a, b in zip(decoded, latents, strict=True))  # noqa: S101
            times[coder_name][0].append(between - started)
            times[coder_name][1].append(ended - between)
        for own, left in zip(times["wsicomp"], times[WITHOUT_TABLES], strict=True):
            left.append(own[-1] - choosing)
    streams[WITHOUT_TABLES] = streams["wsicomp"]
    peer = [statistics.median(t) for t in times["constriction"]]
    for coder_name, (encoding, decoding) in times.items():
        encode_s, decode_s = statistics.median(encoding), statistics.median(decoding)
        yield {
            "latents": name,
            "zeros_percent": round(100 * float(np.mean(np.stack(latents) == 0)), 1),
            "coder": coder_name,
            "bits_per_symbol": round(8 * sum(map(len, streams[coder_name])) / symbols, 4),
            "encode_msymbols_per_s": round(symbols / encode_s / 1e6, 1),
            "decode_msymbols_per_s": round(symbols / decode_s / 1e6, 1),
            "encode_ratio_to_constriction": round(peer[0] / encode_s, 2),
            "decode_ratio_to_constriction": round(peer[1] / decode_s, 2),
        }


def our_coder(model: EntropyModel, shape: tuple[int, ...]) -> Coder:
    """Our coder, whole: network, rANS, checksum."""
    channels, height, width = shape
    return Coder(
        lambda latent: rans.encode(latent, model), lambda stream: rans.decode(stream, (channels, height, width), model)
    )


def table_for_each_channel(train: Latents) -> Coder:
    """Code with constriction's ANS by tabulated models of the channels of training latents, without a checksum."""
    shape = train[0].shape
    models = []
    for c in range(shape[0]):
        counts = np.bincount(np.concatenate([latent[c].ravel() for latent in train]) + 128, minlength=256) + 0.01
        models.append(constriction.stream.model.Categorical(counts / counts.sum(), perfect=False))

    def encode(latent: NDArray[np.int16]) -> bytes:
        coder = constriction.stream.stack.AnsCoder()
        values = latent.reshape(shape[0], -1).astype(np.int32) + 128  # (C, h, w) -> (C, h * w)
        for c in reversed(range(shape[0])):
            coder.encode_reverse(values[c], models[c])
        stream: bytes = coder.get_compressed().tobytes()
        return stream

    def decode(stream: bytes) -> NDArray[np.int16]:
        coder = constriction.stream.stack.AnsCoder(np.frombuffer(stream, np.uint32).copy())
        values = np.stack([coder.decode(model, shape[1] * shape[2]) for model in models])
        return (values - 128).astype(np.int16).reshape(shape)  # (C, h * w) -> (C, h, w)

    return Coder(encode, decode)


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


def real_speeds(model: str, data: Path) -> Iterator[Row]:
    """Speeds on symbols of real tiles, at the deepest depth up to 3 that the weights have, at each quality."""
    depth = max((d for d in codec_depths(load_codec(model)) if d <= DEPTH), default=DEPTH + 1)
    train, latents = (tiles_of(data / ORGANS[0], split, count) for split, count in (("train", 20), ("val", 4)))
    for quality in QUALITIES:
        codec = TileCodec.load(model, depth, quality=quality)
        assert codec.entropy is not None  # noqa: S101
        coded = [[latent.clip(-127, 127) for latent in codec.encode(tiles)] for tiles in (train, latents)]
        yield from speeds(f"{codec.key} depth {depth} quality {quality:g}", codec.entropy, *coded)


def rates(model: str, data: Path) -> Iterator[Row]:
    """Bits per symbol and pixel of validation patches, for each organ, by each way to code their symbols."""
    train = [tiles_of(data / organ, "train", TRAIN_PATCHES) for organ in ORGANS]
    tiles = {organ: tiles_of(data / organ, "val", VAL_PATCHES) for organ in ORGANS}
    for depth in codec_depths(load_codec(model)):
        for quality in QUALITIES:
            codec = TileCodec.load(model, depth, quality=quality)
            assert codec.entropy is not None  # noqa: S101
            simple = table_for_each_channel([x.clip(-127, 127) for pictures in train for x in codec.encode(pictures)])
            for organ, pictures in tiles.items():
                latents = codec.encode(pictures)
                narrow = latents.clip(-127, 127)
                ours = our_coder(codec.entropy, latents[0].shape)
                streams = [ours.encode(latent) for latent in latents]
                again = [ours.decode(stream) for stream in streams]
                assert all(np.array_equal(a, b) for a, b in zip(again, latents, strict=True))  # noqa: S101
                sizes = {
                    "wsicomp": sum(map(len, streams)),
                    "a table for each channel": sum(len(simple.encode(latent)) for latent in narrow),
                    "zstd -15": sum(len(imagecodecs.zstd_encode(x.astype(np.int8), level=15)) for x in narrow),
                }
                for name, size in sizes.items():
                    yield {
                        "latents": f"{codec.key} depth {depth} quality {quality:g}",
                        "organ": organ,
                        "coder": name,
                        "bits_per_symbol": round(8 * size / latents.size, 4),
                        "bits_per_pixel": round(8 * size / pictures[..., 0].size, 4),
                        "against_channel_tables_percent": round(
                            100 * size / sizes["a table for each channel"] - 100, 2
                        ),
                        "against_zstd_percent": round(100 * size / sizes["zstd -15"] - 100, 2),
                    }


def tiles_of(table: Path, split: str, count: int) -> NDArray[np.uint8]:
    """Read a seeded sample (count, T, T, 3) uint8 of a data set's split."""
    patches = PatchTable.load(table).select(split=split)
    chosen = np.random.default_rng(0).permutation(len(patches.patches))[:count]
    return np.stack(PatchTable(patches.name, tuple(patches.patches[k] for k in chosen)).images())


if __name__ == "__main__":
    main()
