"""The Python interface: the same functions as the command line, with values instead of files (docs/python.md).

``import nas`` offers everything here by name and imports it on first use.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.core.architecture_file import Artifact, read_artifact
from nas.core.estimate import Candidate, Estimate
from nas.core.notebook_reporter import default_reporter
from nas.core.pareto import Archive
from nas.core.reporter import Reporter
from nas.inference import model as inference
from nas.search.chosen_files import chosen_files, front_of_run
from nas.search.report.front_files import Front, candidate_rows
from nas.search.settings import SearchSettings
from nas.training.recipe import FROM_TRAINED
from search_spaces.architecture import Architecture, Value
from search_spaces.errors import InputError
from search_spaces.image_size import AnySize, ImageSize
from search_spaces.registry import unknown
from search_spaces.spaces import SPACES

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from latency_db.core.measurement import Measurement
    from nas.inference.coco_metrics import Metrics
    from nas.search.explain.explanation import Explanation
    from search_spaces.detector import Detector

PathLike = str | os.PathLike[str]
Fixed = Mapping[str, Value | Sequence[Value]]


@dataclass(frozen=True)
class Search:
    """A search for the Pareto front of a data set and a target, as ``nas search``.

    Example::

        run = nas.Search(data="shop/", target="onnxruntime:fp32@320", budgets={"S": 5, "M": 10}).run("runs/shop")

    Attributes:
        data: data set, as ``--data``; None for a search without training (``accuracy="nwot"``).
        target: where latency is measured: ``runtime:precision[@size]``.
        budgets: upper bounds by name, in the unit of the first objective (ms), or ``"ref:yolov8n"`` for the latency of
            a reference; None spreads S, M and L over the front.
        trials: architectures to evaluate.
        space: name of the search space.
        fixed: values that choices are restricted to: ``{"image_size": 320}``, ``{"image_size": ("256x448", 320)}``.
        accuracy: estimator of accuracy: ``supernet``, ``nwot``, ``synflow`` or ``elements``.
        epochs: of the supernet's training; None for the default.
        seed: of everything random.
        options: any other field of :class:`nas.search.settings.SearchSettings`, such as ``{"workers": "auto"}``,
            ``{"ray": "auto"}``, ``{"on": "ssh:pi@raspberrypi"}`` or ``{"others": ("openvino:fp32",)}``
            (docs/scaling.md).
    """

    data: PathLike | None = None
    target: str = "onnxruntime:fp32"
    budgets: Mapping[str, float | str] | None = None
    trials: int = 100
    space: str = "yolo-nano"
    fixed: Fixed = field(default_factory=dict)
    accuracy: str = "supernet"
    epochs: int | None = None
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def settings(self) -> SearchSettings:
        """Return the settings of the search. Raises InputError if they cannot be carried out."""
        start = FROM_TRAINED if self.options.get("init") else {}
        recipe = {**start, **self.options.get("recipe", {}), **({} if self.epochs is None else {"epochs": self.epochs})}
        values = {
            "data": None if self.data is None else os.fspath(self.data),
            "target": self.target,
            "trials": self.trials,
            "space": self.space,
            "fixed": {name: _values(self.space, name, value) for name, value in self.fixed.items()},
            "accuracy": self.accuracy,
            "seed": self.seed,
            "budgets": _budgets(self.budgets) if self.budgets else None,
        }
        fields = set(SearchSettings.__dataclass_fields__) - {"name", "baselines", "goals"}
        for name in self.options:
            if name not in fields or name in values:
                raise unknown("option of a search:", name, tuple(sorted(fields - set(values))))
        options = {name: os.fspath(v) if isinstance(v, os.PathLike) else v for name, v in self.options.items()}
        settings = SearchSettings(**{**values, **options, "recipe": recipe})
        try:
            SearchSettings.from_dict(_plain(settings))
        except TypeError as error:
            raise InputError(f"settings of a search: {error}", "numbers, text, lists and mappings of these") from None
        from nas.search.plan import SearchPlan  # imports torch

        SearchPlan.parse(settings).check()
        return settings

    def run(self, folder: PathLike, reporter: Reporter | None = None) -> Run:
        """Run the search in ``folder`` and return it; an interrupted run of equal settings is resumed.

        ``reporter`` receives progress; by default a progress bar in a notebook and on a terminal. Raises InputError if
        the settings cannot be carried out, or if the folder holds a run of other settings.
        """
        from nas.search.run import search

        settings, path = self.settings(), Path(folder)
        if (path / "run.json").exists():
            stored = SearchSettings.read(path)
            stored = replace(stored, workers=settings.workers, ray=settings.ray)  # where the work is done may change
            differ = [name for name in _plain(settings) if _plain(settings)[name] != _plain(stored)[name]]
            if differ:
                raise InputError(f"{path} holds a run with another {', '.join(differ)}", "a new folder")
            settings = stored
        search(settings, path, reporter or default_reporter())
        return Run(path)


class Run:
    """The folder of a search, finished or running. Every access reads the files as they are then.

    ``run["S"]`` is a chosen architecture; ``run.front`` and ``run.candidates`` are tables; ``run.plot()`` draws.
    """

    def __init__(self, folder: PathLike) -> None:
        self.folder = Path(folder)
        self.settings = SearchSettings.read(self.folder)

    def __repr__(self) -> str:
        return f"<run {self.folder}: {', '.join(self.names) or 'nothing chosen yet'}>"

    def __getitem__(self, name: str) -> ArchitectureFile:
        if name not in self.names:
            raise unknown("architecture of the run", name, self.names)
        return ArchitectureFile(chosen_files(self.folder)[name])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the chosen architectures, small to large; empty before the search has chosen."""
        return tuple(chosen_files(self.folder))

    @property
    def front(self) -> pd.DataFrame:
        """The Pareto front, one row per candidate, columns as :attr:`candidates`."""
        front = self._front()
        if front is not None:
            return _table(front.candidates, dict(front.chosen))
        from nas.search.plan import SearchPlan  # imports torch

        archive = Archive(SearchPlan.parse(self.settings).aims.objectives)
        for candidate in self._study():
            archive.add(candidate)
        return _table(archive.front)

    @property
    def candidates(self) -> pd.DataFrame:
        """All evaluated candidates, one row each.

        Columns: ``name`` (of a chosen one), ``id``, ``trial``, ``space``; every estimate with ``.low``, ``.high`` (its
        95 % interval), ``.unit``, ``.source`` and ``.target``; every choice as ``choice.NAME``.
        """
        front = self._front()
        newest = {(c.id, c.precision): c for c in front.candidates} if front else {}
        candidates = [newest.get((c.id, c.precision), c) for c in self._study()]
        return _table(candidates, dict(front.chosen) if front else {})

    def plot(self, title: str | None = None, log_x: bool | None = None) -> go.Figure:
        """Return the front as an interactive figure.

        ``log_x``: logarithmic latency axis; by default by the range. Raises InputError if there is no candidate yet.
        """
        from nas.plotting.frontier_html import frontier_figure
        from nas.search.run_frontier import run_frontier

        return frontier_figure(run_frontier(self.folder, title, log_x))

    def explain(self, name: str) -> Explanation:
        """Explain a chosen network: what one step of each of its choices would change, and what it came from.

        ``table`` of the result is a DataFrame. Raises InputError for an unknown name, or a run with too few candidates
        for a surrogate.
        """
        from nas.search.explain.explanation import explain

        if name not in self.names:
            raise unknown("architecture of the run", name, self.names)
        return explain(self.folder, name)

    def _front(self) -> Front | None:
        return front_of_run(self.folder)

    def _study(self) -> list[Candidate]:
        from nas.search.study_reader import read_candidates

        settings, folder = self.settings, self.folder
        return list(read_candidates(settings.storage_of(folder), settings.study_name(folder)))


@dataclass(frozen=True)
class ArchitectureFile:
    """An architecture file (``S.json``) with its content."""

    path: Path

    @property
    def artifact(self) -> Artifact:
        """The content. Raises InputError if the file cannot be used."""
        return read_artifact(self.path)

    @property
    def architecture(self) -> Architecture:
        """The architecture."""
        return self.artifact.architecture

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the outputs."""
        return self.artifact.classes

    @property
    def estimates(self) -> dict[str, Estimate]:
        """The estimates by name, for example ``["latency_ms"].value``."""
        return {estimate.name: estimate for estimate in self.artifact.estimates}


class Model(inference.Model):
    """A trained detector: :meth:`predict`, :meth:`evaluate` and, of weights, :meth:`export`."""

    def export(self, path: PathLike | None = None, image_size: AnySize | None = None) -> Path:
        """Export the weights to ONNX, checked against torch, and return the file's path.

        ``path``: default beside the weights. ``image_size``: such as 320 or ``"384x640"``, default the architecture's. Raises
        InputError if the model is an export already, or if size or path cannot be used.
        """
        from nas.export.weights import export_weights

        if self.path.suffix != ".safetensors":
            raise InputError(f"export of {self.path}", "trained weights (.safetensors)")
        return export_weights(self.path, None if path is None else Path(path), image_size).path

    @property
    def metrics(self) -> Metrics:
        """COCO metrics that the training measured on the whole val split.

        Raises InputError if nothing is recorded beside the weights, or the record cannot be read.
        """
        from nas.inference.coco_metrics import Metrics
        from search_spaces.json_checks import JsonObject, read_json

        path = self.path.with_suffix(".metrics.json")
        if not path.exists():
            raise InputError(f"no metrics beside {self.path}", hint="model.evaluate(data) measures them")
        return Metrics.from_dict(JsonObject.of(read_json(path), str(path)).object("metrics").entries, str(path))


def load(path: PathLike, device: str = "auto") -> Model:
    """Open trained weights (``.safetensors``) or an exported file (``.onnx``).

    ``device``: auto (a GPU where there is one), cpu, cuda. Raises InputError if the file cannot be used.
    """
    return Model(Path(path), device)


def open_run(folder: PathLike) -> Run:
    """Open the folder of a search, finished or running. Raises InputError if it is none."""
    return Run(folder)


def train(
    architecture: ArchitectureFile | PathLike,
    data: PathLike,
    *,
    init: PathLike | None = None,
    out: PathLike | None = None,
    epochs: int | None = None,
    recipe: str = "default",
    options: Mapping[str, Any] | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Model:
    """Train an architecture, as ``nas train``, and return the trained detector.

    An interrupted training resumes; a finished one is loaded.

    Args:
        architecture: architecture file (``run["S"]``, a path) or the name of a reference.
        data: data set, as ``--data``.
        init: initial weights; ``"supernet"`` stands for the supernet of the run that the architecture is of. None: from scratch.
        out: weights file; default: the architecture's path with the ending ``.safetensors``.
        epochs: default 30 with the default recipe, else the recipe's.
        recipe: name of a recipe (``nas list``).
        options: other values of the recipe, augmentation included: ``{"batch_size": 16, "mosaic": 0.5}``.
        device: auto, cpu, cuda.
        reporter: receives progress.

    Raises:
        InputError: something given cannot be used.
    """
    from nas.core.references import artifact_of
    from nas.search.chosen_files import supernet_of
    from nas.training.data import open_training_data
    from nas.training.job import ComputeConfig, TrainJob
    from nas.training.recipes import RECIPES
    from nas.training.train_detector import train_detector

    shown = reporter or default_reporter()
    path = _path_of(architecture)
    artifact = artifact_of(path)
    given = dict(options or {}) | ({} if epochs is None else {"epochs": epochs})
    default = {"epochs": TRAIN_EPOCHS} if recipe == "default" else {}
    values = RECIPES[recipe].recipe.changed({**default, **given})
    start = supernet_of(path.parent) if init == "supernet" else None if init is None else Path(init)
    weights = path.with_suffix(".safetensors") if out is None else Path(out)
    job = TrainJob(open_training_data(os.fspath(data), None, shown), values, start, compute=ComputeConfig(device))
    train_detector(artifact, job, weights, shown)
    return Model(weights, device)


TRAIN_EPOCHS = 30
"""Epochs of :func:`train` with the default recipe, as ``nas train``."""


def measure(
    model: ArchitectureFile | PathLike,
    target: str = "onnxruntime:fp32",
    data: PathLike | None = None,
    latency_db: str | None = None,
) -> Measurement:
    """Measure the latency of a model on a target, in a fresh process, as ``nas measure``.

    Args:
        model: ONNX file, architecture file, weights, or the name of a reference.
        target: ``runtime:precision[@size][/b8][/t2]``.
        data: images to calibrate int8 with.
        latency_db: file or URL of the database that keeps the measurement; default the one for all runs.

    Raises:
        InputError: something given cannot be used.
    """
    from latency_db.core.target import Target
    from latency_db.database.db import LatencyDB
    from nas.core.references import existing_model
    from nas.data.source import open_data
    from nas.profiling.default_database import default_latency_db
    from nas.profiling.measure import measurements

    path = existing_model(_path_of(model))
    images = open_data(os.fspath(data)) if data is not None else None
    with LatencyDB(latency_db or default_latency_db()) as database:
        ((measured, _),) = measurements(path, Target.parse(target), database, images)
    return measured


def build(model: ArchitectureFile | Artifact | PathLike) -> Detector:
    """Return the torch module of an architecture file, a reference, or weights (with these weights).

    Raises InputError if the file cannot be used.
    """
    from nas.core.references import artifact_of
    from nas.supernet.weights import load_detector
    from search_spaces.spaces import space_of

    if not isinstance(model, Artifact):
        path = _path_of(model)
        if path.suffix == ".safetensors":
            return load_detector(path)[0]
        model = artifact_of(path)
    return space_of(model.architecture).build(model.architecture, model.num_classes)


def _path_of(model: ArchitectureFile | PathLike) -> Path:
    return model.path if isinstance(model, ArchitectureFile) else Path(model)


def _budgets(budgets: object) -> str:
    """Return budgets as text, as ``--budgets`` takes them."""
    if not isinstance(budgets, Mapping):
        raise InputError(f"budgets {budgets!r:.80}", 'bounds by name, such as {"S": 5, "M": "10ms"}')
    return ",".join(f"{name}={bound}" for name, bound in budgets.items())


def _values(space: str, name: str, value: Value | Sequence[Value]) -> tuple[Value, ...]:
    """Restriction of one choice. Raises InputError if the space does not have it."""
    wanted = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    choice = SPACES[space][name]
    if choice.rectangles:  # "320x320" is the square 320
        wanted = tuple(ImageSize.of(v).value if isinstance(v, str) else v for v in wanted)
    if wrong := [v for v in wanted if not choice.takes(v)]:
        raise InputError(f"{name} = {wrong}", f"some of {list(choice.values)}")
    return wanted


def _plain(settings: SearchSettings) -> dict[str, Any]:
    """What decides a search, as JSON has it; not what a run adds when it begins."""
    content: dict[str, Any] = json.loads(json.dumps(replace(settings, name="", baselines={}, goals={}).to_dict()))
    return content


def _table(candidates: Sequence[Candidate], chosen: Mapping[str, str] | None = None) -> pd.DataFrame:
    import pandas as pd

    columns, rows = candidate_rows(candidates, chosen)
    return pd.DataFrame(rows, columns=columns)
