"""One point of one codec on one set of tiles: what it costs, how close it stays, what a frozen classifier makes of it.

    tiles -> codec -> bytes, x_hat, seconds
             x_hat -> PSNR, SSIM, MS-SSIM                  (evaluation.fidelity, means over tiles)
                   -> stains -> SSIM of each stain
                   -> classifier -> features, logits       (labelled sets)

Stains are told apart as scikit-image's `rgb2hed` does (Ruifrok & Johnston, 2001), by the same matrix and logarithm.
Speeds are of one core, by CPU time, and on a shared machine only their ratios mean something.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_msssim import ssim
from skimage.color import hed_from_rgb

from benchmarks.rd.tiles import TileSet
from wsicomp.classification.frozen import TorchClassifier
from wsicomp.classification.pixels import to_float_nchw
from wsicomp.datasets.labelled import LabelledTiles
from wsicomp.evaluation.classical import Codec
from wsicomp.evaluation.fidelity import measure
from wsicomp.evaluation.report import CALIBRATED_KEYS, STATISTICS
from wsicomp.metrics.bootstrap import resample_groups, score_distributions
from wsicomp.metrics.classification import score
from wsicomp.models.classifier import StudyClassifier
from wsicomp.models.registry import load_model

__all__ = ["Bench", "Judge", "Point", "stain_densities"]

Point = dict[str, Any]
"""A row of the results, JSON values only."""

BATCH = 2
"""Small, because larger arrays do not stay in the cache."""
LOG_OF_VALUE = (np.log(np.maximum(np.arange(256) / 255, 1e-6)) / np.log(1e-6)).astype(np.float32)
"""`separate_stains`' logarithm of each grey value: 0 for white, 1 for black."""
PEAK_PERCENTILE = 99.9


def stain_densities(tiles: NDArray[np.uint8], counterstain: int) -> NDArray[np.float32]:
    """Densities of haematoxylin and of a second stain.

    Parameters
    ----------
    tiles
        (N, H, W, 3) uint8.
    counterstain
        Column of `rgb2hed`: 1 is eosin, 2 is DAB.

    Returns
    -------
    (N, 2, H, W) float32, at least 0.
    """
    matrix = hed_from_rgb[:, [0, counterstain]].astype(np.float32)
    densities = np.maximum(LOG_OF_VALUE[tiles] @ matrix, 0)  # (N, H, W, 3) -> (N, H, W, 2)
    return np.ascontiguousarray(densities.transpose(0, 3, 1, 2), dtype=np.float32)


class Bench:
    """A set of tiles, ready to measure codecs on.

    Parameters
    ----------
    tile_set
        The originals.
    classifier
        Name or path of a study classifier's weights; used where the set has labels.
    resamples
        Number of resamples of the bootstrap.
    """

    def __init__(self, tile_set: TileSet, classifier: str, *, resamples: int = 1000) -> None:
        self.tiles = tile_set.tiles
        self._counterstain = tile_set.counterstain
        samples = stain_densities(self.tiles[:: max(len(self.tiles) // 64, 1)], self._counterstain)
        self._peaks = np.percentile(samples, PEAK_PERCENTILE, axis=(0, 2, 3)).astype(np.float32)
        self.judge = Judge(tile_set.study, classifier, resamples) if tile_set.study is not None else None

    def original(self) -> Point | None:
        """Score the originals; None without labels."""
        return self.judge.score(self.tiles) if self.judge else None

    def point(self, codec: Codec) -> Point:
        """Run a codec at its setting and measure what came back.

        Raises
        ------
        ValueError
            If tiles are missing or changed their size.
        """
        coded = codec.run(self.tiles)
        if coded.x_hat.shape != self.tiles.shape or coded.x_hat.dtype != np.uint8:
            raise ValueError(f"{codec.name}, {codec.setting}: gave {coded.x_hat.shape} for {self.tiles.shape}")
        count, pixels = len(self.tiles), self.tiles[..., 0].size
        fidelity = measure(self.tiles, coded.x_hat).means()
        haematoxylin, counterstain = self.stain_ssim(coded.x_hat)
        return {
            "codec": codec.name,
            "setting": codec.setting,
            "depth": getattr(codec, "depth", None),
            "quality": getattr(codec, "quality", None),
            "bytes": coded.bytes,
            "bits_per_pixel": 8 * coded.bytes / pixels,
            "payload_bits_per_pixel": None if coded.payload_bytes is None else 8 * coded.payload_bytes / pixels,
            **{name: value for name, value in fidelity.items() if name != "loss"},
            "ssim_haematoxylin": haematoxylin,
            "ssim_counterstain": counterstain,
            "encode_tiles_per_s": count / max(coded.encode_s, 1e-9),
            "decode_tiles_per_s": count / max(coded.decode_s, 1e-9),
            "encode_kmac_per_px": None if coded.encode_macs is None else coded.encode_macs / 1000,
            "decode_kmac_per_px": None if coded.decode_macs is None else coded.decode_macs / 1000,
            "classifier": self.judge.score(coded.x_hat) if self.judge else None,
        }

    def stain_ssim(self, x_hat: NDArray[np.uint8]) -> tuple[float, float]:
        """Mean SSIM of haematoxylin and of the counterstain, each on a range that the originals set."""
        values = []
        for start in range(0, len(x_hat), BATCH):
            batch = slice(start, start + BATCH)
            pair = [
                torch.from_numpy(stain_densities(tiles[batch], self._counterstain) / self._peaks[:, None, None])
                for tiles in (self.tiles, x_hat)
            ]
            # (B, 2, H, W) -> (2 B, 1, H, W): one value for each stain of each tile
            a, b = (stains.flatten(0, 1)[:, None] for stains in pair)
            values.append(ssim(a, b, data_range=1.0, size_average=False).reshape(-1, 2).double().numpy())
        haematoxylin, counterstain = np.concatenate(values).mean(axis=0)
        return float(haematoxylin), float(counterstain)


class Judge:
    """A frozen classifier on labelled tiles, its scores paired with those on the originals by one bootstrap.

    Parameters
    ----------
    study
        The originals with labels and groups.
    classifier
        Name or path of a study classifier's weights.
    resamples
        Number of resamples of the bootstrap over groups.
    """

    def __init__(self, study: LabelledTiles, classifier: str, resamples: int) -> None:
        model = load_model(classifier, family="classifier")
        assert isinstance(model.module, StudyClassifier)  # noqa: S101
        self._module = model.module
        self._classifier = TorchClassifier(model.module, model.name)
        self._calibrated = float(model.notes["threshold"]) if "threshold" in model.notes else None
        self._labels = study.labels
        self._resamples = resample_groups(study.groups, n_resamples=resamples)
        self._logits = self._classifier.logits(study.tiles)
        self._features = self._features_of(study.tiles)
        self._original = self._distributions(self._logits)

    def score(self, x_hat: NDArray[np.uint8]) -> Point:
        """Statistics at the study's threshold 0.5, 95 % intervals of them and of what is lost, feature distance.

        A drop is original minus reconstruction, in shares; the feature distance is the mean of 1 - cosine between the
        classifier's pooled features of a tile before and after.
        """
        logits = self._classifier.logits(x_hat)
        distributions = self._distributions(logits)
        drops = {f"{name}_drop": self._original[name] - distributions[name] for name in STATISTICS if name != "bce"}
        del drops["flip_rate_drop"]
        intervals = {name: self._resamples.interval(values) for name, values in (distributions | drops).items()}
        calibrated = None
        if self._calibrated is not None:
            scores = asdict(score(logits, self._labels, self._calibrated, self._logits))
            calibrated = {"threshold": self._calibrated, **{key: scores[key] for key in CALIBRATED_KEYS[1:]}}
        similarity = torch.nn.functional.cosine_similarity(self._features, self._features_of(x_hat))
        return {
            **asdict(score(logits, self._labels, 0.5, self._logits)),
            "feature_distance": max(float(1 - similarity.mean()), 0.0),
            "intervals": {name: list(ends) if ends else None for name, ends in intervals.items()},
            "calibrated": calibrated,
        }

    def _distributions(self, logits: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        return score_distributions(self._resamples, logits, self._labels, 0.5, self._logits)

    @torch.inference_mode()
    def _features_of(self, tiles: NDArray[np.uint8]) -> torch.Tensor:
        batches = (tiles[start : start + BATCH] for start in range(0, len(tiles), BATCH))
        return torch.cat([self._module.features(torch.from_numpy(to_float_nchw(batch))).double() for batch in batches])
