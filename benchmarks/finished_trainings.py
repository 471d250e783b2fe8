"""mAP of finished trainings in a file, so that a comparison of many networks can be continued later, on any machine.

A training that the file knows is not repeated, even where its weights are gone. Those of comparisons that are under way are in
``results/finished``, with the S, M and L that take part.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from latency_db.core.device import DeviceFingerprint
from latency_db.core.measurement import now
from nas.core.architecture_file import Artifact
from nas.core.atomic import atomic_write
from nas.core.distributed import cores
from nas.core.reporter import Reporter
from nas.supernet.weights import load_detector
from nas.training.job import TrainJob
from nas.training.train_detector import train_detectors


def identity(artifact: Artifact, job: TrainJob, split: str) -> dict[str, Any]:
    """What decides the mAP of a training: network, data, recipe, augmentation, initial weights, split that judges."""
    return {
        "architecture": artifact.architecture.to_dict(),
        "classes": list(artifact.classes),
        "recipe": job.recipe.to_dict(),
        "augmentation": job.augmentation.to_dict(),
        "init": "scratch" if job.init is None else _digest_of_tensors(job.init),
        "data": job.data.fingerprint,
        "split": split,
    }


class FinishedTrainings:
    """Trainings of which the mAP is known, each with where and when it ran.

    Args:
        path: JSON file; it need not exist. Only one process at a time may write it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def find(self, artifact: Artifact, job: TrainJob, split: str) -> dict[str, Any] | None:
        """Return the entry of a training, None if it is not finished: ``map`` on the split that judges, ``val_map``,
        ``evaluations`` (on the val split in the course of the training), each 0..1, ``machine``, ``date``."""
        return self._entries.get(_key(artifact, job, split))

    def add(self, artifact: Artifact, job: TrainJob, split: str, value: float, weights: Path) -> None:
        """Write what is known of a training: its mAP on ``split``, and what is beside and in its weights."""
        self._entries[_key(artifact, job, split)] = {
            "name": artifact.name,
            "seed": job.recipe.seed,
            "map": value,
            "val_map": load_detector(weights)[2]["metrics"]["map"],
            "evaluations": _evaluations(weights),
            "machine": DeviceFingerprint.read().to_dict()["cpu"],
            "date": now(),
            "of": identity(artifact, job, split),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(self._path, json.dumps(self._entries, indent=1) + "\n")

    def train(
        self,
        trainings: Sequence[tuple[Artifact, TrainJob]],
        split: str,
        judge: Callable[[Artifact, TrainJob, Path], float],
        folder: Path,
        reporter: Reporter,
        at_once: int | None = None,
    ) -> list[dict[str, Any]]:
        """Carry out the trainings that are missing, and return the entries of all.

        Args:
            trainings: networks and how they are trained.
            split: the split that judges.
            judge: returns the mAP of a weights file on ``split``, 0..1.
            folder: where weights are written.
            reporter: receives progress.
            at_once: trainings that run side by side (default: one per core). Each such group is written when it ends,
                so neighbours should be of similar cost.
        """
        at_once = at_once or cores()
        missing = [(a, job) for a, job in trainings if self.find(a, job, split) is None]
        for group in (missing[i : i + at_once] for i in range(0, len(missing), at_once)):
            train_detectors([a for a, _ in group], [job for _, job in group], folder, reporter, at_once)
            for artifact, job in group:
                path = folder / f"{artifact.name}.safetensors"
                self.add(artifact, job, split, judge(artifact, job, path), path)
        return [entry for a, job in trainings if (entry := self.find(a, job, split)) is not None]


def _evaluations(weights: Path) -> list[float]:
    log = weights.with_suffix(".log.csv")
    if not log.exists():
        return []
    with log.open(encoding="utf-8", newline="") as file:
        return [float(row["val_map"]) for row in csv.DictReader(file) if row.get("val_map")]


def _digest_of_tensors(path: Path) -> str:
    """Equal for equal weights; bytes of such files differ, in the order of their metadata."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode() + tensor.tobytes())
    return digest.hexdigest()[:16]


def _key(artifact: Artifact, job: TrainJob, split: str) -> str:
    return hashlib.sha256(json.dumps(identity(artifact, job, split), sort_keys=True).encode()).hexdigest()[:16]
