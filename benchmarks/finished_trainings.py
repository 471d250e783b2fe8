"""mAP of finished trainings in a file, so that a comparison of many networks can be continued later, on any machine.

A training that the file knows is not repeated, even where its weights are gone.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latency_db.core.device import DeviceFingerprint
from latency_db.core.measurement import now
from nas.core.architecture_file import Artifact
from nas.core.atomic import atomic_write
from nas.supernet.weights import digest_of
from nas.training.job import TrainJob


def identity(artifact: Artifact, job: TrainJob, split: str) -> dict[str, Any]:
    """What decides the mAP of a training: network, data, recipe, augmentation, initial weights, split that judges."""
    return {
        "architecture": artifact.architecture.to_dict(),
        "classes": list(artifact.classes),
        "recipe": job.recipe.to_dict(),
        "augmentation": job.augmentation.to_dict(),
        "init": "scratch" if job.init is None else digest_of(job.init),
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
        """Return the entry of a training: ``map`` (0..1), ``val`` (mAP on the val split of each evaluation during the
        training), ``machine``, ``date``; None if it is not finished."""
        return self._entries.get(_key(artifact, job, split))

    def add(self, artifact: Artifact, job: TrainJob, split: str, value: float, weights: Path) -> None:
        """Write the mAP (``value``, 0..1) of a training on ``split``; ``weights`` has its log beside it."""
        self._entries[_key(artifact, job, split)] = {
            "name": artifact.name,
            "seed": job.recipe.seed,
            "map": value,
            "val": evaluations(weights),
            "machine": DeviceFingerprint.read().to_dict()["cpu"],
            "date": now(),
            "of": identity(artifact, job, split),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(self._path, json.dumps(self._entries, indent=1) + "\n")


def evaluations(weights: Path) -> Sequence[float]:
    """mAP50-95 on the val split at each evaluation during a training, 0..1."""
    with weights.with_suffix(".log.csv").open(encoding="utf-8", newline="") as file:
        return [float(row["val_map"]) for row in csv.DictReader(file) if row.get("val_map")]


def _key(artifact: Artifact, job: TrainJob, split: str) -> str:
    return hashlib.sha256(json.dumps(identity(artifact, job, split), sort_keys=True).encode()).hexdigest()[:16]
