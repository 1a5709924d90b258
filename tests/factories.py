"""Makers of the slides that tests of every room use: real tissue on glass, planted secrets, gigapixels in megabytes."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import skimage.data
import tifffile
from numpy.typing import NDArray
from PIL import Image

from wsicomp.slides.svs import write_svs

GLASS_RGB = (242, 241, 243)

DESCRIPTION_FIELDS = ["Filename", "Title", "Date", "Time", "User", "ScanScope ID", "ImageID", "Patient", "DSR ID"]
PICTURES = ("label", "macro", "thumbnail")

CANARIES = {
    place: f"CANARY{number:02d}{place.replace(' ', '')}"
    for number, place in enumerate(
        [*DESCRIPTION_FIELDS, "level text", "label text", "macro text", *(f"{name} pixels" for name in PICTURES)]
    )
}
"""Unique text by the place it is planted in; none of it may ever come out of wsicomp."""

LABEL_RGB = (255, 0, 170)
MACRO_RGB = (0, 255, 85)
THUMBNAIL_RGB = (170, 85, 255)
"""Colours that no tissue has; none of them may appear in a store or a decoded image."""


def _tissue() -> NDArray[np.uint8]:
    picture: NDArray[np.uint8] = skimage.data.immunohistochemistry()  # type: ignore[no-untyped-call]
    return picture


def glass(height: int, width: int, noise: float = 1.0, seed: int = 0) -> NDArray[np.uint8]:
    """Bare glass (height, width, 3) uint8 with a little sensor noise."""
    grain = np.random.default_rng(seed).normal(0, noise, (height, width, 1))
    return np.clip(np.rint(np.array(GLASS_RGB) + grain), 0, 255).astype(np.uint8)


def tissue_image(width: int = 1400, height: int = 1100, x: int = 300, y: int = 260) -> NDArray[np.uint8]:
    """Real tissue, 512 x 512 px, on glass with its corner at (x, y): (height, width, 3) uint8."""
    image = glass(height, width)
    image[y : y + 512, x : x + 512] = _tissue()[: height - y, : width - x]
    return image


def tissue_slide(
    path: Path,
    width: int = 1400,
    height: int = 1100,
    *,
    mpp: float = 0.5,
    jpeg_quality: int = 85,
    downsamples: Sequence[int] = (4, 16),
) -> Path:
    """Write an SVS of `tissue_image` and return its path."""
    image = tissue_image(width, height, min(300, width // 4), min(260, height // 4))
    write_svs(path, image, mpp=mpp, jpeg_quality=jpeg_quality, downsamples=downsamples)
    return path


def canary_slide(path: Path) -> Path:
    """Write an SVS with a canary in every free text and in the pixels of every associated image; return its path."""

    def secret_picture(height: int, width: int, colour: tuple[int, int, int], place: str) -> NDArray[np.uint8]:
        picture = np.full((height, width, 3), colour, np.uint8)
        text = np.frombuffer(CANARIES[place].encode(), np.uint8)
        picture[0].reshape(-1)[: len(text)] = text
        return picture

    write_svs(
        path,
        tissue_image(700, 600, 100, 60),
        mpp=0.5,
        associated={
            "label": secret_picture(60, 90, LABEL_RGB, "label pixels"),
            "macro": secret_picture(80, 240, MACRO_RGB, "macro pixels"),
            "thumbnail": secret_picture(96, 112, THUMBNAIL_RGB, "thumbnail pixels"),
        },
        description_extra="".join(f"|{field} = {CANARIES[field]}" for field in DESCRIPTION_FIELDS),
    )
    with tifffile.TiffFile(path) as tiff:
        texts = [page.description for page in tiff.pages]  # type: ignore[union-attr]
    for index, text in enumerate(texts):
        if index == 2:
            tifffile.tiffcomment(path, f"{text}|Level = {CANARIES['level text']}", pageindex=index)
        for name in ("label", "macro"):
            if f"\n{name} " in text:
                tifffile.tiffcomment(path, f"{text} {CANARIES[f'{name} text']}", pageindex=index)
    return path


def huge_slide(path: Path, gigapixels: float, *, downsamples: Sequence[int] = (4, 16)) -> Path:
    """Write an Aperio slide of about `gigapixels` in a few MB, and return its path.

    Its tile tables point again and again at the same five JPEG tiles of 256 px: the left half of every level is tissue,
    the right half glass.
    """
    tile = 256
    width = max(round((gigapixels * 1e9) ** 0.5 / 8192), 1) * 8192
    height = max(round(gigapixels * 1e9 / width / 16), 1) * 16
    tissue = _tissue()
    pictures = [tissue[y : y + tile, x : x + tile] for y in (0, 256) for x in (0, 256)] + [glass(tile, tile)]
    with path.open("wb") as file:
        file.write(b"II*\0" + bytes(4))
        offsets, sizes = [], []
        for picture in pictures:
            jpeg = io.BytesIO()
            Image.fromarray(picture).save(jpeg, "JPEG", quality=85, subsampling="4:2:0")
            offsets.append(file.tell())
            sizes.append(file.write(jpeg.getvalue()))
            file.write(bytes(file.tell() % 2))
        link = 4
        for downsample in (1, *downsamples):
            level_width, level_height = width // downsample, height // downsample
            cols, rows = -(-level_width // tile), -(-level_height // tile)
            # A hash of the place picks the tissue tile, so that no row or column repeats its neighbour.
            row, col = np.mgrid[:rows, :cols]
            choice = np.where(col < cols // 2, (row * 7 + col * 3 + row * col) % 4, 4)
            text = (
                f"Aperio Image Library v11.2.1 \n{width}x{height} ({tile}x{tile}) JPEG/RGB Q=85|AppMag = 20|MPP = 0.5\0"
            )
            entries: list[tuple[int, int, int, bytes]] = [
                (256, 4, 1, struct.pack("<I", level_width)),
                (257, 4, 1, struct.pack("<I", level_height)),
                (258, 3, 3, struct.pack("<3H", 8, 8, 8)),
                (259, 3, 1, struct.pack("<H", 7)),
                (262, 3, 1, struct.pack("<H", 6)),
                (270, 2, len(text), text.encode()),
                (277, 3, 1, struct.pack("<H", 3)),
                (284, 3, 1, struct.pack("<H", 1)),
                (322, 3, 1, struct.pack("<H", tile)),
                (323, 3, 1, struct.pack("<H", tile)),
                (324, 4, choice.size, np.array(offsets, "<u4")[choice].tobytes()),
                (325, 4, choice.size, np.array(sizes, "<u4")[choice].tobytes()),
                (530, 3, 2, struct.pack("<2H", 2, 2)),
            ]
            directory = struct.pack("<H", len(entries))
            for tag, kind, count, value in entries:
                if len(value) > 4:
                    at = file.tell()
                    file.write(value + bytes(len(value) % 2))
                    value = struct.pack("<I", at)
                directory += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
            at = file.tell()
            file.write(directory + bytes(4))
            file.seek(link)
            file.write(struct.pack("<I", at))
            file.seek(0, io.SEEK_END)
            link = at + len(directory)
    return path
