"""Every store that a released format has written is read exactly, for ever."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.golden.make_golden import FOLDER, GOLDEN, GOLDEN_PICTURES, main
from tests.store.stores import assert_holds
from wsicomp.store.container import open_container
from wsicomp.store.manifest import Manifest
from wsicomp.store.reader import StoreReader, read_manifest
from wsicomp.store.schema import FORMAT_VERSION
from wsicomp.store.tiles import Glass, Latent, Picture
from wsicomp.store.verify import verify

NEWEST = [name for name in GOLDEN if name.startswith(f"v{FORMAT_VERSION}-")]


def manifest_of(path: Path) -> Manifest:
    return read_manifest(open_container(path), str(path))


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_stores_are_read_exactly(name: str) -> None:
    with StoreReader(FOLDER / name) as reader:
        assert_holds(reader, GOLDEN[name])
        assert reader.header.format_version == int(name[1])
    assert manifest_of(FOLDER / name).format_version == int(name[1])
    assert verify(FOLDER / name) == []


@pytest.mark.parametrize("name", GOLDEN_PICTURES)
def test_golden_stores_of_all_kinds_of_tiles_are_read_exactly(name: str) -> None:
    golden = GOLDEN_PICTURES[name]
    seen = set()
    with StoreReader(FOLDER / name) as reader:
        assert reader.header == golden.content.header
        for level, mask in enumerate(golden.content.masks):
            np.testing.assert_array_equal(reader.fidelity(level), golden.fidelity[level])
            for row, col in np.ndindex(mask.shape):
                tile = reader.read_tile(level, row, col)
                seen.add(type(tile))
                match tile:
                    case Picture():
                        np.testing.assert_array_equal(tile.pixels(), golden.pictures[level][row, col])
                    case Latent():
                        np.testing.assert_array_equal(tile.values, golden.content.tile(level, row, col))
                        assert tile.quality == golden.quality[level][row, col] / 16
                    case Glass():
                        assert not mask[row, col]
    assert seen == {Glass, Latent, Picture}
    assert verify(FOLDER / name) == []


@pytest.mark.parametrize("name", NEWEST)
def test_this_release_writes_the_same_format(name: str, tmp_path: Path) -> None:
    main(tmp_path)
    with StoreReader(tmp_path / name) as new, StoreReader(FOLDER / name) as old:
        assert new.header == old.header
        assert new.icc_profile == old.icc_profile


@pytest.mark.parametrize("name", NEWEST)
def test_a_newer_format_has_not_moved_the_bytes_of_a_chunk(name: str) -> None:
    new, old = (manifest_of(FOLDER / found).files for found in (name, f"v1{name[2:]}"))
    chunks = [path for path in new if path.startswith("latents/") and not path.endswith("zarr.json")]
    assert chunks
    assert [new[path] for path in chunks] == [old[path] for path in chunks]
