"""What is expected of shipped codecs on tissue: interpolated between qualities, and unknown for other weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsicomp.errors import ModelError
from wsicomp.models import expected
from wsicomp.models.expected import expected_of
from wsicomp.models.shipped import shipped_sums


def test_expectations_lie_between_measured_qualities() -> None:
    sha256 = shipped_sums()["wsic"]
    low, between, high = (expected_of(sha256, 3, quality) for quality in (4, 4.5, 5))
    assert low is not None
    assert between is not None
    assert high is not None
    assert low.psnr_db < between.psnr_db < high.psnr_db
    assert between.drift == pytest.approx((low.drift + high.drift) / 2)


def test_a_codec_without_qualities_has_expectations_too() -> None:
    assert expected_of(shipped_sums()["perticarari2023"], 3, None) is not None


def test_what_was_not_measured_is_unknown() -> None:
    assert expected_of("0" * 64, 3, 4) is None
    assert expected_of(shipped_sums()["wsic-open"], 9, 4) is None


def test_a_lost_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected, "shipped_path", lambda name: tmp_path / f"{name}.safetensors")
    with pytest.raises(ModelError, match=r"wsic\.json: missing or damaged"):
        expected_of(shipped_sums()["wsic"], 3, 4)
