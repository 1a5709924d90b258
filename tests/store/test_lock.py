from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from wsicomp.errors import StoreError
from wsicomp.store.lock import StoreLock


def test_one_holder_at_a_time_and_no_file_left(tmp_path: Path) -> None:
    first, second = (StoreLock(tmp_path / "lock", "slide.zarr") for _ in range(2))
    first.acquire()
    with pytest.raises(StoreError, match=r"slide\.zarr: another process"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    second.release()
    assert not list(tmp_path.iterdir())


def test_a_lock_released_between_opening_and_locking_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (StoreLock(tmp_path / "lock", "slide.zarr") for _ in range(3))
    first.acquire()
    flock = fcntl.flock

    def late_flock(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        first.release()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late_flock)
    second.acquire()
    with pytest.raises(StoreError):
        third.acquire()
    second.release()
