"""Published weights of a YOLO as a weights file of this program: the family and size recognised, every tensor placed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.core.architecture_file import Artifact, DataRecord
from nas.core.references import NO_STUDY, unnamed_classes
from nas.data.source import cache_folder
from nas.pretrained.checkpoint import SUFFIXES, Checkpoint, open_checkpoint
from nas.pretrained.families import WEIGHT_MAPS
from nas.pretrained.families.base import Tensors, WeightMap, with_identity_norms
from nas.supernet.weights import digest_of, save_detector
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.references import FAMILIES, Reference, references
from search_spaces.spaces import space_of

PUBLISHED_SIZE = 640
SHOWN = 3
"""Names that an error lists of each kind."""


@dataclass(frozen=True)
class Fit:
    """How a checkpoint's tensors fit a reference: renamed, those of the network without one, those without a place."""

    reference: Reference
    num_classes: int
    tensors: Tensors
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    misfits: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether every tensor of the file has a place of its shape, and every place its tensor."""
        return not (self.missing or self.unused or self.misfits)

    @property
    def badness(self) -> int:
        """The number of tensors that do not fit."""
        return len(self.missing) + len(self.unused) + len(self.misfits)


@dataclass(frozen=True)
class Imported:
    """What an import wrote: the reference, its number of tensors and parameters, and what the file says of itself."""

    reference: str
    family: str
    tensors: int
    parameters: int
    classes: tuple[str, ...]
    image_size: int
    licence: str
    folded: bool

    def lines(self) -> list[str]:
        """The report for a terminal."""
        named = f"{len(self.classes)} classes ({', '.join(self.classes[:3])}{', …' if len(self.classes) > 3 else ''})"
        lines = [
            f"{self.reference} ({self.family}): all {self.tensors} tensors placed, {self.parameters:,} parameters, {named}",
            f"licence of these weights: {self.licence}",
        ]
        if self.folded:
            lines.append(
                "BatchNorm was folded in this file and is an identity now: recalibrate or train before quantizing"
            )
        return lines


def import_weights(path: Path, out: Path, accept_licence: bool = False) -> Imported:
    """Convert published weights into a weights file ``out`` (``.safetensors``) in training form.

    The header keeps the source file's name and hash, its classes and its licence. Every tensor of the file is used
    exactly once and every tensor of the network is filled.

    Args:
        path: a ``.pt``, ``.pth``, ``.onnx`` or ``.safetensors`` file of a family in
            :data:`nas.pretrained.families.WEIGHT_MAPS`.
        out: the file to be written.
        accept_licence: whether the user agrees to a licence that forbids most uses (YOLO-NAS).

    Raises:
        InputError: for a file that is damaged, of no known family, or does not fit exactly (the odd tensors are
            named), and for a restricted licence that was not accepted.
    """
    checkpoint = open_checkpoint(path)
    weight_map, fit = best_fit(checkpoint, path)
    if not fit.exact:
        raise _misfit(path, weight_map, fit)
    licence = checkpoint.licence or weight_map.licence
    if weight_map.restricted and not accept_licence:
        raise InputError(
            f"{path} is under a restricted licence: {licence}", "--accept-licence, if it allows your use of the weights"
        )
    detector, artifact = _detector(checkpoint, fit, path)
    imported = _summary(checkpoint, fit, detector, artifact, licence)
    save_detector(out, detector, artifact, {"imported": _record(path, imported)})
    return imported


def weights_file(path: Path, accept_licence: bool = False) -> Path:
    """The weights file of this program for a path that a user named: itself, or what an import of it gives.

    Published weights (every ending but ``.safetensors``) are imported into the user's cache folder, by content.

    Raises InputError as :func:`import_weights`.
    """
    if path.suffix not in SUFFIXES or path.suffix == ".safetensors":
        return path
    if not path.is_file():
        raise InputError(f"no weights file {path}", "a .safetensors file, or published weights", "check the path")
    out = cache_folder() / "imported" / f"{digest_of(path)}.safetensors"
    if not out.is_file():
        out.parent.mkdir(parents=True, exist_ok=True)
        import_weights(path, out, accept_licence)
    return out


def best_fit(checkpoint: Checkpoint, path: Path) -> tuple[WeightMap, Fit]:
    """The family's map and the reference that a checkpoint's tensors fit best; among equal ones the first.

    Raises InputError where the tensors are of no known family.
    """
    found: tuple[WeightMap, Fit] | None = None
    for name in WEIGHT_MAPS:
        weight_map = WEIGHT_MAPS[name]()
        tensors = weight_map.kept(checkpoint.tensors)
        classes = weight_map.num_classes(tensors)
        if classes is None or classes < 1:
            continue
        for candidate in _candidates(weight_map):
            fit = fit_of(weight_map, tensors, candidate, classes)
            if found is None or fit.badness < found[1].badness:
                found = weight_map, fit
            if fit.exact:
                return found
    if found is None:
        raise InputError(
            f"{path} holds no network of a known family ({len(checkpoint.tensors)} tensors, the first "
            f"{next(iter(checkpoint.tensors))!r})",
            f"weights of {', '.join(family for name in WEIGHT_MAPS for family in WEIGHT_MAPS[name].references)}",
        )
    return found


def _candidates(weight_map: WeightMap) -> Iterator[Reference]:
    known = references()
    for family in weight_map.references:
        yield from (known[name] for name in FAMILIES[family])


def fit_of(weight_map: WeightMap, tensors: Mapping[str, Tensor], candidate: Reference, classes: int) -> Fit:
    """The tensors under the names of a reference with a number of classes, and what does not fit."""
    detector = _shapes_only(candidate.name, classes)
    shapes = {n: t.shape for n, t in detector.state_dict().items() if not n.endswith("num_batches_tracked")}
    placed = with_identity_norms(weight_map.renamed(tensors, detector), set(shapes))
    return Fit(
        candidate,
        classes,
        placed,
        tuple(n for n in shapes if n not in placed),
        tuple(n for n in placed if n not in shapes),
        tuple(
            f"{n.removeprefix('cells.')} {tuple(placed[n].shape)} instead of {tuple(shapes[n])}"
            for n in shapes
            if n in placed and placed[n].shape != shapes[n]
        ),
    )


@lru_cache(maxsize=128)
def _shapes_only(reference: str, classes: int) -> Detector:
    """The detector of a reference without values."""
    architecture = references()[reference].architecture
    with torch.device("meta"):
        return space_of(architecture).build(architecture, classes)


def _misfit(path: Path, weight_map: WeightMap, fit: Fit) -> InputError:
    parts = [
        f"{len(names)} {what} (first {', '.join(names[:SHOWN])})"
        for what, names in (
            ("of another shape", fit.misfits),
            ("without a place", fit.unused),
            ("missing", _short(fit.missing)),
        )
        if names
    ]
    why = weight_map.explain(fit.unused, fit.misfits)
    return InputError(
        f"{path} does not fit {fit.reference.name}, the nearest reference: {'; '.join(parts)}",
        "weights of a published network" if not why else f"weights of the published network; {why}",
    )


def _short(names: Iterable[str]) -> list[str]:
    return [name.removeprefix("cells.") for name in names]


def _detector(checkpoint: Checkpoint, fit: Fit, path: Path) -> tuple[Detector, Artifact]:
    architecture = fit.reference.architecture
    size = checkpoint.image_size or PUBLISHED_SIZE
    space = space_of(architecture)
    if size in space["image_size"].values:
        architecture = architecture.replace(image_size=size)
    named = len(checkpoint.classes) == fit.num_classes
    classes = checkpoint.classes if named else unnamed_classes(fit.num_classes)
    detector = space.build(architecture, len(classes))
    own = detector.state_dict()
    counters = {n: torch.zeros_like(t) for n, t in own.items() if n.endswith("num_batches_tracked")}
    detector.load_state_dict(fit.tensors | counters)
    data = DataRecord(f"published weights {path.name}", digest_of(path))
    return detector.eval(), Artifact(fit.reference.name, architecture, (), NO_STUDY, classes, data)


def _summary(checkpoint: Checkpoint, fit: Fit, detector: Detector, artifact: Artifact, licence: str) -> Imported:
    return Imported(
        fit.reference.name,
        fit.reference.family,
        len(fit.tensors),
        sum(p.numel() for p in detector.parameters()),
        artifact.classes,
        int(artifact.architecture["image_size"]),
        licence,
        checkpoint.folded,
    )


def _record(path: Path, imported: Imported) -> dict[str, Any]:
    return {
        "file": path.name,
        "sha256_16": digest_of(path),
        "reference": imported.reference,
        "licence": imported.licence,
        "batch_norm_folded": imported.folded,
    }
