"""A procedural two-class H&E phantom: labelled patches that any machine can draw, with nothing to download.

    seed, split, i -> grade -> outlines and nuclei -> haematoxylin and eosin densities
                   -> optical density -> RGB -> noise -> (size, size, 3) uint8

It is a drawing, not tissue. It exists so that the evaluation runs anywhere, and a figure measured on it says nothing
about diagnosis, about real tissue or about any scanner.

What is drawn: "benign" patches tend to glands with a lumen and a ring of small regular nuclei in a fibrous stroma,
"malignant" ones to crowded, larger, darker, irregular nuclei with coarse chromatin and nucleoli, around few or fused
glands. Everything about a patch follows from its grade, a number drawn from one of two normal distributions that
overlap, so that no classifier can be perfect. How many nuclei there are, how much of the patch they cover and how
strongly they are stained overlap far more than their size, outline and chromatin do: the class is in nuclear detail,
and detail is what compression takes first.

The forward model of colour deconvolution (Ruifrok and Johnston, Anal. Quant. Cytol. Histol. 23, 2001) turns densities
into colours. Each group of patches shares one stain, as patches of one slide do, and holds both classes alike, so that
the stain does not tell the class.

What it does NOT do: real anatomy, more than two classes, artefacts of the laboratory, other magnifications: `size`
changes the field of view and never the scale, which is about 0.5 um per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicomp.errors import ConfigError

__all__ = ["GROUP_PATCHES", "PHANTOM_CLASSES", "PHANTOM_COUNTS", "SPLITS", "PhantomPatches", "phantom_patches"]

GROUP_PATCHES = 8
"""Patches of one group, a phantom's slide: they share a stain."""

SPLITS = ("train", "val", "test")
"""Names of the splits; no patch and no stain of one occurs in another."""

PHANTOM_CLASSES = ("benign", "malignant")
"""Names of label 0 and label 1."""

PHANTOM_COUNTS = {"train": 1280, "val": 256, "test": 256}
"""Patches of each split that the shipped classifier is trained, chosen and scored on."""

_GRADE_MEAN = (0.25, 0.75)
_GRADE_SD = 0.14
"""A grade lies on the wrong side of 0.5 for 3.7 % of patches: no classifier can do better than about 96 %."""

_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]], dtype=np.float32)
"""Optical density of haematoxylin and eosin in R, G and B: the vectors of Ruifrok and Johnston 2001."""

_MARGIN = 16
"""Pixels around the patch in which nuclei are drawn too, so that the border cuts some; also half a nucleus' stamp."""

Field = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class PhantomPatches:
    """Patches with their labels and groups.

    Parameters
    ----------
    tiles
        (n, size, size, 3) uint8 RGB.
    labels
        (n,) int64: 0 is benign, 1 is malignant; they alternate.
    groups
        (n,) str: the phantom's slide that a patch belongs to, such as "train-0003".
    """

    tiles: Pixels
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]


def phantom_patches(n: int, *, size: int = 256, seed: int, split: str) -> PhantomPatches:
    """Draw the first `n` patches of a split.

    Patch i depends on `size`, `seed`, `split` and i alone, never on `n`. The bytes are the same on every run of one
    machine; another processor may round a few pixels to the neighbouring grey value.

    Parameters
    ----------
    n
        Number of patches, at least 0.
    size
        Side of a patch in pixels, at least 32.
    seed
        Any integer from 0 on; another seed draws other patches.
    split
        One of `SPLITS`.

    Raises
    ------
    ConfigError
        If a number is out of range or there is no such split.
    """
    if split not in SPLITS:
        raise ConfigError(f"the phantom has no split {split!r}; choose one of {', '.join(SPLITS)}")
    if n < 0 or size < 32 or seed < 0:
        raise ConfigError(f"the phantom needs n >= 0, size >= 32 and seed >= 0, not n={n}, size={size}, seed={seed}")
    key = SPLITS.index(split)
    tiles = np.empty((n, size, size, 3), dtype=np.uint8)
    labels = np.arange(n, dtype=np.int64) % 2
    for i in range(n):
        slide = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(key, 0, i // GROUP_PATCHES)))
        patch = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(key, 1, i)))
        grade = float(np.clip(patch.normal(_GRADE_MEAN[labels[i]], _GRADE_SD), 0.0, 1.0))
        haematoxylin, eosin = _densities(patch, grade, size)
        tiles[i] = _stained(patch, slide, haematoxylin, eosin)
    groups = np.array([f"{split}-{i // GROUP_PATCHES:04d}" for i in range(n)], dtype=np.str_)
    return PhantomPatches(tiles, labels, groups)


def _stained(patch: np.random.Generator, slide: np.random.Generator, haematoxylin: Field, eosin: Field) -> Pixels:
    """Colours of two density maps (size, size): (size, size, 3) uint8.

    All draws from `slide` come first and are the same for each patch of a group.
    """
    vectors = _STAINS + slide.normal(0.0, 0.025, (2, 3))
    vectors[1] += (0.02, -0.04, slide.uniform(0.05, 0.22))  # eosin is seldom as magenta as the textbook's vector
    vectors = np.clip(vectors, 0.01, None)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    strength = slide.lognormal(0.0, (0.16, 0.16))
    glass = slide.normal((243.0, 242.0, 244.0), 3.0)
    noise = slide.uniform(1.5, 3.5)

    # Absorption in each channel, (size, size, 3); no matrix product, whose sums a BLAS may order by its threads.
    h, e = (strength[:, None] * vectors).astype(np.float32)
    absorbed = haematoxylin[..., None] * h + eosin[..., None] * e
    rgb: Field = glass.astype(np.float32) * np.exp(-np.float32(np.log(10.0)) * absorbed)
    rgb += noise * patch.standard_normal(rgb.shape, dtype=np.float32)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def _densities(rng: np.random.Generator, grade: float, size: int) -> tuple[Field, Field]:
    """Haematoxylin and eosin densities of one patch, (size, size) each, from 0 to about 1.5."""
    coarse, middle, fine = (_noise(rng, size, scale) for scale in (34.0, 9.0, 1.5))
    tissue = _Glands(rng, grade, size, coarse)
    stroma = _fibres(rng, size, coarse, middle)

    # Between glands lies a sheet of cells; how dense it is must not tell the class.
    sheet = np.clip(rng.normal(0.35, 0.25) + 0.5 * middle, 0.0, 1.0)
    eosin = np.where(tissue.depth > 0, 0.30 + 0.05 * middle, stroma * (1 - 0.35 * sheet))
    haematoxylin = np.where(tissue.depth > 0, 0.10, 0.12 * stroma + 0.07 * sheet).astype(np.float32)
    open_px = np.clip((tissue.depth - tissue.wall_px) / 2.5 + 0.5, 0.0, 1.0)
    eosin *= 1 - 0.96 * open_px
    haematoxylin *= 1 - 0.96 * open_px

    nuclei = _nuclei(rng, grade, size, tissue, sheet)
    texture = 1.0 + (0.05 + 0.55 * grade) * fine * np.clip(nuclei, 0, 0.6)
    covered = np.clip(nuclei * 2.0, 0.0, 1.0)
    haematoxylin = haematoxylin * (1 - covered) + nuclei * texture
    eosin = eosin * (1 - 0.45 * covered)
    return _optics(haematoxylin), _optics(eosin.astype(np.float32))


def _optics(density: Field) -> Field:
    """Blur of the microscope: the kernel (0.16, 0.68, 0.16) along both axes."""
    edged = np.pad(density, 1, mode="edge")
    rows = 0.68 * edged[1:-1] + 0.16 * (edged[:-2] + edged[2:])
    blurred = 0.68 * rows[:, 1:-1] + 0.16 * (rows[:, :-2] + rows[:, 2:])
    return np.maximum(blurred, 0.0, dtype=np.float32)


def _noise(rng: np.random.Generator, size: int, scale_px: float) -> Field:
    """Smooth periodic noise of mean 0 and variance 1 whose features are about `scale_px` across, (size, size)."""
    fx = np.fft.rfftfreq(size).astype(np.float32)
    fy = np.fft.fftfreq(size).astype(np.float32)[:, None]
    # a Gaussian filter, in frequency space because its cost does not grow with its width
    gain = np.exp(-2 * (np.pi * scale_px / 2) ** 2 * (fx**2 + fy**2)).astype(np.float32)
    gain[0, 0] = 0.0
    spectrum = gain * np.fft.rfft2(rng.standard_normal((size, size), dtype=np.float32))
    field = np.fft.irfft2(spectrum, s=(size, size)).astype(np.float32)
    return np.asarray(field / (field.std() + 1e-6), dtype=np.float32)


def _fibres(rng: np.random.Generator, size: int, coarse: Field, middle: Field) -> Field:
    """Eosin density of wavy collagen, (size, size) from 0.1 to about 0.5."""
    angle, period = rng.uniform(0, np.pi), rng.uniform(9.0, 14.0)
    y, x = np.ogrid[:size, :size]
    phase = (x * np.cos(angle) + y * np.sin(angle)).astype(np.float32) / period + 0.8 * coarse + 0.16 * middle
    waves = np.sin(2 * np.pi * phase) * (0.7 + 0.5 * middle) + 0.5 * np.sin(2 * np.pi * 2.3 * phase + 2.0 * coarse)
    clefts = np.clip(np.sin(2 * np.pi * 0.37 * phase) + 0.6 * middle - 1.15, 0.0, 0.8)
    field: Field = np.clip(0.24 + 0.03 * waves + 0.035 * coarse - 0.30 * clefts, 0.02, None).astype(np.float32)
    return field


class _Glands:
    """Gland outlines: ellipses warped by one noise field; where they overlap they fuse.

    `depth` is how deep a pixel lies inside the nearest outline, in about pixels, (size, size), negative outside;
    `wall_px` is the height of the epithelium, beyond which the lumen begins.
    """

    def __init__(self, rng: np.random.Generator, grade: float, size: int, warp: Field) -> None:
        area = (size / 256.0) ** 2
        count = rng.poisson((2.9 - 1.2 * grade) * area)
        self.wall_px = rng.uniform(15.0, 20.0)
        self.centres = rng.uniform(0, size, (count, 2))  # x, y
        self.radii = rng.uniform(0.75, 1.35, (count, 2)) * rng.normal(44.0 - 8.0 * grade, 8.0, (count, 1)).clip(24, 70)
        self.waviness = 0.08 + 0.14 * grade
        self.warp = warp
        self.depth = np.full((size, size), -1e3, dtype=np.float32)
        y, x = np.ogrid[:size, :size]
        for (cx, cy), (rx, ry) in zip(self.centres, self.radii, strict=True):
            rho = np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2, dtype=np.float32)
            depth = np.float32(min(rx, ry)) * (1 + self.waviness * warp - rho)
            self.depth = np.maximum(self.depth, depth)

    def depth_at(self, xy: NDArray[np.float64]) -> Field:
        """Depth at points (N, 2), that of the nearest pixel for points outside the patch: (N,)."""
        col, row = _pixel(xy, len(self.depth))
        return self.depth[row, col]

    def ring(self, rng: np.random.Generator, spacing_px: float, jitter_px: float) -> NDArray[np.float64]:
        """Points (N, 2) along the base of each gland's wall, about `spacing_px` apart."""
        rings = [np.empty((0, 2))]
        for centre, radii in zip(self.centres, self.radii, strict=True):
            steps = max(int(2 * np.pi * radii.mean() / spacing_px), 6)
            angles = 2 * np.pi * (np.arange(steps) + rng.uniform()) / steps
            ray = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii
            at = centre + ray
            for _ in range(2):  # the warp is smooth, so two steps find the outline along each ray
                col, row = _pixel(at, len(self.warp))
                rho = 1 + self.waviness * self.warp[row, col] - 0.36 * self.wall_px / radii.min()
                at = centre + ray * rho[:, None]
            rings.append(at + rng.normal(0.0, jitter_px, at.shape))
        return np.concatenate(rings)


def _pixel(xy: NDArray[np.float64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    nearest = np.clip(np.rint(xy), 0, size - 1).astype(np.int64)
    return nearest[:, 0], nearest[:, 1]


def _nuclei(rng: np.random.Generator, grade: float, size: int, glands: _Glands, sheet: Field) -> Field:
    """Haematoxylin density of all nuclei, (size, size)."""
    radius = 4.1 + 2.0 * grade + rng.normal(0.0, 0.25)
    spread = 0.06 + 0.24 * grade
    uneven = 0.015 + 0.155 * grade
    dark = 0.66 + 0.05 * grade + rng.normal(0.0, 0.06)

    ring = glands.ring(rng, 2.35 * radius, 0.3 + 1.6 * grade)
    ring = ring[glands.depth_at(ring) < 0.75 * glands.wall_px]

    loose = _scattered(rng, size, 2.7 * radius)
    col, row = _pixel(loose, size)
    cells = loose[(rng.uniform(size=len(loose)) < 0.9 * sheet[row, col]) & (glands.depth[row, col] < -0.5 * radius)]
    epithelium = np.concatenate([ring, cells])

    stromal = _scattered(rng, size, 24.0)
    stromal = stromal[(glands.depth_at(stromal) < -4) & (rng.uniform(size=len(stromal)) < 0.55)]
    lymphocytes = _scattered(rng, size, 30.0)
    lymphocytes = lymphocytes[(glands.depth_at(lymphocytes) < -4) & (rng.uniform(size=len(lymphocytes)) < 0.25)]

    canvas = np.zeros((size + 4 * _MARGIN, size + 4 * _MARGIN), dtype=np.float32)
    n = len(epithelium)
    _stamp(
        rng,
        canvas,
        epithelium,
        radius=radius * rng.lognormal(0.0, spread, n),
        elongation=rng.uniform(1.0, 1.25 + 0.35 * grade, n),
        uneven=uneven,
        dark=dark * rng.lognormal(0.0, 0.06 + 0.12 * grade, n),
        nucleolus=np.where(rng.uniform(size=n) < 0.02 + 0.95 * grade, 0.8, 0.0),
    )
    n = len(stromal)
    _stamp(
        rng,
        canvas,
        stromal,
        radius=rng.normal(3.6, 0.4, n),
        elongation=rng.uniform(2.0, 3.6, n),
        uneven=0.03,
        dark=rng.normal(0.62, 0.08, n),
        nucleolus=np.zeros(n),
    )
    n = len(lymphocytes)
    _stamp(
        rng,
        canvas,
        lymphocytes,
        radius=rng.normal(3.9, 0.3, n),
        elongation=rng.uniform(1.0, 1.1, n),
        uneven=0.02,
        dark=rng.normal(0.95, 0.08, n),
        nucleolus=np.zeros(n),
    )
    inside = slice(2 * _MARGIN, 2 * _MARGIN + size)
    return canvas[inside, inside]


def _scattered(rng: np.random.Generator, size: int, spacing_px: float) -> NDArray[np.float64]:
    """Points (N, 2) of a shaken hexagonal lattice over the patch and its margin: crowded, yet seldom overlapping."""
    steps = np.arange(-_MARGIN, size + _MARGIN, spacing_px)
    x, y = np.meshgrid(steps, steps)
    x[1::2] += spacing_px / 2
    points = np.stack([x.ravel(), y.ravel()], axis=1) + rng.uniform(0, spacing_px, 2)
    return points + rng.normal(0.0, 0.18 * spacing_px, points.shape)


def _stamp(
    rng: np.random.Generator,
    canvas: Field,
    xy: NDArray[np.float64],
    *,
    radius: NDArray[np.float64],
    elongation: NDArray[np.float64],
    uneven: float,
    dark: NDArray[np.float64],
    nucleolus: NDArray[np.float64],
) -> None:
    """Draw N nuclei into the canvas; where two meet, the denser one shows.

    An outline is an ellipse whose radius swings with the second and third harmonic of the angle, by `uneven`.
    """
    inside = np.all((xy > -_MARGIN) & (xy < len(canvas) - 3 * _MARGIN), axis=1)
    xy = xy[inside] + 2 * _MARGIN
    n = len(xy)
    if n == 0:
        return
    corner = np.floor(xy).astype(np.int64) - _MARGIN
    steps = np.arange(2 * _MARGIN + 1, dtype=np.float32)
    x = steps[None, None, :] - (xy - corner)[:, 0, None, None].astype(np.float32)
    y = steps[None, :, None] - (xy - corner)[:, 1, None, None].astype(np.float32)

    def each(values: NDArray[np.float64] | NDArray[np.complex128]) -> NDArray[np.complex64]:
        return values[..., None, None].astype(np.complex64)  # (N,) -> (N, 1, 1)

    # The plane as complex numbers turned into each nucleus' own axes: powers of the unit vector are the harmonics.
    turned = (x + 1j * y).astype(np.complex64) * each(np.exp(1j * rng.uniform(0, 2 * np.pi, n)))
    stretch = np.sqrt(elongation[inside])
    a = each(radius[inside].clip(2.5, 11.0) * stretch).real
    b = each(radius[inside].clip(2.5, 11.0) / stretch).real
    scaled = turned.real / a + 1j * (turned.imag / b)
    rho = np.abs(scaled)
    unit = scaled / np.maximum(rho, 1e-3)
    second, third = uneven * (rng.normal(size=(2, n)) + 1j * rng.normal(size=(2, n)))
    squared = unit * unit
    outline = 1 + (each(second) * squared + each(third) * squared * unit).real

    depth = (outline - rho) * b  # about pixels inside the outline
    density = 0.80 + 0.35 * np.clip(1 - np.abs(depth - 1.0) / 1.4, 0, 1)  # the membrane is denser than the inside
    spot = rng.uniform(-0.4, 0.4, (2, n))
    away = np.abs(turned - each((spot[0] + 1j * spot[1]) * radius[inside]))
    density += each(nucleolus[inside]).real * np.clip(2.2 - away, 0, 1)
    density *= each(dark[inside]).real * np.clip(depth + 0.5, 0, 1)

    flat = (corner[:, 1, None, None] + np.arange(len(steps))[None, :, None]) * len(canvas)
    flat = flat + corner[:, 0, None, None] + np.arange(len(steps))[None, None, :]
    np.maximum.at(canvas.reshape(-1), flat.ravel(), density.astype(np.float32).ravel())
