"""The effect of int8 on the accuracy of a bench's trained models, evaluated as by ``nas quantize``."""

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
from nas.core.units import change_of_map, share
from nas.data.source import DataPair
from nas.quantization.model import CalibrationConfig, calibrate_detector
from nas.quantization.runtime_accuracy import RuntimeModel
from nas.supernet.weights import digest_of, load_detector
from search_spaces.errors import InputError

JOURNAL = "drops.jsonl"


def measure_drops(
    models: Sequence[BenchModel], target: Target, data: DataPair, folder: Path, reporter: Reporter
) -> dict[str, Int8Drop]:
    """Quantize and evaluate the models that have trained weights, on the whole val split.

    A model that cannot be quantized, or whose classes differ, is reported and left out. Results are kept in the
    folder's journal; what it has of the same weights, images, target and version is not evaluated again.

    Args:
        models: those without weights are skipped.
        target: at int8; without an image size it takes each model's.
        data: calibrates and evaluates.
        folder: of the journal.
        reporter: receives a line per model.

    Returns:
        The effect on each model by name.
    """
    journal = Journal(folder / JOURNAL)
    kept = journal.read()
    found: dict[str, Int8Drop] = {}
    with_weights = [model for model in models if model.weights is not None]
    with reporter.steps("int8 accuracy") as update:
        for i, model in enumerate(with_weights, 1):
            update(i - 1, len(with_weights), model.name)
            conditions = {
                **_conditions(Path(model.weights or ""), target, data),
                "image_size": model.network.image_size.value,
            }
            known = next((line["drop"] for line in reversed(kept) if line["of"] == conditions), None)
            try:
                found[model.name] = drop = Int8Drop(**known) if known else _drop(model, target, data)
            except InputError as error:
                reporter.note(f"int8 accuracy of {model.name}: {error}")
                continue
            if known is None:
                journal.append({"of": conditions, "drop": asdict(drop)})
            update(i, len(with_weights), model.name)
            change = change_of_map(drop.points)
            reporter.note(
                f"int8 accuracy of {model.name}: mAP {share(drop.before / 100)} in fp32, {share(drop.after / 100)} in int8, {change}"
            )
        update(len(with_weights), len(with_weights), "")
    return found


def _conditions(weights: Path, target: Target, data: DataPair) -> Mapping[str, Any]:
    """Everything that a drop depends on but the image size."""
    runtime = RUNTIMES[target.runtime]
    scheme = runtime.quantization_scheme(target)
    how = {"version": runtime.version(), "form": scheme and scheme.id}
    return {"weights": digest_of(weights), "target": str(target), **how, "data": data.fingerprint}


def _drop(model: BenchModel, target: Target, data: DataPair) -> Int8Drop:
    weights = Path(model.weights or "")
    classes = load_detector(weights)[1].classes
    if classes != data.classes or len(classes) != model.network.classes:
        raise InputError(f"its classes are {', '.join(classes)}", f"those of {data.name}, and no --num-classes")
    sized = replace(target, image_size=model.network.image_size)
    with tempfile.TemporaryDirectory() as scratch:
        detector = calibrate_detector(weights, data, sized, CalibrationConfig(), Path(scratch))
        detector.write(out := Path(scratch) / "int8.onnx")
        before = detector.accuracy(RuntimeModel(detector.model, detector.float_target))
        quantized = RuntimeModel(out, detector.target)
        after = detector.accuracy(quantized)
    return Int8Drop(100 * before.map, 100 * after.map, len(data.val), quantized.where)
