"""Weights files: safetensors, with everything that is needed to use them in the header, and no pickle.

Weights that are not finite are neither written nor read: NaN passes silently through comparisons further on.
"""

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
from nas.data.transforms import AREA, INTERPOLATIONS
from nas.supernet.supernet import Supernet
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.image_size import ImageSize
from search_spaces.json_checks import JsonObject, parse_json
from search_spaces.space import SearchSpace
from search_spaces.spaces import SPACES, space_of
from search_spaces.text import brief

FORMAT = "1"


def _write(path: Path, module: nn.Module, kind: str, header: Mapping[str, Any]) -> Path:
    from safetensors.torch import save

    tensors = {name: t.detach().cpu().contiguous() for name, t in module.state_dict().items()}
    if bad := _not_finite(tensors):
        raise InputError(f"weights for {path} are not finite ({bad})", "finite numbers", "the file is not written")
    metadata = {"format": FORMAT, "kind": kind, **{k: json.dumps(v) for k, v in header.items()}}
    return atomic_write(path, _in_order(save(tensors, metadata)))


def _in_order(content: bytes) -> bytes:
    """Return a safetensors file with its metadata in alphabetical order; safetensors writes it in a random one, so that
    equal weights would be different files."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned to 8 bytes
    return len(text).to_bytes(8, "little") + text + content[end:]


def _not_finite(tensors: Mapping[str, Tensor]) -> str:
    """Return the first tensor with a NaN or an infinity, and how many there are; empty if there is none."""
    floats = {name: t for name, t in tensors.items() if t.is_floating_point()}
    # torch.isfinite does not take float8
    wide = {name: t if t.element_size() > 1 else t.float() for name, t in floats.items()}
    names = [name for name, t in wide.items() if not bool(torch.isfinite(t).all())]
    return f"{brief(names[0])}, {len(names)} of {len(tensors)} tensors" if names else ""


def is_supernet(path: Path) -> bool:
    """Return whether ``path`` contains the weights of a supernet; False for a file that is no weights file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return bool((file.metadata() or {}).get("kind") == "supernet")
    except (SafetensorError, OSError):
        return False


def record_of(path: Path | None) -> dict[str, Any]:
    """Return the record in the header of a weights file, without its tensors; empty for None and for a file that is no
    weights file of this program."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get("record", "{}")
    except (SafetensorError, OSError, TypeError):  # TypeError: None
        return {}
    record = parse_json(text, f"{path}: record")
    return record if isinstance(record, dict) else {}


def ancestors_of(path: Path) -> list[dict[str, Any]]:
    """Return the published weights that a weights file descends from: file, hash, reference and licence of each.

    Empty for weights that began at random, and for a file that is no weights file of this program.
    """
    record = record_of(path)
    own = [record["imported"]] if isinstance(record.get("imported"), dict) else []
    return own + [a for a in record.get("ancestors") or [] if isinstance(a, dict)]


def interpolation_of(path: Path | None) -> str:
    """Return how images are shrunk for the networks of a weights file (:data:`nas.data.transforms.INTERPOLATIONS`).

    The file says it if it descends from published weights; ``area`` for all others, for None, and for a file that is no
    weights file. Raises InputError for another text.
    """
    return interpolation_in(record_of(path), str(path))


def interpolation_in(record: Mapping[str, Any], where: str) -> str:
    """Return the interpolation of a record, ``area`` by default. Raises InputError that names ``where`` for another
    text than those of :data:`nas.data.transforms.INTERPOLATIONS`."""
    found = record.get("interpolation", AREA)
    if found not in INTERPOLATIONS:
        raise InputError(f"{where}: interpolation {brief(found)}", f"one of {', '.join(INTERPOLATIONS)}")
    return str(found)


def trained_image_sizes(space: SearchSpace, record: Mapping[str, Any], where: str) -> list[ImageSize]:
    """Return the image sizes that a supernet of ``space`` was trained at, by its record.

    Older files have no such record: their supernets were trained at the largest size alone. Raises
    InputError that names ``where`` for values that are none.
    """
    found = record.get("image_sizes", [space.image_sizes[-1].value])
    if not isinstance(found, list):
        raise InputError(f"{where}: image sizes {brief(found)}", "a list of sizes")
    return [ImageSize.of(size) for size in found]


def digest_of(path: Path) -> str:
    """Return 16 hex digits of the SHA-256 of a file, which identify weights by content. Raises InputError if the file
    cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})", "a weights file") from None
    return digest.hexdigest()[:16]


def _read_header(path: Path, kind: str) -> JsonObject:
    """Return the checked metadata of a weights file. Raises InputError if the file is no readable weights file of this
    kind."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"no weights file {path}", "a .safetensors file of this program")
    if path.suffix == ".json":
        raise InputError(f"{path} is an architecture file", "trained weights (.safetensors)", "nas train writes them")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        if path.suffix != ".safetensors":  # an image, a table, an exported model: the first bytes mean nothing
            raise InputError(f"{path} is no weights file", "trained weights (.safetensors)") from None
        raise InputError(f"weights file {path} cannot be read ({error})", "a whole .safetensors file") from None
    if (header.get("format"), header.get("kind")) != (FORMAT, kind):
        raise InputError(
            f"{path} holds {header.get('kind', 'unknown')!r} weights",
            f"those of a {kind}",
            "give the file that this verb needs",
        )
    fields = {k: parse_json(v, f"{path}: {k}") for k, v in header.items() if k not in ("format", "kind")}
    return JsonObject(fields, str(path))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file. Raises InputError if they cannot be read, or one is not finite."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise InputError(f"weights file {path} cannot be read ({error})", "a whole .safetensors file") from None
    if bad := _not_finite(tensors):
        raise InputError(
            f"{path} holds weights that are not finite ({bad})",
            "finite numbers",
            "the training diverged or the file is damaged: train again, or use an earlier checkpoint",
        )
    return tensors


def save_detector(path: Path, detector: Detector, artifact: Artifact, record: Mapping[str, Any]) -> Path:
    """Write a detector in training form, with the content of its architecture file and ``record`` (metrics, recipe)
    in the header. Raises InputError if a weight is not finite or the file cannot be written."""
    return _write(path, detector, "detector", {"artifact": artifact.to_dict(), "record": dict(record)})


def load_detector(path: Path) -> tuple[Detector, Artifact, dict[str, Any]]:
    """Return the detector (training form, evaluation mode), its architecture file's content and its record.

    Raises InputError if the file cannot be read, is damaged, or has a weight that is not finite.
    """
    header = _read_header(path, "detector")
    try:
        artifact = Artifact.from_dict(header.entries.get("artifact"))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    record, tensors = _record(header), _read_tensors(path)
    detector = space_of(artifact.architecture).build(artifact.architecture, artifact.num_classes)
    _load(detector, tensors, path)
    return detector.eval(), artifact, record


def save_supernet(path: Path, supernet: Supernet, classes: tuple[str, ...], record: Mapping[str, Any]) -> Path:
    """Write a supernet with its space, the values of the choices, its classes and ``record`` in the header. Raises
    InputError if a weight is not finite or the file cannot be written."""
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
    """Return the supernet, its classes and its record.

    Raises InputError if the file cannot be read, is damaged, is of another version of the space, or has a weight that
    is not finite.
    """
    header = _read_header(path, "supernet")
    classes = header.texts("classes")
    if not classes:
        raise InputError(f"{path}: no classes", "at least one class name")
    space = _space(header, path)
    record, tensors = _record(header), _read_tensors(path)
    supernet = Supernet(space, len(classes))
    _load(supernet, _with_private(tensors, supernet), path)
    return supernet, classes, record


def _with_private(tensors: dict[str, Tensor], supernet: Supernet) -> dict[str, Tensor]:
    """Return the tensors of a file; older ones have no weights of single image sizes, those of the largest stand in."""
    shared = {f"private.{key}": f"weights.{key.partition('@')[0]}" for key in supernet.private}
    if any(name in tensors for name in shared) or not all(name in tensors for name in shared.values()):
        return tensors
    return tensors | {name: tensors[of] for name, of in shared.items()}


def space_of_supernet(path: Path) -> SearchSpace:
    """Return the search space of a supernet's file, restricted to the values that the supernet has.

    Raises InputError if the file cannot be read, or is of another version of the space.
    """
    return _space(_read_header(path, "supernet"), path)


def _space(header: JsonObject, path: Path) -> SearchSpace:
    version = header.integer("version")
    try:
        space = SPACES[header.text("space")].at_version(version)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if space.version != version:
        raise InputError(
            f"{path} is of {space.name} version {version}", f"version {space.version}", "train the supernet again"
        )
    values = header.object("values")
    try:
        return space.restrict({name: tuple(values.array(name)) for name in values.entries})
    except (InputError, TypeError) as error:  # TypeError: an array or object as a value
        raise InputError(f"{path}: values of the space cannot be used ({error})") from None


def _record(header: JsonObject) -> dict[str, Any]:
    if "record" not in header.entries:
        return {}
    record = header.object("record")
    if "metrics" in record.entries:
        _check_metrics(record.object("metrics"))
    return dict(record.entries)


def _check_metrics(metrics: JsonObject) -> None:
    """Check the metrics of a record; NaN and text are found here and not where they are computed with.

    Raises InputError unless they are numbers from 0 to 1 or null, ``per_class`` an object of such, and
    ``map_interval`` an array of such.
    """
    classes = metrics.object("per_class") if "per_class" in metrics.entries else JsonObject({}, metrics.where)
    ends = metrics.array("map_interval") if metrics.has("map_interval") else []
    interval = JsonObject({str(i): end for i, end in enumerate(ends)}, f"{metrics.where}: map_interval")
    for part in (metrics, classes, interval):
        for name in part.entries:
            if part.has(name) and not (part is metrics and name in ("per_class", "map_interval")):
                part.number(name, 0, 1)


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
