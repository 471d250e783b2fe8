"""Conversion of published YOLO weights into weights files.

1. The checkpoint is read (:mod:`nas.pretrained.checkpoint`).
2. Its tensors are renamed by the name map of each family (:data:`nas.pretrained.families.WEIGHT_MAPS`) and compared
   with each reference of the family, until all tensors fit one reference exactly.
3. The weights are written with their licence, hash and classes.
"""

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
from nas.data.transforms import AREA
from nas.pretrained.checkpoint import SUFFIXES, Checkpoint, open_checkpoint
from nas.pretrained.families import WEIGHT_MAPS
from nas.pretrained.families.base import Tensors, WeightMap, with_identity_norms
from nas.supernet.weights import digest_of, load_detector, save_detector
from search_spaces.architecture import Architecture
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.image_size import ImageSize
from search_spaces.references import FAMILIES, Reference, references
from search_spaces.scaling import BRANCH_CLASSES, branch_classes
from search_spaces.spaces import space_of

PUBLISHED_SIZE = 640
SHOWN = 3
"""Names of each kind that an error message lists, at most."""


@dataclass(frozen=True)
class Fit:
    """The tensors of a checkpoint compared with those of a reference.

    Args:
        reference: The reference.
        architecture: Its architecture, with the options of the checkpoint's network.
        num_classes: Number of classes of the checkpoint.
        tensors: Tensors of the checkpoint, renamed.
        missing: Names of the network that the checkpoint lacks.
        unused: Names of the checkpoint that the network lacks.
        misfits: Names with different shapes, each with both shapes, as text.
    """

    reference: Reference
    architecture: Architecture
    num_classes: int
    tensors: Tensors
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    misfits: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether the names and shapes of the checkpoint are those of the network."""
        return not (self.missing or self.unused or self.misfits)

    @property
    def badness(self) -> int:
        """Number of tensors that do not fit."""
        return len(self.missing) + len(self.unused) + len(self.misfits)


@dataclass(frozen=True)
class Imported:
    """Summary of an import.

    Args:
        reference: Name of the reference.
        family: Name of its family.
        tensors: Number of imported tensors.
        parameters: Number of parameters of the network.
        classes: Class names in the order of the outputs.
        image_size: Of the images.
        licence: Licence of the weights.
        folded: Whether BatchNorm was folded into the convolutions of the file.
        branch_classes: Number of classes that the class branches are made for, if it is not that of the network.
    """

    reference: str
    family: str
    tensors: int
    parameters: int
    classes: tuple[str, ...]
    image_size: ImageSize
    licence: str
    folded: bool
    branch_classes: int | None = None

    def lines(self) -> list[str]:
        """Return the summary as lines of text."""
        named = f"{len(self.classes)} classes ({', '.join(self.classes[:3])}{', …' if len(self.classes) > 3 else ''})"
        lines = [
            f"{self.reference} ({self.family}): all {self.tensors} tensors placed, {self.parameters:,} parameters, {named}",
            f"licence of these weights: {self.licence}",
        ]
        if self.branch_classes is not None:
            lines.append(
                f"its class branches are as wide as for {self.branch_classes} classes, those of the weights that it was "
                f"fine-tuned from; a {self.reference} that is trained or searched from it has those for its own classes"
            )
        if self.folded:
            lines.append(
                "BatchNorm was folded in this file and is an identity now: recalibrate or train before quantizing"
            )
        return lines


def import_weights(path: Path, out: Path, accept_licence: bool = False) -> Imported:
    """Convert published weights into a weights file in training form.

    Every tensor of the source is used exactly once, and every tensor of the network is set. The header of the weights
    file records the name and hash of the source, its classes and its licence.

    Args:
        path: A ``.pt``, ``.pth``, ``.onnx`` or ``.safetensors`` file of a family in
            :data:`nas.pretrained.families.WEIGHT_MAPS`.
        out: Weights file to write (``.safetensors``).
        accept_licence: Whether the user accepts a licence that forbids most uses (YOLO-NAS).

    Raises:
        InputError: if the file is damaged, belongs to no known family or does not fit exactly (the message names the
            tensors that do not fit), if a restricted licence is not accepted, or if ``out`` holds anything but an
            earlier import of the same file.
    """
    _check_free(out, path)
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
    how = {} if weight_map.interpolation == AREA else {"interpolation": weight_map.interpolation}
    save_detector(out, detector, artifact, {"imported": _record(path, imported), **how})
    return imported


def _check_free(out: Path, source: Path) -> None:
    """Raise InputError if ``out`` exists and is no import of ``source``: weights are never replaced by others."""
    if not out.exists():
        return
    try:
        imported = load_detector(out)[2].get("imported")
    except InputError:
        imported = None
    if not isinstance(imported, dict) or imported.get("sha256_16") != digest_of(source):
        raise InputError(f"{out} exists, and is no import of {source}", "an --out that does not exist")


def weights_file(path: Path, accept_licence: bool = False) -> Path:
    """Return the weights file for a path: the path itself, or the imported file of published weights.

    Files with the extension ``.pt``, ``.pth`` or ``.onnx`` are imported into the user's cache folder, under the hash
    of their content. Any other path is returned as it is.

    Raises InputError if published weights do not exist, and as :func:`import_weights`.
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
    """Return the name map and the reference that the tensors of a checkpoint fit best, the first of equal ones.

    Raises InputError if the tensors belong to no known family. The message names ``path``.
    """
    found: tuple[WeightMap, Fit] | None = None
    for name in WEIGHT_MAPS:
        weight_map = WEIGHT_MAPS[name]()
        tensors = weight_map.kept(checkpoint.tensors)
        classes = weight_map.num_classes(tensors)
        if classes is None or classes < 1:
            continue
        for candidate, architecture in _candidates(weight_map):
            fit = fit_of(weight_map, tensors, candidate, classes, architecture)
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


def _candidates(weight_map: WeightMap) -> Iterator[tuple[Reference, Architecture]]:
    """Yield the references of a family with their architectures, first as they are, then with each option of their
    space."""
    known = references()
    found = [known[name] for family in weight_map.references for name in FAMILIES[family]]
    yield from ((reference, reference.architecture) for reference in found)
    for reference in found:
        space = space_of(reference.architecture)
        for option in space.options:
            for value in option.values:
                yield reference, space.with_options(reference.architecture, **{option.name: value})


def fit_of(
    weight_map: WeightMap,
    tensors: Mapping[str, Tensor],
    candidate: Reference,
    classes: int,
    architecture: Architecture | None = None,
) -> Fit:
    """Rename tensors and compare their names and shapes with those of a reference with ``classes`` classes;
    ``architecture``: with options of its space."""
    architecture = architecture or candidate.architecture
    detector = _shapes_only(architecture, classes)
    shapes = {n: t.shape for n, t in detector.state_dict().items() if not n.endswith("num_batches_tracked")}
    placed = with_identity_norms(weight_map.renamed(tensors, detector), set(shapes))
    return Fit(
        candidate,
        architecture,
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
def _shapes_only(architecture: Architecture, classes: int) -> Detector:
    """Return the detector of an architecture on the meta device, with shapes but without values."""
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
    architecture = fit.architecture
    size = checkpoint.image_size or ImageSize.of(PUBLISHED_SIZE)
    space = space_of(architecture)
    if space.nearest_size(size) == size:
        architecture = architecture.replace(image_size=size.value)
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
        artifact.architecture.image_size,
        licence,
        checkpoint.folded,
        branch_classes(fit.architecture).get(BRANCH_CLASSES.name),
    )


def _record(path: Path, imported: Imported) -> dict[str, Any]:
    return {
        "file": path.name,
        "sha256_16": digest_of(path),
        "reference": imported.reference,
        "licence": imported.licence,
        "batch_norm_folded": imported.folded,
    }
