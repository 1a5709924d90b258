"""Learned codecs on a set of tiles: wsicomp's own through a real store, the peers by their own estimate of their rate.

    StoreCodec   tiles -> sheet -> store on disk -> tiles; every byte of the store counts: streams, 16 bytes of index
                 and a checksum per tile, metadata and manifest, the wrapping
    PeerCodec    tiles -> latents -> tiles; -log2 of the probabilities, nothing written

Networks run on the CPU, on as many threads as torch is told to use.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.rd.macs import count_macs
from wsicomp.classification.pixels import to_float_nchw
from wsicomp.datasets.sheet import PatchSheet
from wsicomp.evaluation.classical import Codec, Coded
from wsicomp.models.hyperprior import PEERS, Hyperprior
from wsicomp.models.registry import load_model
from wsicomp.models.wsic import QUALITIES
from wsicomp.pipeline.encode import encode_source
from wsicomp.pipeline.tile_codec import TileCodec
from wsicomp.pipeline.transforms import codec_depths, load_codec
from wsicomp.pipeline.view import read_tiles
from wsicomp.store.reader import StoreReader

__all__ = ["OWN", "STUDY", "PeerCodec", "StoreCodec", "own_codecs", "peer_codecs", "study_codecs"]

OWN = "wsic"
STUDY = "perticarari2023"
STUDY_DTYPES = ("int8", "float16", "float32")
PEER_BATCH = 2


@dataclass(frozen=True)
class StoreCodec:
    """A codec of wsicomp at one depth and setting.

    Parameters
    ----------
    name
        Name of the series.
    source
        Name of shipped weights, or path of a weights file.
    quality
        Quality level; None for a model without them.
    latent_dtype
        Stored type of the latents; None is the model's own.
    """

    name: str
    source: str
    depth: int
    quality: int | None = None
    latent_dtype: str | None = None

    @property
    def setting(self) -> str:
        """What is set."""
        return f"depth {self.depth}" + ("" if self.quality is None else f" quality {self.quality}")

    def run(self, tiles: NDArray[np.uint8]) -> Coded:
        """Write a store, weigh it, and read and decode it again; what loads and compiles is done before."""
        model = load_codec(self.source)
        codec = TileCodec(model, self.depth, quality=self.quality, latent_dtype=self.latent_dtype)
        two = np.resize(tiles, (2, *tiles.shape[1:]))
        with count_macs() as encoding:
            latents = codec.encode(two)
        with count_macs() as decoding:
            codec.decode(latents)
        through_store(two, codec)
        stored = through_store(tiles, codec)
        return Coded(
            stored.bytes,
            stored.x_hat,
            stored.encode_s,
            stored.decode_s,
            stored.payload_bytes,
            encode_macs=encoding.macs / two[..., 0].size,
            decode_macs=decoding.macs / two[..., 0].size,
        )


def through_store(tiles: NDArray[np.uint8], codec: TileCodec) -> Coded:
    """Encode tiles (N, S, S, 3) uint8 into a store in a temporary folder, and decode them from it."""
    sheet, size = PatchSheet("tiles", tiles), tiles.shape[1]
    x_hat = np.empty_like(tiles)
    with tempfile.TemporaryDirectory(prefix="wsicomp-") as folder:
        store = Path(folder) / "tiles.zarr"
        started = time.process_time()
        encoded = encode_source(sheet, store, codec)
        between = time.process_time()
        with StoreReader(store) as reader:
            for start in range(0, len(tiles), codec.batch_size):
                places = range(start, min(start + codec.batch_size, len(tiles)))
                decoded = read_tiles(reader, codec, 0, [divmod(index, sheet.cols) for index in places])
                x_hat[start : places.stop] = [tile[:size, :size] for tile in decoded if tile is not None]
        ended = time.process_time()
        payload = sum(file.stat().st_size for file in (store / "latents/0/c").rglob("*") if file.is_file())
    return Coded(encoded.store_bytes, x_hat, between - started, ended - between, payload)


def own_codecs(source: str) -> list[Codec]:
    """List `wsic` at each depth and quality of its weights."""
    depths = codec_depths(load_codec(source))
    return [StoreCodec(OWN, source, depth, quality) for depth in depths for quality in range(QUALITIES)]


def study_codecs() -> list[Codec]:
    """List the founding study's autoencoder at depths 1 to 4, latents as integers or floats, each through zstd."""
    return [
        StoreCodec(f"{STUDY} {dtype}", STUDY, depth, latent_dtype=dtype)
        for dtype in STUDY_DTYPES
        for depth in codec_depths(load_codec(STUDY))
    ]


@dataclass(frozen=True)
class PeerCodec:
    """A trained learned peer.

    Parameters
    ----------
    name
        Key of the peer.
    lmbda
        Weight of the distortion that it was trained with; its setting.
    weights
        File of its weights.
    """

    name: str
    lmbda: str
    weights: Path

    @property
    def setting(self) -> str:
        """What is set."""
        return f"lmbda {self.lmbda}"

    @torch.inference_mode()
    def run(self, tiles: NDArray[np.uint8]) -> Coded:
        """Encode and decode every tile; sides are multiples of 16."""
        model = cast(Hyperprior, load_model(self.weights, family="peer").module)
        x = torch.from_numpy(to_float_nchw(tiles[:1]))
        with count_macs() as encoding:
            latents = model.analyse(x)
        with count_macs() as decoding:
            model.synthesise(latents)
        pixels = x.shape[2] * x.shape[3]
        x_hat, bits, encode_s, decode_s = np.empty_like(tiles), 0.0, 0.0, 0.0
        for start in range(0, len(tiles), PEER_BATCH):
            batch = slice(start, start + PEER_BATCH)
            started = time.process_time()
            latents = model.analyse(torch.from_numpy(to_float_nchw(tiles[batch])))
            between = time.process_time()
            decoded = model.synthesise(latents).mul(255).round_().clamp_(0, 255).to(torch.uint8)
            decode_s += time.process_time() - between
            encode_s += between - started
            bits += float(latents.bits.double().sum())
            x_hat[batch] = decoded.permute(0, 2, 3, 1).numpy()  # (N, 3, S, S) -> (N, S, S, 3)
        return Coded(
            bits / 8,
            x_hat,
            encode_s,
            decode_s,
            encode_macs=encoding.macs / pixels,
            decode_macs=decoding.macs / pixels,
        )


def peer_codecs(folder: Path) -> list[Codec]:
    """Every peer whose run lies in a folder, as `train_peers` leaves them.

    Raises
    ------
    ValueError
        If there are none: a folder that was asked for and holds nothing is a mistake.
    """
    found = [(path, load_model(path, family="peer")) for path in sorted(folder.glob("*/weights.safetensors"))]
    if not found:
        raise ValueError(f"{folder}: no weights of {' or '.join(PEERS)}; train them with benchmarks.rd.train_peers")
    return [PeerCodec(model.key, model.notes["lmbda"], path) for path, model in found]
