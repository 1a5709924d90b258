"""Facts of a slide come out of JSON as they went in, and nothing else is taken for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from wsicomp.slides.facts import SlideFacts
from wsicomp.slides.local import open_native


@pytest.fixture(scope="module")
def facts(tissue_svs: Path) -> SlideFacts:
    return open_native(tissue_svs).facts


def test_facts_pass_through_json(facts: SlideFacts) -> None:
    assert any(facts.encoded_levels)
    for changed in (facts, replace(facts, icc_profile=bytes(range(256)), mpp=None, bounds_px=(1, 2, 3, 4))):
        assert SlideFacts.from_json(changed.to_json()) == changed


@pytest.mark.parametrize("change", [{"more": 1}, {"icc_profile": "no base64!"}])
def test_what_is_no_facts_is_refused(facts: SlideFacts, change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"fields|base64"):
        SlideFacts.from_json(json.dumps({**json.loads(facts.to_json()), **change}))
