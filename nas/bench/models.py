"""The models of a bench, from names, families, patterns, files and folders of runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from latency_db.core.profiler import Network
from latency_db.core.target import Target
from nas.bench.results import PUBLISHED, SUPERNET, TRAINED, Accuracy, BenchModel
from nas.core.architecture_file import Artifact, read_artifact
from nas.core.references import COCO_CLASSES, PUBLISHED_SIZE, matching, reference_artifact, reference_of
from nas.data.transforms import AREA
from nas.inference.coco_metrics import interval_of
from nas.search.chosen_files import chosen_files, interpolation_of_run
from search_spaces.errors import InputError
from search_spaces.image_size import AnySize, ImageSize
from search_spaces.json_checks import JsonObject
from search_spaces.references import FAMILIES, Published, references
from search_spaces.spaces import space_of
from search_spaces.trace import trace

COCO = "COCO val2017"


@dataclass(frozen=True)
class _Found:
    """A model as it was found: its file (None: a reference), content, the accuracy that the file states, and how its
    images are shrunk."""

    path: Path | None
    artifact: Artifact
    accuracy: Accuracy | None = None
    interpolation: str = AREA


def resolve_models(
    words: Sequence[str], num_classes: int | None = None, image_size: AnySize | None = None, precision: str = "fp32"
) -> list[BenchModel]:
    """Resolve words to models, each once, under unique names.

    An accuracy is kept only where it is of the network as it is timed: number of classes, image size, precision.

    Args:
        words: references, families, patterns, files or folders of runs.
        num_classes: of all models; by default each has its own, a reference 80.
        image_size: of all models; by default each has its own.
        precision: at which they will be timed.

    Raises:
        InputError: for a word without a model, or an image size that is not a multiple of 32.
    """
    found: dict[object, _Found] = {}
    for word in words:
        for one in _found(word, precision):
            found.setdefault(one.path.resolve() if one.path else one.artifact.name, one)
    everyone = list(found.values())
    named = zip(everyone, _names(everyone), strict=True)
    return _distinct_data([_model(one, name, num_classes, image_size) for one, name in named])


def _distinct_data(models: Sequence[BenchModel]) -> list[BenchModel]:
    """Return the models with the fingerprint beside the name of a data set that several data sets have."""
    accuracies = [m.accuracy for m in models if m.accuracy]
    count = Counter(data for data, _ in {(a.data, a.fingerprint) for a in accuracies})
    return [
        replace(m, accuracy=replace(a, data=f"{a.data} ({a.fingerprint[:8]})"))
        if (a := m.accuracy) and a.fingerprint and count[a.data] > 1
        else m
        for m in models
    ]


def _found(word: str, precision: str) -> Iterator[_Found]:
    path = Path(word)
    if path.is_dir() and word not in (*references(), *FAMILIES, "all"):
        yield from _of_run(path, precision)
    elif path.is_file():
        yield _of_file(path, precision)
    elif path.suffix in (".json", ".safetensors", ".onnx") or "/" in word:
        raise InputError(f"no such model: {word}", hint="check the path")
    else:
        yield from (_Found(None, reference_artifact(r.name)) for r in matching(word))


def _of_run(folder: Path, precision: str) -> Iterator[_Found]:
    """Find the chosen architectures of a search, fastest first, by their trained weights or architecture files."""
    files = chosen_files(folder)
    if not files:
        raise InputError(
            f"{folder} has no chosen architectures",
            "the folder of a finished nas search",
            "name its files, or finish the search",
        )
    for file in files.values():
        weights = file.with_suffix(".safetensors")
        yield _of_file(weights if weights.exists() else file, precision)


def _of_file(path: Path, precision: str) -> _Found:
    if path.suffix == ".safetensors":
        from nas.supernet.weights import interpolation_in, load_detector

        _, artifact, record = load_detector(path)
        return _Found(path, artifact, _trained(artifact, record, path), interpolation_in(record, str(path)))
    if path.suffix == ".onnx":
        raise InputError(
            f"{path} is an ONNX file",
            "an architecture file, weights or a reference",
            f"nas measure {path} times it alone",
        )
    artifact = read_artifact(path)
    return _Found(path, artifact, _estimated(artifact, path, precision), interpolation_of_run(path.parent))


def _trained(artifact: Artifact, record: dict[str, object], path: Path) -> Accuracy | None:
    """Return the accuracy of the weights' own evaluation."""
    metrics, fingerprint = record.get("metrics"), str(record.get("data", ""))
    if not isinstance(metrics, dict) or "map" not in metrics:
        return None
    name = (
        artifact.data.name if fingerprint == artifact.data.fingerprint else f"data set {fingerprint[:8] or 'unknown'}"
    )
    checked = JsonObject(metrics, f"{path}: metrics")
    ends = interval_of(checked)
    interval = None if ends is None else (100 * ends[0], 100 * ends[1])
    return Accuracy(100 * checked.number("map", 0, 1), TRAINED, name, fingerprint, str(path), interval)


def _estimated(artifact: Artifact, path: Path, precision: str) -> Accuracy | None:
    """Return the accuracy that the search estimated; None if it evaluated int8 and float is timed."""
    for e in artifact.estimates:
        if e.name == "map" and (precision == "int8" or e.target is None or Target.read(e.target).precision != "int8"):
            kind = TRAINED if e.source == "trained" else SUPERNET
            interval = None if e.low is None or e.high is None else (100 * e.low, 100 * e.high)
            return Accuracy(100 * e.value, kind, artifact.data.name, artifact.data.fingerprint, str(path), interval)
    return None


def _names(found: Sequence[_Found]) -> list[str]:
    """Return the shortest unique names: ``S``, else with the folder ``shop/S``, else the whole path."""
    names = [one.artifact.name for one in found]
    for full in (False, True):
        twice = {name for name, count in Counter(names).items() if count > 1}
        names = [
            _longer(one.path, name, full) if one.path and name in twice else name
            for one, name in zip(found, names, strict=True)
        ]
    return names


def _longer(path: Path, name: str, full: bool) -> str:
    return str(path) if full else f"{path.resolve().parent.name}/{name}"


def _model(found: _Found, name: str, num_classes: int | None, image_size: AnySize | None) -> BenchModel:
    artifact = found.artifact
    architecture = artifact.architecture
    own_size = architecture.image_size
    size = ImageSize.of(image_size or own_size).check(name)
    network = Network(architecture, num_classes or artifact.num_classes, size)
    cost = trace(space_of(architecture).graph(architecture), network.classes, network.image_size)
    known = reference_of(architecture)
    family = known.family if known else found.path.resolve().parent.name if found.path else ""
    accuracy = found.accuracy if (network.classes, network.image_size) == (artifact.num_classes, own_size) else None
    if (
        found.accuracy is None
        and known
        and known.published
        and space_of(architecture).with_options(architecture) == architecture
        and network.classes == COCO_CLASSES
        and network.image_size == PUBLISHED_SIZE
    ):
        accuracy = _of_authors(known.published)
    weights = str(found.path) if found.path and found.path.suffix == ".safetensors" else None
    return BenchModel(name, family, network, cost.params, cost.macs, accuracy, weights, found.interpolation)


def _of_authors(published: Published) -> Accuracy:
    return Accuracy(published.map50_95, PUBLISHED, COCO, "", published.source)
