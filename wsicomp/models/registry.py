"""The registry of models, and their weights as safetensors files.

A weights file says in its header which model it belongs to and with which settings that model is built, so that a name
or a path is all a caller needs:

    "perticarari2023"            -> weights shipped with the package -> module, SHA-256, notes
    path/to/weights.safetensors  -> weights of one's own             -> module, SHA-256, notes

Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from wsicomp.disk import replacing
from wsicomp.errors import ModelError
from wsicomp.models.autoencoder import StudyAutoencoder
from wsicomp.models.classifier import StudyClassifier
from wsicomp.models.wsic import Wsic

__all__ = [
    "CLASSIFIER",
    "STUDY_CODEC",
    "WSIC",
    "LoadedModel",
    "describe_shipped",
    "find_shipped",
    "load_model",
    "read_card",
    "save_model",
    "shipped",
]

STUDY_CODEC = "perticarari2023"
WSIC = "wsic"
CLASSIFIER = "perticarari2023-classifier"

BUILDERS: Mapping[str, Callable[..., nn.Module]] = {
    STUDY_CODEC: StudyAutoencoder,
    WSIC: Wsic,
    CLASSIFIER: StudyClassifier,
}
WEIGHTS = Path(__file__).parent / "weights"
SUFFIX = ".safetensors"
METADATA = "wsicomp"
ARRAYS = "arrays/"


@dataclass(frozen=True)
class Header:
    """What a weights file says of itself, under one key of its metadata."""

    model: str
    settings: dict[str, Any]
    notes: dict[str, str]


@dataclass(frozen=True)
class LoadedModel:
    """A network in evaluation mode, with what its weights file says of it.

    Parameters
    ----------
    key
        Registry key of the model.
    name
        Name of the shipped weights, or of the file, or of a run's folder.
    sha256
        SHA-256 of the weights file, 64 hexadecimal digits.
    notes
        What training recorded: classes, threshold, data and the like; strings.
    arrays
        Integer arrays that go with the weights, such as the tables of an entropy coder, by name.
    """

    key: str
    name: str
    sha256: str
    notes: dict[str, str]
    module: nn.Module
    arrays: dict[str, NDArray[Any]]

    def arrays_of(self, depth: int) -> dict[str, NDArray[Any]]:
        """Arrays of one depth, kept as "DEPTH/NAME", by name."""
        prefix = f"{depth}/"
        return {name.removeprefix(prefix): array for name, array in self.arrays.items() if name.startswith(prefix)}


def shipped(key: str | None = None) -> dict[str, Path]:
    """Names and files of the weights that come with the package, of one model key or of all."""
    found = {path.stem: path for path in sorted(WEIGHTS.glob(f"*{SUFFIX}"))}
    return {name: path for name, path in found.items() if key is None or _header(path).model == key}


def find_shipped(sha256: str) -> str | None:
    """Name of the shipped weights whose file has this SHA-256; None if none has."""
    found = (name for name, path in shipped().items() if hashlib.sha256(path.read_bytes()).hexdigest() == sha256)
    return next(found, None)


def describe_shipped() -> list[dict[str, Any]]:
    """Name, model key, bytes and SHA-256 of all shipped weights, and the notes of their training; JSON values."""
    return [
        {
            "name": name,
            "model": _header(path).model,
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "notes": _header(path).notes,
        }
        for name, path in shipped().items()
    ]


def read_card(name: str) -> str:
    """Card of shipped weights, Markdown.

    Raises
    ------
    ModelError
        If no weights of that name are shipped.
    """
    if name not in shipped():
        raise ModelError(f"{name}: no such weights; the shipped ones are: {', '.join(shipped())}")
    return (WEIGHTS / f"{name}.md").read_text(encoding="utf-8")


def load_model(source: str | Path, *, key: str | None = None) -> LoadedModel:
    """Load shipped weights by name, or weights of one's own by path.

    Parameters
    ----------
    source
        Name of shipped weights, or path of a safetensors file.
    key
        The model that the weights must belong to; None takes any.

    Raises
    ------
    ModelError
        If there are no such weights, the file is damaged, or it belongs to another model.
    """
    path = WEIGHTS / f"{source}{SUFFIX}"
    if not path.is_file():
        path = Path(source)
    if not path.is_file():
        names = ", ".join(shipped(key))
        raise ModelError(f"{source}: no such weights; give a {SUFFIX} file, or one of: {names}")
    header = _header(path)
    if key is not None and header.model != key:
        raise ModelError(f"{path.name}: weights of '{header.model}', where '{key}' is needed")
    if header.model not in BUILDERS:
        raise ModelError(f"{path.name}: weights of '{header.model}', which this version does not know")
    try:
        module = BUILDERS[header.model](**header.settings)
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        arrays = {n.removeprefix(ARRAYS): tensors.pop(n).numpy() for n in list(tensors) if n.startswith(ARRAYS)}
        module.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (SafetensorError, RuntimeError, TypeError, ValueError, OSError) as error:
        raise ModelError(f"{path.name}: damaged, or not made by this version; get the file again") from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    # Every run calls its weights the same; its folder tells them apart.
    name = path.resolve().parent.name if path.stem == "weights" else path.stem
    return LoadedModel(header.model, name, digest, header.notes, module.eval(), arrays)


def save_model(
    path: Path,
    module: nn.Module,
    *,
    key: str,
    settings: Mapping[str, Any],
    notes: Mapping[str, str],
    dtype: torch.dtype = torch.float32,
    arrays: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Write weights as safetensors, whole or not at all.

    Parameters
    ----------
    settings
        Keyword arguments that build the module again; JSON values.
    notes
        What a reader of the weights should know: classes, threshold, data, licence.
    dtype
        Type of the stored tensors; float16 halves the file. Counters stay integers, which float16 could not hold.
    arrays
        Integer arrays to keep beside the weights.
    """
    tensors = {
        name: tensor.detach().cpu().to(dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in module.state_dict().items()
    }
    tensors |= {ARRAYS + name: torch.from_numpy(array).contiguous() for name, array in (arrays or {}).items()}
    header = {"model": key, "settings": dict(settings), "notes": dict(notes)}
    with replacing(path) as partial:
        # One entry only: safetensors writes several in random order, and equal weights should have equal bytes.
        save_file(tensors, partial, metadata={METADATA: json.dumps(header, sort_keys=True)})


def _header(path: Path) -> Header:
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path.name}: not a safetensors file, or damaged") from error
    if text is None:
        raise ModelError(f"{path.name}: safetensors of another program; weights of wsicomp name their model")
    try:
        found = json.loads(text)
        header = Header(found["model"], dict(found["settings"]), dict(found["notes"]))
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path.name}: damaged, or not made by this version; get the file again") from error
    return header
