"""Architecture files (``S.json``): a chosen architecture with all that training, export and measuring need.

``schemas/architecture.schema.json`` describes their format.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency_db.core.target import Target
from nas.core.atomic import Writer, atomic_write
from nas.core.estimate import Estimate, check_precision
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.json_checks import check_fields, check_type, read_json
from search_spaces.text import brief, json_text

SCHEMA_VERSION = 1
SCHEMA_FILE = Path(__file__).parent / "schemas" / "architecture.schema.json"

_FIELDS = ("schema", "name", "architecture", "estimates", "study", "num_classes", "classes", "data")
_OPTIONAL = ("precision",)
_AGAIN = "write it again with nas search, or take it from a backup"


@dataclass(frozen=True)
class StudyRecord:
    """The origin of an architecture: study, its seed, the trial that proposed it (``None`` if no trial did), and the
    number of trials of the study."""

    name: str
    seed: int | None
    trial: int | None
    trials: int


@dataclass(frozen=True)
class DataRecord:
    """The data set of the estimates and classes. The fingerprint changes when the content of the data set does."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class Artifact:
    """A named architecture with its estimates, study, classes and data set. Raises InputError without a name or class.

    ``classes`` are in the order of the outputs. ``precision`` is the one that the architecture was chosen at and is
    to be deployed in; None where none was chosen (a reference, a file of an older version).
    """

    name: str
    architecture: Architecture
    estimates: tuple[Estimate, ...]
    study: StudyRecord
    classes: tuple[str, ...]
    data: DataRecord
    precision: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise InputError("an architecture file without a name", "a name such as S")
        if not self.classes:
            raise InputError(f"architecture file {self.name!r} without classes", "at least one class name")
        if self.precision is not None:
            check_precision(self.precision)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)

    @property
    def int8_target(self) -> Target | None:
        """The target that the architecture was chosen for in int8; None where it was chosen at another precision."""
        targets = (Target.read(e.target) for e in self.estimates if e.target and self.precision == "int8")
        return next((target for target in targets if target.precision == "int8"), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file, JSON-ready, with its keys in order."""
        return {
            "schema": SCHEMA_VERSION,
            "name": self.name,
            "architecture": self.architecture.to_dict(),
            **({} if self.precision is None else {"precision": self.precision}),
            "estimates": [estimate.to_dict() for estimate in self.estimates],
            "study": vars(self.study).copy(),
            "num_classes": self.num_classes,
            "classes": list(self.classes),
            "data": vars(self.data).copy(),
        }

    @classmethod
    def from_dict(cls, given: object) -> Artifact:
        """Return the artifact of a dict, the inverse of :meth:`to_dict`.

        ``SearchSpace.check`` tells whether the architecture is a point of a space of this version; it is not called
        here.

        Raises InputError for another schema version, missing or unknown keys, a value of a wrong type, or an
        architecture id or number of classes that does not match.
        """
        version = given.get("schema", SCHEMA_VERSION) if isinstance(given, Mapping) else SCHEMA_VERSION
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise InputError(
                f"schema version {version!r}",
                f"{SCHEMA_VERSION}",
                "install the version of this package that wrote the file",
            )
        data = check_fields(given, _FIELDS, "architecture file", _OPTIONAL)
        check_type(data["name"], str, "name")
        check_type(data["estimates"], list, "estimates")
        classes = _classes(data["classes"], data["num_classes"])
        estimates = tuple(Estimate.from_dict(estimate) for estimate in data["estimates"])
        architecture, study, of = _architecture(data["architecture"]), _study(data["study"]), _data(data["data"])
        return cls(data["name"], architecture, estimates, study, classes, of, data.get("precision"))


def _architecture(given: object) -> Architecture:
    data = check_fields(given, ("space", "version", "choices", "id"), "architecture")
    check_type(data["space"], str, "space of the architecture")
    check_type(data["version"], int, "version of the architecture's space")
    check_type(data["choices"], dict, "choices of the architecture")
    for name, value in data["choices"].items():
        if isinstance(value, bool) or not isinstance(value, (int, float, str)) or value in (math.inf, -math.inf):
            raise InputError(f"choice {brief(name)} is {brief(value)}", "a finite number or a string")
    return Architecture.from_dict(data)


def _classes(classes: object, number: object) -> tuple[str, ...]:
    check_type(classes, list, "classes")
    assert isinstance(classes, list)
    for name in classes:
        check_type(name, str, "a class name")
    if number != len(classes) or isinstance(number, (bool, float)):
        raise InputError(f"num_classes is {number!r}", f"{len(classes)}, the number of classes named")
    return tuple(classes)


def _study(given: object) -> StudyRecord:
    data = check_fields(given, ("name", "seed", "trial", "trials"), "study")
    check_type(data["name"], str, "name of the study")
    check_type(data["trials"], int, "trials of the study")
    for field in ("seed", "trial"):
        if data[field] is not None:
            check_type(data[field], int, f"{field} of the study")
    return StudyRecord(**data)


def _data(given: object) -> DataRecord:
    data = check_fields(given, ("name", "fingerprint"), "data")
    for field in ("name", "fingerprint"):
        check_type(data[field], str, f"{field} of the data set")
    return DataRecord(**data)


def write_artifact(path: str | os.PathLike[str], artifact: Artifact, write: Writer | None = None) -> Path:
    """Write ``artifact`` as JSON atomically (:func:`nas.core.atomic.atomic_write`). Equal artifacts give equal
    bytes."""
    text = json_text(artifact.to_dict(), indent=2) + "\n"
    return atomic_write(path, text, write)


def read_artifact(path: str | os.PathLike[str]) -> Artifact:
    """Read an architecture file.

    Raises InputError, with the name of the file, if it cannot be read or is invalid (:meth:`Artifact.from_dict`).
    """
    try:
        data = read_json(path, _AGAIN)
    except InputError:
        if Path(path).suffix in ("", ".json") or not os.path.isfile(path):
            raise
        raise InputError(f"{path} is no architecture file", "a .json file that nas search wrote") from None
    try:
        return Artifact.from_dict(data)
    except InputError as error:
        raise InputError(f"{os.fspath(path)}: {error}") from None
