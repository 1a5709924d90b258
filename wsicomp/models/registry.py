"""The registry of models: a weights file, by name or by path, becomes the network that it belongs to.

A weights file says in its header which model it belongs to and with which settings that model is built, so that a name
or a path is all a caller needs:

    "perticarari2023"            -> weights shipped with the package, checked -> module, SHA-256, notes
    path/to/weights.safetensors  -> weights of one's own                      -> module, SHA-256, notes

A model is known here once its file is imported below, because it registers itself (`family`). A weights file is read
once: the bytes that are hashed are those that are parsed. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from wsicomp.disk import replacing
from wsicomp.errors import ModelError
from wsicomp.models.arrays import ARRAYS
from wsicomp.models.autoencoder import STUDY_CODEC
from wsicomp.models.classifier import CLASSIFIER
from wsicomp.models.family import Family, registered
from wsicomp.models.hyperprior import PEERS
from wsicomp.models.shipped import SUFFIX, read_shipped, shipped_sums
from wsicomp.models.wsic import WSIC

__all__ = [
    "CLASSIFIER",
    "PEERS",
    "STUDY_CODEC",
    "WSIC",
    "LoadedModel",
    "describe_shipped",
    "load_model",
    "save_model",
    "shipped",
]

METADATA = "wsicomp"


@dataclass(frozen=True)
class LoadedModel:
    """A network in evaluation mode, with what its weights file says of it.

    Parameters
    ----------
    key
        Key of the model.
    family
        Family of the model.
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
    family: Family
    name: str
    sha256: str
    notes: dict[str, str]
    module: nn.Module
    arrays: dict[str, NDArray[Any]]

    def arrays_of(self, depth: int) -> dict[str, NDArray[Any]]:
        """Arrays of one depth, kept as "DEPTH/NAME", by name."""
        prefix = f"{depth}/"
        return {name.removeprefix(prefix): array for name, array in self.arrays.items() if name.startswith(prefix)}


def shipped(family: Family | None = None) -> tuple[str, ...]:
    """Names of the weights that come with the package, of one family or of all.

    Raises
    ------
    ModelError
        If one of the files is damaged.
    """
    names = tuple(shipped_sums())
    return names if family is None else tuple(name for name in names if _read(name).family == family)


def describe_shipped() -> list[dict[str, Any]]:
    """Name, model key, family, bytes and SHA-256 of all shipped weights, and their training's notes; JSON values.

    Raises
    ------
    ModelError
        If one of the files is damaged.
    """
    files = {name: _read(name) for name in shipped()}
    return [
        {
            "name": name,
            "model": file.model,
            "family": file.family,
            "bytes": file.size_bytes,
            "sha256": file.sha256,
            "notes": file.notes,
        }
        for name, file in files.items()
    ]


def load_model(source: str | Path, *, family: Family | None = None, key: str | None = None) -> LoadedModel:
    """Load shipped weights by name, or weights of one's own by path.

    Parameters
    ----------
    source
        Name of shipped weights, or path of a safetensors file.
    family
        The family that the model must be of; None takes any.
    key
        The model that the weights must belong to; None takes any.

    Raises
    ------
    ModelError
        If there are no such weights, the file is damaged, or it belongs to another model or family.
    """
    file = _read(source, family)
    model = registered(file.model)
    if model is None:
        raise ModelError(f"{file.label}: weights of '{file.model}', which this version does not know")
    if family not in (None, model.family):
        raise ModelError(
            f"{file.label}: weights of '{file.model}', a {model.family}, where a {family} is needed: "
            f"{' or '.join(shipped(family))}"
        )
    if key not in (None, file.model):
        raise ModelError(f"{file.label}: weights of '{file.model}', where '{key}' is needed")
    tensors = dict(file.tensors)
    arrays = {name.removeprefix(ARRAYS): tensors.pop(name).numpy() for name in file.tensors if name.startswith(ARRAYS)}
    try:
        module = model.build(**file.settings)
        module.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{file.label}: damaged, or not made by this version; get the file again") from error
    return LoadedModel(file.model, model.family, file.name, file.sha256, file.notes, module.eval(), arrays)


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


@dataclass(frozen=True)
class _WeightsFile:
    """A weights file, parsed; of shipped weights only after their sum was checked."""

    name: str
    label: str
    sha256: str
    size_bytes: int
    model: str
    settings: dict[str, Any]
    notes: dict[str, str]
    tensors: dict[str, Tensor]

    @property
    def family(self) -> Family | None:
        """Family of its model; None for a model that this version does not know."""
        model = registered(self.model)
        return None if model is None else model.family


def _read(source: str | Path, family: Family | None = None) -> _WeightsFile:
    path = Path(source)
    if str(source) in shipped_sums():
        content, sha256 = read_shipped(str(source))
        return _parsed(str(source), f"{source}{SUFFIX}", content, sha256)
    if not path.is_file():
        raise ModelError(f"{source}: no such weights; give a {SUFFIX} file, or one of: {', '.join(shipped(family))}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path.name}: cannot be read ({error.strerror}); check the file's permissions") from error
    # Every run calls its weights the same; its folder tells them apart.
    name = path.resolve().parent.name if path.stem == "weights" else path.stem
    return _parsed(name, path.name, content, hashlib.sha256(content).hexdigest())


def _parsed(name: str, label: str, content: bytes, sha256: str) -> _WeightsFile:
    try:
        tensors = load(content)
        # The file begins with the length of its header, 8 bytes, and the header, JSON; `load` has checked both.
        entries = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{label}: not a safetensors file, or damaged") from error
    text = entries.get("__metadata__", {}).get(METADATA)
    if text is None:
        raise ModelError(f"{label}: safetensors of another program; weights of wsicomp name their model")
    try:
        found = json.loads(text)
        says = found["model"], dict(found["settings"]), dict(found["notes"])
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{label}: damaged, or not made by this version; get the file again") from error
    return _WeightsFile(name, label, sha256, len(content), *says, tensors)
