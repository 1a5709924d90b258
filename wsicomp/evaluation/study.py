"""The study: what a frozen classifier loses on reconstructions, beside what they cost in elements and in bytes.

    tiles ---------------------> classifier --> logits of the original --> row of depth 0
      |                                              |
      |      for each Reconstruction, one at a time  |
      +--> fidelity to x_hat                         |
           x_hat --> classifier --> logits --> scores, flips, bootstrap (the same resamples for all rows) --> row

Reconstructions may come from a generator: each is let go before the next is asked for, so memory holds the originals
and one reconstruction. It does NOT encode, decode, train or calibrate; its caller gives bytes and a threshold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicomp.classification.frozen import FrozenClassifier
from wsicomp.datasets.labelled import LabelledTiles
from wsicomp.errors import DataError
from wsicomp.evaluation.fidelity import Fidelity, measure
from wsicomp.evaluation.machine import describe_machine
from wsicomp.evaluation.report import CALIBRATED_KEYS, DROPS, FIDELITY, ORIGINAL, ROW_KEYS, STATISTICS, Report, Row
from wsicomp.metrics.bootstrap import CONFIDENCE, resample_groups, score_distributions
from wsicomp.metrics.classification import score
from wsicomp.metrics.distortion import MAX_PSNR_DB

__all__ = ["Reconstruction", "evaluate"]


@dataclass(frozen=True)
class Reconstruction:
    """All tiles of a study through one codec at one setting.

    Parameters
    ----------
    codec
        Registry key of the model or name of the classical codec; "original" is taken.
    depth
        Depth of the latent, at least 1; None for a codec without one, such as JPEG.
    quality
        Quality level, where the codec has one.
    latent_elements
        Latent elements per tile; None for a codec without latents.
    bytes
        Real bytes of all tiles together on disk, everything counted: headers, index, metadata.
    x_hat
        (N, H, W, 3) uint8 reconstructions in the order of the originals.

    Raises
    ------
    ValueError
        If the codec is called "original", the depth is below 1, or a size is not positive.
    """

    codec: str
    depth: int | None
    quality: float | None
    latent_elements: int | None
    bytes: int
    x_hat: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.codec == ORIGINAL or (self.depth is not None and self.depth < 1):
            raise ValueError(f"{self.codec} at depth {self.depth}: depth 0 and '{ORIGINAL}' are the study's own row")
        if self.bytes < 1 or (self.latent_elements is not None and self.latent_elements < 1):
            raise ValueError(f"{self.codec}: {self.bytes} bytes and {self.latent_elements} elements must be positive")


def evaluate(
    data: LabelledTiles,
    classifier: FrozenClassifier,
    reconstructions: Iterable[Reconstruction],
    *,
    threshold: float = 0.5,
    calibrated_threshold: float | None = None,
    seed: int = 0,
    n_resamples: int = 1000,
) -> Report:
    """Score a frozen classifier on the originals and on each reconstruction.

    Parameters
    ----------
    data
        The originals with labels and groups.
    classifier
        Trained elsewhere, on originals only.
    reconstructions
        Consumed one at a time.
    threshold
        Probability from which a tile counts as positive; the study's is 0.5.
    calibrated_threshold
        A second threshold, chosen on validation tiles (`metrics.classification.youden_threshold`); None leaves it out.
    seed, n_resamples
        Seed and number of resamples of the bootstrap over groups.

    Returns
    -------
    Report with the original's row (depth 0) first.

    Raises
    ------
    DataError
        If a reconstruction does not have the shape of the originals.
    ModelError
        If the classifier cannot score the tiles.
    ValueError
        If a threshold is not between 0 and 1, or there are no resamples.
    """
    scores = _Scores(data, classifier.logits(data.tiles), threshold, calibrated_threshold, seed, n_resamples)
    rows = [_original_row(data, scores)]
    for reconstruction in reconstructions:
        if reconstruction.x_hat.shape != data.tiles.shape:
            raise DataError(
                f"{data.name}: {reconstruction.codec} at depth {reconstruction.depth} gave "
                f"{reconstruction.x_hat.shape} for tiles {data.tiles.shape}; reconstruct every tile, in order"
            )
        rows.append(_reconstruction_row(data, reconstruction, scores, classifier.logits(reconstruction.x_hat)))
        del reconstruction  # or it would stay in memory while the next one is made
    return Report(
        rows=rows,
        classifier={
            "name": classifier.name,
            "threshold": threshold,
            "calibrated_threshold": calibrated_threshold,
        },
        data={
            "name": data.name,
            "tiles": len(data.tiles),
            "tile_height_px": data.tiles.shape[1],
            "tile_width_px": data.tiles.shape[2],
            "groups": len(np.unique(data.groups)),
            "negative": data.classes[0],
            "positive": data.classes[1],
            "positives": int(np.count_nonzero(data.labels)),
            "bootstrap": {
                "confidence": CONFIDENCE,
                "clustered_by": "group",
                "resamples": n_resamples,
                "seed": seed,
                "dropped": scores.dropped(),
            },
        },
        machine=describe_machine(),
    )


class _Scores:
    """The classifier's part of each row, against the logits on the originals and on one set of resamples."""

    def __init__(
        self,
        data: LabelledTiles,
        original_logits: NDArray[np.float64],
        threshold: float,
        calibrated_threshold: float | None,
        seed: int,
        n_resamples: int,
    ) -> None:
        self.original_logits = original_logits
        self._labels = data.labels.astype(np.int64)
        self._threshold = threshold
        self._calibrated_threshold = calibrated_threshold
        self._resamples = resample_groups(data.groups, n_resamples=n_resamples, seed=seed)
        self._original = self._distributions(original_logits)

    def of(self, logits: NDArray[np.float64], fidelity: Fidelity | None = None) -> Row:
        """Statistics and calibrated scores of one row's logits, and intervals of these and of its fidelity."""
        scores = score(logits, self._labels, self._threshold, self.original_logits)
        distributions = self._distributions(logits)
        for drop in DROPS:
            statistic = drop.removesuffix("_drop")
            distributions[drop] = self._original[statistic] - distributions[statistic]
        for name in FIDELITY if fidelity is not None else ():
            values = np.minimum(getattr(fidelity, name), MAX_PSNR_DB)  # as `mean_psnr_db` counts an unchanged tile
            distributions[name] = self._resamples.means(values)
        intervals = {name: self._resamples.interval(values) for name, values in distributions.items()}
        return {
            **asdict(scores),
            "intervals": {name: list(ends) if ends else None for name, ends in intervals.items()},
            "calibrated": self._calibrated(logits),
        }

    def dropped(self) -> dict[str, int]:
        """Resamples in which a statistic was undefined; it depends on their labels alone, so it holds for all rows."""
        return {name: int(np.count_nonzero(np.isnan(self._original[name]))) for name in STATISTICS}

    def _distributions(self, logits: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        return score_distributions(self._resamples, logits, self._labels, self._threshold, self.original_logits)

    def _calibrated(self, logits: NDArray[np.float64]) -> Row | None:
        if self._calibrated_threshold is None:
            return None
        scores = asdict(score(logits, self._labels, self._calibrated_threshold, self.original_logits))
        return {"threshold": self._calibrated_threshold, **{key: scores[key] for key in CALIBRATED_KEYS[1:]}}


def _original_row(data: LabelledTiles, scores: _Scores) -> Row:
    _, height, width, channels = data.tiles.shape
    return _row(
        codec=ORIGINAL,
        depth=0,
        quality=None,
        latent_elements=height * width * channels,
        element_ratio=1.0,
        bytes_per_tile=float(height * width * channels),
        bits_per_pixel=8.0 * channels,
        psnr_db=None,
        ssim=1.0,
        ms_ssim=1.0,
        loss=0.0,
        **scores.of(scores.original_logits),
    )


def _reconstruction_row(
    data: LabelledTiles, reconstruction: Reconstruction, scores: _Scores, logits: NDArray[np.float64]
) -> Row:
    count, height, width, channels = data.tiles.shape
    elements = reconstruction.latent_elements
    fidelity = measure(data.tiles, reconstruction.x_hat)
    return _row(
        codec=reconstruction.codec,
        depth=reconstruction.depth,
        quality=reconstruction.quality,
        latent_elements=elements,
        element_ratio=None if elements is None else elements / (height * width * channels),
        bytes_per_tile=reconstruction.bytes / count,
        bits_per_pixel=8 * reconstruction.bytes / (count * height * width),
        **fidelity.means(),
        **scores.of(logits, fidelity),
    )


def _row(**values: Any) -> Row:
    return {key: values[key] for key in ROW_KEYS}
