"""A slide's own JPEG tiles come out whole, and decode to the pixels that the slide shows."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import tifffile
from PIL import Image

from wsicomp.errors import SlideError
from wsicomp.slides import SourceSettings, open_source


def test_streams_decode_to_the_slides_pixels(tissue_svs: Path) -> None:
    with open_source(tissue_svs, SourceSettings(tile_size=240)) as source:
        assert len(source.encoded_levels) == 3
        grid = source.encoded_levels[0]
        assert grid is not None
        assert (grid.rows, grid.cols, grid.tile_width_px, grid.tile_height_px) == (5, 6, 240, 240)
        for row, col in ((0, 0), (1, 1), (2, 3), (4, 5)):
            stream = source.read_encoded_tile(0, row, col)
            pixels = simplejpeg.decode_jpeg(stream)
            tile = source.levels[0].grid(240).tile(row, col)
            inside = slice(tile.height_px), slice(tile.width_px)
            np.testing.assert_array_equal(pixels[inside], source.read_tile(0, row, col)[inside])
            # A decoder that knows nothing of the slide takes the stream for the same picture.
            with Image.open(io.BytesIO(stream)) as picture:
                assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - pixels).max() <= 2


def test_a_stream_ends_in_the_bytes_of_the_file(tissue_svs: Path) -> None:
    with tifffile.TiffFile(tissue_svs) as tiff:
        page = tiff.pages.first
        start, size = page.dataoffsets[8], page.databytecounts[8]
    with open_source(tissue_svs) as source:
        assert source.read_encoded_tile(0, 1, 2).endswith(tissue_svs.read_bytes()[start + 2 : start + size])


@pytest.mark.real_data
def test_rgb_streams_of_a_real_slide_have_its_colours(real_slides: dict[str, Path]) -> None:
    with open_source(real_slides["aperio"], SourceSettings(tile_size=240)) as source:
        for row, col in ((0, 0), (5, 4), (9, 7)):
            with Image.open(io.BytesIO(source.read_encoded_tile(0, row, col))) as picture:
                decoded = np.asarray(picture.convert("RGB")).astype(int)
            assert np.abs(decoded - source.read_tile(0, row, col)).max() <= 2


def test_what_is_not_there_is_refused(tissue_svs: Path) -> None:
    with open_source(tissue_svs) as source:
        for place in ((0, 5, 0), (0, 0, 6), (0, -1, 0)):
            with pytest.raises(IndexError, match="no encoded tile"):
                source.read_encoded_tile(*place)
    with pytest.raises(SlideError, match="closed"):
        source.read_encoded_tile(0, 0, 0)
    with open_source(tissue_svs, SourceSettings(reader="openslide")) as source:
        assert source.encoded_levels == (None, None, None)
        with pytest.raises(IndexError):
            source.read_encoded_tile(0, 0, 0)
