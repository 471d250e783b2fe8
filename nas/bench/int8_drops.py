"""What int8 does to the accuracy of a bench's trained models, each quantized and evaluated as ``nas quantize`` does
it, and kept at once."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES
from nas.bench.results import BenchModel, Int8Drop
from nas.core.journal import Journal
from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.quantization.model import CalibrationConfig, calibrate_detector
from nas.quantization.runtime_accuracy import RuntimeModel
from nas.supernet.weights import digest_of, load_detector
from search_spaces.errors import InputError

JOURNAL = "drops.jsonl"


def measure_drops(
    models: Sequence[BenchModel], target: Target, data: DataPair, folder: Path, reporter: Reporter
) -> dict[str, Int8Drop]:
    """Of the models that brought weights, by name, on the whole val split. ``target``: int8; one without an image
    size takes each model's.

    A model that cannot be quantized, or whose classes are others, is named and left out. What the folder's journal
    has of the same weights, images, target and version is taken from there.
    """
    journal = Journal(folder / JOURNAL)
    kept = journal.read()
    found: dict[str, Int8Drop] = {}
    for model in models:
        if model.weights is None:
            continue
        asked = {**_asked(Path(model.weights), target, data), "image_size": model.network.image_size}
        known = next((line["drop"] for line in reversed(kept) if line["of"] == asked), None)
        try:
            found[model.name] = Int8Drop(**known) if known else _drop(model, target, data)
        except InputError as error:
            reporter.note(f"int8 accuracy of {model.name}: {error}")
            continue
        if known is None:
            journal.append({"of": asked, "drop": asdict(found[model.name])})
        d = found[model.name]
        reporter.note(
            f"int8 accuracy of {model.name}: mAP {d.before:.2f} % in fp32, {d.after:.2f} % in int8, {d.points:+.2f} points lost"
        )
    return found


def _asked(weights: Path, target: Target, data: DataPair) -> Mapping[str, Any]:
    """What a drop depends on."""
    runtime = RUNTIMES[target.runtime]
    form = runtime.quantization_scheme(target)
    how = {"version": runtime.version(), "form": form and form.id}
    return {"weights": digest_of(weights), "target": str(target), **how, "data": data.fingerprint}


def _drop(model: BenchModel, target: Target, data: DataPair) -> Int8Drop:
    weights = Path(model.weights or "")
    classes = load_detector(weights)[1].classes
    if classes != data.classes or len(classes) != model.network.classes:
        raise InputError(f"its classes are {', '.join(classes)}", f"those of {data.name}, and no --num-classes")
    with tempfile.TemporaryDirectory() as scratch:
        subject = calibrate_detector(
            weights, data, replace(target, image_size=model.network.image_size), CalibrationConfig(), Path(scratch)
        )
        subject.write(out := Path(scratch) / "int8.onnx")
        before = subject.accuracy(RuntimeModel(subject.model, subject.float_target))
        served = RuntimeModel(out, subject.target)
        return Int8Drop(100 * before.map, 100 * subject.accuracy(served).map, len(data.val), served.where)
