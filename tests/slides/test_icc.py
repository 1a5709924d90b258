"""Colour profiles keep their colours and lose their past."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tests.factories import tissue_image
from tests.slides.opened import opened
from wsicomp.slides.describe import describe
from wsicomp.slides.icc import anonymous_profile
from wsicomp.slides.svs import write_svs

PLANTED = "CANARYbuilt-i"


def scanner_profile(version: int) -> bytes:
    """An sRGB profile with a secret in its description, its maker, its model, its date and its identifier."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = profile.index("sRGB built-in".encode("utf-16-be"))
    profile[at : at + 2 * 13] = PLANTED.encode("utf-16-be")
    profile[24:36] = struct.pack(">6H", 2019, 5, 17, 8, 30, 1)
    profile[48:56] = b"CANACANA"
    profile[84:100] = b"CANARY-CANARY-ID"
    profile[8] = version
    return bytes(profile)


def mapped(profile: bytes, image: Image.Image) -> NDArray[np.uint8]:
    """The image taken from the profile to Lab: (h, w, 3) uint8."""
    lab = ImageCms.createProfile("LAB")
    result = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), lab, outputMode="LAB")
    assert result is not None
    return np.asarray(result)


@pytest.mark.parametrize("version", [2, 4])
def test_colours_stay_and_the_past_goes(version: int) -> None:
    dirty = scanner_profile(version)
    clean = anonymous_profile(dirty)
    assert clean is not None
    assert struct.unpack(">I", clean[:4]) == (len(clean),)
    assert clean[24:36] == bytes(12)
    assert clean[48:56] == bytes(8)
    assert clean[84:100] == bytes(16)
    assert b"CANA" not in clean
    assert PLANTED.encode("utf-16-be") not in clean
    image = Image.fromarray(tissue_image(600, 600, 10, 10))
    np.testing.assert_array_equal(mapped(clean, image), mapped(dirty, image))
    assert ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(clean))).strip() == "slide"


def test_a_clean_profile_stays_as_it_is() -> None:
    clean = anonymous_profile(scanner_profile(4))
    assert clean is not None
    assert anonymous_profile(clean) == clean


@given(st.data())
def test_damaged_profiles_are_dropped_or_clean(data: st.DataObject) -> None:
    profile = bytearray(scanner_profile(4))
    for _ in range(data.draw(st.integers(1, 4))):
        profile[data.draw(st.integers(0, len(profile) - 1))] = data.draw(st.integers(0, 255))
    clean = anonymous_profile(bytes(profile[: data.draw(st.integers(0, len(profile)))]))
    assert clean is None or b"CANARY" not in clean


@pytest.mark.parametrize("profile", [b"", b"x" * 131, b"\0" * 400])
def test_what_is_no_profile_is_none(profile: bytes) -> None:
    assert anonymous_profile(profile) is None


def test_slide_hands_on_the_clean_profile(tmp_path: Path) -> None:
    path = tmp_path / "icc.svs"
    write_svs(path, tissue_image(600, 600, 10, 10), mpp=0.5, icc_profile=scanner_profile(4))
    with opened(path) as slide:
        assert slide.info.icc_profile == anonymous_profile(scanner_profile(4))
    assert describe(path)["has_icc_profile"]
