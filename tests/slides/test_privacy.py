"""Nothing that names a patient leaves this room: canaries in every text and every associated image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openslide
import pytest

from tests.factories import CANARIES, LABEL_RGB, MACRO_RGB, THUMBNAIL_RGB
from tests.slides.opened import opened
from wsicomp.errors import ConfigError
from wsicomp.slides import open_source
from wsicomp.slides.describe import describe
from wsicomp.slides.local import open_native
from wsicomp.slides.settings import SourceSettings


def assert_clean(text: str) -> None:
    found = [canary for canary in CANARIES.values() if canary in text]
    assert not found
    assert "CANARY" not in text


def test_every_canary_is_planted(canary_svs: Path) -> None:
    content = canary_svs.read_bytes()
    texts = [place for place in CANARIES if not place.endswith("pixels")]
    assert [place for place in texts if CANARIES[place].encode() not in content] == []
    with openslide.OpenSlide(canary_svs) as slide:
        properties = " ".join(slide.properties.values())
        assert CANARIES["Patient"] in properties
        assert set(slide.associated_images) == {"label", "macro", "thumbnail"}
        label = np.asarray(slide.associated_images["label"].convert("RGB"))
        assert label.tobytes().startswith(CANARIES["label pixels"].encode())
        assert (label[-1] == LABEL_RGB).all()


def test_description_holds_no_free_text(canary_svs: Path) -> None:
    description = describe(canary_svs)
    assert_clean(json.dumps(description))
    assert description["associated_images"] == ["label", "macro", "thumbnail"]
    assert description["other_associated_images"] == 0
    assert description["properties"] > 20


def test_names_of_associated_images_are_free_text_too(canary_svs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"label": None, "CANARY John Doe": None}
    monkeypatch.setattr(openslide.OpenSlide, "associated_images", names)
    monkeypatch.setattr("wsicomp.slides.describe.ReaderProcess", open_native)
    description = describe(canary_svs)
    assert_clean(repr(description))
    assert description["associated_images"] == ["label"]
    assert description["other_associated_images"] == 1


def test_source_holds_no_free_text_and_reads_no_associated_image(
    canary_svs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an associated image was read")

    monkeypatch.setattr(openslide.lowlevel, "read_associated_image", refuse)
    with opened(canary_svs) as slide:
        assert_clean(repr(slide.info) + repr(slide.tissue().rule) + repr(slide))
        for level in slide.levels:
            for tile in level.grid(256):
                pixels = slide.read_tile(level.index, tile.row, tile.col).astype(int)
                for colour in (LABEL_RGB, MACRO_RGB, THUMBNAIL_RGB):
                    assert np.abs(pixels - colour).max(axis=-1).min() > 20
    describe(canary_svs)


def test_error_messages_hold_no_free_text(canary_svs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        opened(canary_svs, SourceSettings(mpp=0.1))
    assert_clean(str(caught.value))
    open_source(canary_svs).close()
    output = capfd.readouterr()
    assert output.out == output.err == ""
