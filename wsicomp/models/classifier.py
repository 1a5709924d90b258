"""The founding study's classifier, `perticarari2023-classifier`: eight convolution blocks and one logit.

    x (N, 3, H, W) -> 8 x [3x3 convolution, ReLU, batch norm, 2x2 max pooling] -> mean -> dense, ReLU, dense -> (N,)

At full width the channels are 16, 32, ..., 2048 and a 256 x 256 picture ends as 1 x 1. Where this differs from the
study: pooling rounds sizes up, so that pictures of other sizes pass (at 256 nothing changes), the dense layers' size,
which the study does not give, is a quarter of the last block's channels, and a dropout stands before them.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from wsicomp.models.family import register

__all__ = ["CLASSIFIER", "StudyClassifier"]

CLASSIFIER = "perticarari2023-classifier"
BLOCKS = 8
CHANNELS = 16


@register(CLASSIFIER, "classifier")
class StudyClassifier(nn.Module):
    """Binary classifier of pictures.

    Parameters
    ----------
    width
        Factor on every block's channels: 1.0 is the study's network (25 million parameters), 0.1875 a compact one
        (0.9 million).
    dropout
        Share of features dropped before the dense layers while training.
    """

    def __init__(self, width: float = 1.0, dropout: float = 0.3) -> None:
        super().__init__()
        channels = [3, *(max(round(width * CHANNELS * 2**block), 1) for block in range(BLOCKS))]
        self.width = width
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, padding=1),
                    nn.ReLU(),
                    nn.BatchNorm2d(after),
                    nn.MaxPool2d(2, ceil_mode=True),
                )
                for before, after in itertools.pairwise(channels)
            )
        )
        hidden = max(channels[-1] // 4, 1)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels[-1], hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def features(self, x: Tensor) -> Tensor:
        """Mean of the last block over its pixels, (N, C), of x (N, 3, H, W) float in [0, 1]."""
        return torch.flatten(nn.functional.adaptive_avg_pool2d(self.blocks(x - 0.5), 1), 1)  # (N, C, 1, 1) -> (N, C)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N,) of the positive class for x (N, 3, H, W) float in [0, 1]."""
        logits: Tensor = self.head(self.features(x)).squeeze(1)  # (N, 1) -> (N,)
        return logits
