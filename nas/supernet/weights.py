"""Trained weights as files: safetensors, with everything needed to use them in the header. No pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.core.architecture_file import Artifact
from nas.core.atomic import atomic_write
from nas.supernet.supernet import Supernet
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.json_checks import JsonObject, parse_json
from search_spaces.spaces import SPACES, space_of
from search_spaces.text import brief

FORMAT = "1"


def _write(path: Path, module: nn.Module, kind: str, header: Mapping[str, Any]) -> Path:
    from safetensors.torch import save

    tensors = {name: t.detach().cpu().contiguous() for name, t in module.state_dict().items()}
    return atomic_write(
        path, save(tensors, {"format": FORMAT, "kind": kind, **{k: json.dumps(v) for k, v in header.items()}})
    )


def is_supernet(path: Path) -> bool:
    """Whether these are a supernet's weights. Of what is no weights file, who reads it says so."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return bool((file.metadata() or {}).get("kind") == "supernet")
    except (SafetensorError, OSError):
        return False


def digest_of(path: Path) -> str:
    """16 hex digits of a file's content: whose weights these are, wherever the file lies."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})", "a weights file") from None
    return digest.hexdigest()[:16]


def _read(path: Path, kind: str) -> tuple[dict[str, Tensor], JsonObject]:
    """Return the tensors and the checked metadata of a weights file.

    Raises InputError if the file is no readable weights file of this kind, or a weight is not finite.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"no weights file {path}", "a .safetensors file of this program")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise InputError(f"weights file {path} cannot be read ({error})", "a whole .safetensors file") from None
    if (header.get("format"), header.get("kind")) != (FORMAT, kind):
        raise InputError(
            f"{path} holds {header.get('kind', 'unknown')!r} weights",
            f"those of a {kind}",
            "give the file that this verb needs",
        )
    if broken := [name for name, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]:
        raise InputError(
            f"{path} holds weights that are not finite ({brief(broken[0])}, {len(broken)} of {len(tensors)} tensors)",
            "finite numbers",
            "the training diverged or the file is damaged: train again, or use an earlier checkpoint",
        )
    fields = {k: parse_json(v, f"{path}: {k}") for k, v in header.items() if k not in ("format", "kind")}
    return tensors, JsonObject(fields, str(path))


def save_detector(path: Path, detector: Detector, artifact: Artifact, record: Mapping[str, Any]) -> Path:
    """Write a detector in training form with its architecture file's content; ``record`` (metrics, recipe) goes into
    the header too."""
    return _write(path, detector, "detector", {"artifact": artifact.to_dict(), "record": dict(record)})


def load_detector(path: Path) -> tuple[Detector, Artifact, dict[str, Any]]:
    """The detector in training form, evaluation mode, with its artifact and record."""
    tensors, header = _read(path, "detector")
    try:
        artifact = Artifact.from_dict(header.entries.get("artifact"))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    detector = space_of(artifact.architecture).build(artifact.architecture, artifact.num_classes)
    _load(detector, tensors, path)
    return detector.eval(), artifact, _record(header)


def save_supernet(path: Path, supernet: Supernet, classes: tuple[str, ...], record: Mapping[str, Any]) -> Path:
    """Write a supernet's weights with its space, what the space was restricted to, and its classes."""
    space = supernet.space
    header = {
        "space": space.name,
        "version": space.version,
        "values": {c.name: list(c.values) for c in space.choices},
        "classes": list(classes),
        "record": dict(record),
    }
    return _write(path, supernet, "supernet", header)


def load_supernet(path: Path) -> tuple[Supernet, tuple[str, ...], dict[str, Any]]:
    """The supernet, its classes and its record."""
    tensors, header = _read(path, "supernet")
    space, version, classes = SPACES[header.text("space")], header.integer("version"), header.texts("classes")
    if space.version != version:
        raise InputError(
            f"{path} is of {space.name} version {version}", f"version {space.version}", "train the supernet again"
        )
    values = header.object("values")
    try:
        space = space.restrict({name: tuple(values.array(name)) for name in values.entries})
    except TypeError as error:  # an array or object as a value
        raise InputError(f"{path}: values of the space cannot be used ({error})") from None
    supernet = Supernet(space, len(classes))
    _load(supernet, tensors, path)
    return supernet, classes, _record(header)


def _record(header: JsonObject) -> dict[str, Any]:
    return dict(header.object("record").entries) if "record" in header.entries else {}


def _load(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    own = {name: (t.shape, t.dtype) for name, t in module.state_dict().items()}
    given = {name: (t.shape, t.dtype) for name, t in tensors.items()}
    if own != given:
        odd = sorted(own.keys() ^ given.keys()) or sorted(n for n in own if own[n] != given[n])
        raise InputError(
            f"{path} does not fit its architecture ({odd[0]} and {len(odd) - 1} more)",
            "the tensors that its header names",
        )
    with torch.no_grad():
        module.load_state_dict(tensors)
