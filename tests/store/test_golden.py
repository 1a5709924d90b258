"""Every store that a released format has written is read exactly, for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.make_golden import FOLDER, GOLDEN, main
from tests.store.stores import assert_holds
from wsicomp.store.reader import StoreReader
from wsicomp.store.verify import verify


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_stores_are_read_exactly(name: str) -> None:
    with StoreReader(FOLDER / name) as reader:
        assert_holds(reader, GOLDEN[name])
    assert verify(FOLDER / name) == []


@pytest.mark.parametrize("name", GOLDEN)
def test_this_release_writes_the_same_format(name: str, tmp_path: Path) -> None:
    main(tmp_path)
    with StoreReader(tmp_path / name) as new, StoreReader(FOLDER / name) as old:
        assert new.header == old.header
        assert new.icc_profile == old.icc_profile
