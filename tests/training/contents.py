"""What a safetensors file holds, to compare two: the order of a header's keys is left open, so bytes may differ."""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open


def contents(path: Path) -> tuple[dict[str, str], dict[str, tuple[str, bytes]]]:
    """Header of a file, and type and bytes of each tensor in it."""
    with safe_open(path, framework="np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return dict(file.metadata() or {}), {name: (str(t.dtype), t.tobytes()) for name, t in tensors.items()}
