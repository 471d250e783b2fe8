"""The settings of a search as the user gave them: a value that ``run.json`` holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from nas.core.atomic import atomic_write
from nas.search.baseline import Baseline
from search_spaces.architecture import Value
from search_spaces.errors import InputError
from search_spaces.json_checks import read_json

RUN_FILE = "run.json"


@dataclass(frozen=True)
class SearchSettings:
    """Everything that decides a search; :class:`nas.search.plan.SearchPlan` holds the parsed values.

    Kept as ``run.json``, so that ``--resume`` needs nothing else.

    Args:
        space: Name of the search space.
        fixed: Choices that are restricted to some of their values.
        data: Data set; None only with a training-free accuracy.
        num_classes: Number of classes without a data set.
        limit: Largest number of images per split; None for all.
        target: Target of the latencies.
        others: Further devices, each ``TARGET`` or ``TARGET on BOARD``: every candidate is measured on all.
        precisions: Precisions that the search chooses among, the target's included; empty: the target's alone.
        latency: ``measured`` or ``predicted``.
        accuracy: Registry name of the accuracy estimator.
        minimize, maximize: Registry names of objectives; empty: latency, and ``accuracy``.
        trials: Number of architectures to try.
        sampler: Name of the sampler.
        seed: Seed of everything random.
        seeded: Reference models among the first candidates.
        budgets: Budgets of S, M and L as text.
        at_least: Goals of S, M and L as text.
        goals: Goals that are a reference model's accuracy, as estimated when the search began.
        baselines: Reference models whose latency is a budget, as measured when the search began.
        bounds: Constraints as text.
        supernet: Weights of a trained supernet; None to train one into the run.
        init: Weights of a trained detector that the supernet of the run begins with; None to begin at random.
        recipe: Values of the supernet's training recipe that differ from the default.
        augment: Whether the supernet is trained on augmented images.
        eval_images: Images of the val split that rank candidates; 0 for all.
        early_stop: Whether unpromising candidates are pruned.
        stop: Rule of automatic stopping (:class:`nas.search.terminator.StopRule`); None to run all trials.
        latency_db: File or URL of measured latencies; None for the one in the cache folder.
        storage: Optuna storage URL; None for a journal in the run.
        device: Device of training and accuracy.
        processes: Processes of the supernet's training.
        on: Board on which latency is measured (``ssh:user@host``, ``ray:RESOURCE``); None for this machine.
        workers: Workers for accuracies, a number or ``auto``; None for none, or all that a Ray cluster has room for.
        ray: Address of the Ray cluster of the workers; None for this machine.
        name: Name of the study; empty for the name of the run's folder.
    """

    space: str = "yolo-nano"
    fixed: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    data: str | None = None
    num_classes: int | None = None
    limit: int | None = None
    target: str = "onnxruntime:fp32"
    others: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    latency: str = "measured"
    accuracy: str = "supernet"
    minimize: tuple[str, ...] = ()
    maximize: tuple[str, ...] = ()
    trials: int = 100
    sampler: str = "guided"
    seed: int = 0
    seeded: tuple[str, ...] = ()
    budgets: str | None = None
    at_least: str | None = None
    goals: Mapping[str, float] = field(default_factory=dict)
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    bounds: tuple[str, ...] = ()
    supernet: str | None = None
    init: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    augment: bool = True
    eval_images: int = 500
    early_stop: bool = True
    stop: str | None = None
    latency_db: str | None = None
    storage: str | None = None
    device: str = "auto"
    processes: int = 1
    on: str | None = None
    workers: str | None = None
    ray: str | None = None
    name: str = ""

    def write(self, folder: Path) -> None:
        """Write ``run.json``; the study keeps its name if the folder is moved."""
        named = {**self.to_dict(), "name": self.study_name(folder)}
        atomic_write(folder / RUN_FILE, json.dumps(named, indent=2) + "\n")

    def study_name(self, folder: Path) -> str:
        """Return the name of the study: the one that the run began with, else the folder's."""
        return self.name or folder.resolve().name

    def storage_of(self, folder: Path) -> Path | str:
        """Return where the study is kept: the storage URL, else the journal in the run's folder."""
        return self.storage or folder / "study.journal"

    @classmethod
    def read(cls, folder: Path) -> SearchSettings:
        """Read ``run.json``. Raises InputError if the folder has none, or it is not what ``nas search`` writes."""
        path = folder / RUN_FILE
        if not path.exists():
            raise InputError(f"{folder} is no run of nas search", "a folder with run.json")
        try:
            return cls.from_dict(read_json(path))
        except InputError as error:
            text = str(error).removeprefix(f"{path}: ")
            raise InputError(f"{path} cannot be used ({text})", "the file that nas search wrote") from None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        plain = asdict(replace(self, baselines={}))
        return {**plain, "baselines": {name: b.to_dict() for name, b in self.baselines.items()}}

    @classmethod
    def from_dict(cls, data: object) -> SearchSettings:
        """Restore settings from the JSON form; missing fields have their default.

        Raises InputError for an unknown field or a field of the wrong type.
        """
        if not isinstance(data, Mapping):
            raise InputError(f"settings are a JSON {type(data).__name__}", "an object")
        types = {f.name: str(f.type) for f in fields(cls)}
        if extra := [str(name) for name in data if name not in types]:
            raise InputError(f"settings have unknown fields {', '.join(extra)}", "fields of this version")
        return cls(**{name: _typed(name, value, types[name]) for name, value in data.items()})


_PLAIN: Mapping[str, type] = {"str": str, "int": int, "bool": bool}
_WORDS = {"str": "a string", "int": "a whole number", "bool": "true or false", "None": "null"}


def _typed(name: str, value: object, annotation: str) -> Any:
    """Return a field's value from JSON, checked against its annotation."""
    if annotation.startswith("tuple["):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InputError(f"{name} is {value!r:.80}", "a list of strings")
        return tuple(value)
    if annotation.startswith("Mapping["):
        return _mapping(name, value)
    kinds = annotation.split(" | ")
    for kind in kinds:
        if (value is None) if kind == "None" else (type(value) is _PLAIN[kind]):
            return value
    raise InputError(f"{name} is {value!r:.80}", " or ".join(_WORDS[kind] for kind in kinds))


def _mapping(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{name} is {value!r:.80}", "an object")
    if name == "baselines":
        return {key: Baseline.from_dict(item) for key, item in value.items()}
    if name == "fixed":
        wrong = [key for key, items in value.items() if not isinstance(items, list)]
        if wrong or any(isinstance(i, (list, dict, bool)) or i is None for items in value.values() for i in items):
            raise InputError(f"{name} is {value!r:.80}", "a list of values for each choice")
        return {key: tuple(items) for key, items in value.items()}
    if name == "goals":
        for key, item in value.items():
            if isinstance(item, bool) or not isinstance(item, (int, float)):
                raise InputError(f"goal {key} is {item!r:.80}", "a number")
    return dict(value)
