from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.stores import Content, make_content, write_content


@pytest.fixture(scope="module", autouse=True)
def no_sync() -> Iterator[None]:
    """Skip fsync, most of a small store's time and only of use in a power cut; one test asks for it by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def content() -> Content:
    return make_content()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, content: Content) -> Path:
    path = tmp_path_factory.mktemp("template") / "slide.zarr"
    write_content(path, content)
    return path


@pytest.fixture
def store(tmp_path: Path, template: Path) -> Path:
    """A complete store of `content`, to be damaged at will."""
    path = tmp_path / "slide.zarr"
    shutil.copytree(template, path)
    return path
