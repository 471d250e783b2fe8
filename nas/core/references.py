"""Lookup of models by name: a reference model, a family, a pattern, or a file. Imports no torch."""

from __future__ import annotations

import difflib
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from nas.core.architecture_file import Artifact, DataRecord, StudyRecord, read_artifact
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.image_size import AnySize, ImageSize
from search_spaces.references import FAMILIES, Reference, reference, references
from search_spaces.registry import unknown
from search_spaces.spaces import space_of

NO_DATA = DataRecord("none", "none")
NO_STUDY = StudyRecord("none", None, None, 0)
COCO_CLASSES = 80
PUBLISHED_SIZE = 640
"""Image size in pixels of the published figures, with :data:`COCO_CLASSES` classes."""


class ClassesOfData(Protocol):
    """The attributes of a data set that an architecture file records; :class:`nas.data.source.DataPair` has them."""

    @property
    def name(self) -> str:
        """Name of the data set."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the content."""


def unnamed_classes(count: int) -> tuple[str, ...]:
    """Return class names without a data set. Raises InputError for fewer than one class."""
    if count < 1:
        raise InputError(f"{count} classes", "1 or more")
    return tuple(f"class{i}" for i in range(count))


def reference_artifact(name: str, num_classes: int = COCO_CLASSES, image_size: AnySize | None = None) -> Artifact:
    """Return a reference model as the content of an architecture file, without study, data set and estimates.

    ``image_size`` replaces the model's own. Raises InputError for an unknown name or a size that its space
    does not have.
    """
    architecture = reference(name).architecture
    if image_size is not None:
        architecture = architecture.replace(image_size=ImageSize.of(image_size).value)
        space_of(architecture)
    return Artifact(name, architecture, (), NO_STUDY, unnamed_classes(num_classes), NO_DATA)


def resized(artifact: Artifact, image_size: AnySize | None) -> Artifact:
    """Return the content of an architecture file at another image size; at None, as it is.

    The estimates are dropped: they are of the other size. Raises InputError for a size that its space does not have.
    """
    if image_size is None or ImageSize.of(image_size) == artifact.architecture.image_size:
        return artifact
    architecture = artifact.architecture.replace(image_size=ImageSize.of(image_size).check().value)
    space_of(architecture)
    return replace(artifact, architecture=architecture, estimates=())


def is_reference(path: Path) -> bool:
    """Return whether a path is the name of a reference model; a file of that name takes precedence."""
    return not path.is_file() and str(path) in references()


def artifact_of(path: Path) -> Artifact:
    """Return the content of an architecture file or of a reference model named in its place. Raises InputError for
    neither."""
    if is_reference(path):
        return reference_artifact(str(path))
    return read_artifact(existing_model(path))


def existing_model(path: Path) -> Path:
    """Return the path if it is a file or a reference model. Raises InputError with the nearest name otherwise."""
    if path.exists() or is_reference(path):
        return path
    near = difflib.get_close_matches(str(path), references(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else "check the path"
    raise InputError(f"no such model: {path}", "a file, or the name of a reference (nas models lists them)", hint)


def with_classes_of(artifact: Artifact, data: ClassesOfData) -> Artifact:
    """Return the architecture file's content with the classes of a data set.

    An architecture does not depend on its classes. Its estimates do: they are dropped if the classes change.
    """
    if artifact.data != NO_DATA and artifact.classes == data.classes:
        return artifact
    estimates = artifact.estimates if artifact.classes == data.classes else ()
    record = DataRecord(data.name, data.fingerprint)
    return replace(artifact, classes=data.classes, data=record, estimates=estimates)


def matching(word: str) -> list[Reference]:
    """Return the reference models that a word names: a name, else a family, else a pattern of either (``yolov8*``,
    case-insensitive), or ``all``.

    Raises InputError if there is none.
    """
    known = references()
    if word in known:
        return [known[word]]
    exact = [r for r in known.values() if word in ("all", r.family)]
    pattern = word.casefold()
    found = exact or [r for r in known.values() if any(fnmatchcase(n.casefold(), pattern) for n in (r.name, r.family))]
    if not found:
        raise unknown("model", word, (*FAMILIES, *known))
    return found


def reference_of(architecture: Architecture) -> Reference | None:
    """Return the reference model that an architecture is, at any image size and with any options of its space; None if
    it is none."""
    for r in references().values():
        own = r.architecture
        if own.space == architecture.space and own == _usual(architecture.replace(image_size=own["image_size"])):
            return r
    return None


def _usual(architecture: Architecture) -> Architecture:
    space = space_of(architecture)
    return space.with_options(architecture) if space.options else architecture
