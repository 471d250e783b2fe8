"""A bench as values: the models, the records of each round, and the combined result. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import mean
from typing import Any

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import Network
from latency_db.database.db import nominal_reference_ms
from nas.core.estimate import Estimate, speed_up
from nas.core.units import share
from nas.data.transforms import AREA
from nas.profiling.interleaved import combine_rounds
from search_spaces.errors import InputError
from search_spaces.registry import unknown

PUBLISHED, TRAINED, SUPERNET = "published", "trained", "supernet"
ACCURACY_KINDS = {
    PUBLISHED: "published by the authors",
    TRAINED: "trained by this project",
    SUPERNET: "with the supernet's weights, before training of its own",
}
"""Kind of accuracy -> description. Two kinds, or two data sets, never share an axis."""


@dataclass(frozen=True)
class Accuracy:
    """mAP50-95 of a model.

    Attributes:
        percent: mAP in percent.
        kind: a key of :data:`ACCURACY_KINDS`.
        data: name of the data set.
        fingerprint: of the data set.
        source: file or publication that states it.
        interval: 95 % interval in percent, where the evaluation gave one.
    """

    percent: float
    kind: str
    data: str
    fingerprint: str
    source: str
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.kind not in ACCURACY_KINDS:
            raise unknown("kind of accuracy", self.kind, ACCURACY_KINDS)

    @property
    def share(self) -> float:
        """mAP as a share 0..1, as it is shown."""
        return self.percent / 100

    @property
    def share_interval(self) -> tuple[float, float] | None:
        """95 % interval of :attr:`share`."""
        return None if self.interval is None else (self.interval[0] / 100, self.interval[1] / 100)

    @property
    def text(self) -> str:
        """mAP with its 95 % interval where it is known: ``0.452 (0.438–0.466)``."""
        ends = self.share_interval
        return share(self.share) + (f" ({share(ends[0])}–{share(ends[1])})" if ends else "")

    @property
    def scale(self) -> tuple[str, str]:
        """Kind and data set: two accuracies are comparable only where both are equal."""
        return self.kind, self.fingerprint


@dataclass(frozen=True)
class Int8Drop:
    """The effect of int8 on the accuracy of trained weights.

    Attributes:
        before: mAP50-95 in percent of the fp32 network.
        after: of the int8 network.
        images: number of evaluated images.
        evaluated_in: runtime and version that computed both.
    """

    before: float
    after: float
    images: int
    evaluated_in: str

    @property
    def points(self) -> float:
        """Points of mAP (hundredths) that are lost; negative for a gain."""
        return self.before - self.after


@dataclass(frozen=True)
class BenchModel:
    """A model that takes part in a bench.

    Attributes:
        name: unique in the bench.
        family: the family of a reference, or the run's folder.
        network: what is timed.
        params: parameters of the deployed network.
        macs: multiply-accumulates per image, at the size that is timed.
        accuracy: where one is known for the network as it is timed.
        weights: file of trained weights, where they were given.
        interpolation: how its images are shrunk, one of :data:`nas.data.transforms.INTERPOLATIONS`.
    """

    name: str
    family: str
    network: Network
    params: int
    macs: int
    accuracy: Accuracy | None = None
    weights: str | None = None
    interpolation: str = AREA

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        accuracy = self.accuracy and asdict(self.accuracy)
        return {**vars(self), "network": self.network.to_dict(), "key": self.network.key, "accuracy": accuracy}


@dataclass(frozen=True)
class BenchSettings:
    """Everything that decides what a bench measures; the first line of its journal.

    Attributes:
        targets: as text; the second, if any, is int8.
        models: name -> key of the network.
        rounds: how often each model is measured.
        seed: of the order in each round.
        data: name and fingerprint of the data set.
        versions: target -> version of the runtime.
        devices: target -> id of the device fingerprint.
    """

    targets: tuple[str, ...]
    models: Mapping[str, str]
    rounds: int = 3
    seed: int = 0
    data: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError(f"{self.rounds} rounds", "1 or more")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "targets": list(self.targets)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BenchSettings:
        """Inverse of :meth:`to_dict`; raises KeyError or TypeError for anything else."""
        return cls(**{**data, "targets": tuple(data["targets"])})

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Describe what differs in another bench's settings (JSON): ``rounds 3, now 5``."""
        found = []
        for name, now in self.to_dict().items():
            then = other.get(name)
            if name == "models" and isinstance(then, Mapping):
                changed = sorted(key for key in {*now, *then} if now.get(key) != then.get(key))
                found += [f"models ({', '.join(changed[:4])}{' …' if len(changed) > 4 else ''})"] if changed else []
            elif then != now:
                found.append(f"{name} {_plain(then)}, now {_plain(now)}")
        return found


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        value = list(value.values())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class BenchRecord:
    """One model in one round on one target: its measurement or the text of its failure, and the seconds it took."""

    round: int
    model: str
    target: str
    measurement: Measurement | None = None
    failure: str = ""
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**vars(self), "measurement": self.measurement and self.measurement.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BenchRecord:
        """Inverse of :meth:`to_dict`; raises KeyError, TypeError or InputError for anything else."""
        m = data["measurement"]
        return cls(
            int(data["round"]),
            str(data["model"]),
            str(data["target"]),
            None if m is None else Measurement.from_dict(m),
            str(data["failure"]),
            float(data["seconds"]),
        )


@dataclass(frozen=True)
class BenchEntry:
    """A model on a target: its measurements, the combined latency (None: all failed), the text of a failure."""

    model: BenchModel
    target: str
    measured: tuple[Measurement, ...]
    latency: Estimate | None
    failure: str = ""

    @property
    def verdict(self) -> str:
        """``clean``, or the machine's disturbances and the number of rounds with each."""
        troubles = [m.verdict for m in self.measured if m.verdict != "clean"]
        return (
            ", ".join(f"{t} in {troubles.count(t)} of {len(self.measured)}" for t in dict.fromkeys(troubles)) or "clean"
        )


@dataclass(frozen=True)
class BenchResult:
    """A finished bench.

    Attributes:
        settings: what was measured.
        entries: of the first target and, where there is one, of the second (int8).
        reference_ms: time of the reference model at the nominal speed, ms.
        machine: device and versions.
        drops: name -> effect of int8 on accuracy, of the models with trained weights.
    """

    settings: BenchSettings
    entries: tuple[BenchEntry, ...]
    reference_ms: float | None
    machine: Mapping[str, Any]
    drops: Mapping[str, Int8Drop] = field(default_factory=dict)

    def of(self, target: str) -> dict[str, BenchEntry]:
        """Return the entries on a target by the model's name."""
        return {e.model.name: e for e in self.entries if e.target == target}

    @property
    def main(self) -> dict[str, BenchEntry]:
        """The entries on the first target, in the order of the models."""
        return self.of(self.settings.targets[0])

    @property
    def failures(self) -> list[BenchEntry]:
        """The entries of models that failed."""
        return [e for e in self.entries if e.failure]

    def speed_ups(self) -> dict[str, Estimate]:
        """Return by name how many times as fast a model is on the second target; empty with one target."""
        if len(self.settings.targets) < 2:
            return {}
        after = {name: e.latency for name, e in self.of(self.settings.targets[1]).items()}
        pairs = {name: (e.latency, after.get(name)) for name, e in self.main.items()}
        return {name: speed_up("speed_up", a, b) for name, (a, b) in pairs.items() if a is not None and b is not None}

    def family_speed_ups(self) -> dict[str, float]:
        """Return the geometric mean of the speed-ups of each family."""
        of_family: dict[str, list[float]] = {}
        for name, ratio in self.speed_ups().items():
            of_family.setdefault(self.main[name].model.family, []).append(math.log(ratio.value))
        return {family: math.exp(mean(logs)) for family, logs in of_family.items()}

    def family_drops(self) -> dict[str, float]:
        """Return the mean drop of each family, points of mAP."""
        of_family: dict[str, list[float]] = {}
        for name, drop in self.drops.items():
            of_family.setdefault(self.main[name].model.family, []).append(drop.points)
        return {family: mean(points) for family, points in of_family.items()}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, the content of ``bench.json``."""
        times = [m.time for e in self.entries for m in e.measured if m.time]
        ratios = self.speed_ups()
        return {
            "schema": 1,
            "machine": dict(self.machine),
            "settings": self.settings.to_dict(),
            "usual_anchor_ms": self.reference_ms,
            "first": min(times, default=None),
            "last": max(times, default=None),
            "entries": [_entry_dict(e) for e in self.entries],
            "speed_up": {name: ratio.to_dict() for name, ratio in ratios.items()},
            "family_speed_up": self.family_speed_ups(),
            **(
                {"drop": {name: {**asdict(d), "points": d.points} for name, d in self.drops.items()}}
                if self.drops
                else {}
            ),
            **({"family_drop": self.family_drops()} if self.drops else {}),
        }


def _entry_dict(entry: BenchEntry) -> dict[str, Any]:
    return {
        "model": entry.model.to_dict(),
        "target": entry.target,
        "latency": entry.latency and entry.latency.to_dict(),
        "verdict": entry.verdict,
        "failure": entry.failure,
        "rounds": [m.to_dict() for m in entry.measured],
    }


def bench_result(
    settings: BenchSettings,
    models: Sequence[BenchModel],
    records: Sequence[BenchRecord],
    machine: Mapping[str, Any],
    drops: Mapping[str, Int8Drop] | None = None,
) -> BenchResult:
    """Combine the records of all rounds.

    All latencies are scaled to one nominal speed: the reference model's median time during the whole bench.

    Args:
        settings: what was measured.
        models: in the order of the result.
        records: of all rounds.
        machine: device and versions.
        drops: name -> effect of int8 on accuracy.
    """
    nominal = nominal_reference_ms(r.measurement for r in records if r.measurement is not None)
    entries = []
    for target in settings.targets:
        for model in models:
            own = [r for r in records if (r.model, r.target) == (model.name, target)]
            measured = tuple(r.measurement for r in own if r.measurement is not None)
            failure = next((r.failure for r in own if r.failure), "")
            latency = combine_rounds(measured, nominal) if measured else None
            entries.append(BenchEntry(model, target, measured, latency, failure))
    return BenchResult(settings, tuple(entries), nominal, machine, drops or {})
