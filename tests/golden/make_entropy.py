"""Fit the entropy model of the golden stores: `python -m tests.golden.make_entropy FOLDER` writes v1-rans.npz there.

Run once, before `make_golden`; a golden store names its model by digest, so another model could not read it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tests.codec.models import formula_scales
from wsicomp.codec.entropy_model import EntropyModel


def main(folder: Path) -> None:
    """Fit on latents of two channels by formula, in -9..9, so that the golden stores need escapes too."""
    c, y, x = np.indices((2, 16, 16))
    latents = [((7 * c + 11 * y + 13 * x + x * y + seed) % 19 - 9).astype(np.int16) for seed in range(4)]
    model = EntropyModel.fit(formula_scales(), latents, bits=12)
    np.savez_compressed(folder / "v1-rans.npz", **model.arrays())  # type: ignore[arg-type]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
