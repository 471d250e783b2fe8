"""A bench as values: who took part, what each round measured, and what the rounds say together. No torch here."""

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
from nas.profiling.interleaved import combine_rounds
from search_spaces.errors import InputError
from search_spaces.registry import unknown

PUBLISHED, TRAINED, SUPERNET = "published", "trained", "supernet"
ACCURACY_KINDS = {
    PUBLISHED: "published by the authors",
    TRAINED: "trained by this project",
    SUPERNET: "with the supernet's weights, before training of its own",
}
"""Kinds of accuracy -> what they are. Two kinds, or two data sets, are never on one axis."""


@dataclass(frozen=True)
class Accuracy:
    """mAP50-95 in percent: its kind (a key of :data:`ACCURACY_KINDS`), its data set by name and fingerprint, and who says so."""

    percent: float
    kind: str
    data: str
    fingerprint: str
    source: str

    def __post_init__(self) -> None:
        if self.kind not in ACCURACY_KINDS:
            raise unknown("kind of accuracy", self.kind, ACCURACY_KINDS)

    @property
    def scale(self) -> tuple[str, str]:
        """What has to be equal for two of them to be compared: kind and data set."""
        return self.kind, self.fingerprint


@dataclass(frozen=True)
class Int8Drop:
    """What int8 does to trained weights: mAP50-95 in percent of the fp32 network and of the int8 one, on so many
    images of the data set, both as the runtime computes them (``evaluated_in``)."""

    before: float
    after: float
    images: int
    evaluated_in: str

    @property
    def points(self) -> float:
        """Of mAP that are lost; negative where some were won."""
        return self.before - self.after


@dataclass(frozen=True)
class BenchModel:
    """Who takes part: a name (each once in a bench), a family, the network that is timed, and its accuracy where one
    is known.

    ``params`` and ``macs`` are of the deployed network at the size it is timed at; ``weights`` is the file of its
    trained weights where they were given.
    """

    name: str
    family: str
    network: Network
    params: int
    macs: int
    accuracy: Accuracy | None = None
    weights: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        accuracy = self.accuracy and asdict(self.accuracy)
        return {**vars(self), "network": self.network.to_dict(), "key": self.network.key, "accuracy": accuracy}


@dataclass(frozen=True)
class BenchSettings:
    """All that decides what a bench measures. ``models`` are names and the keys of their networks, ``versions`` and
    ``devices`` by target."""

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

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """What is otherwise in another bench's settings (JSON), in words: ``rounds 3, now 5``."""
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
    """One model's turn in one round on one target: its measurement or, in words, its failure; ``seconds`` is what the
    turn took in all."""

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
        """Inverse of :meth:`to_dict`; KeyError, TypeError or InputError for what is none."""
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
    """A model on a target: its measurements, one per round, as they were; the latency that they say together (None:
    all failed); why one failed."""

    model: BenchModel
    target: str
    measured: tuple[Measurement, ...]
    latency: Estimate | None
    failure: str = ""

    @property
    def verdict(self) -> str:
        """``clean``, or what was wrong with the machine in how many of the rounds."""
        troubles = [m.verdict for m in self.measured if m.verdict != "clean"]
        return (
            ", ".join(f"{t} in {troubles.count(t)} of {len(self.measured)}" for t in dict.fromkeys(troubles)) or "clean"
        )


@dataclass(frozen=True)
class BenchResult:
    """A finished bench. ``entries`` of the first target and, where there is a second (int8), of that; ``machine``
    describes devices and versions.

    ``drops``: what int8 does to the accuracy of the models that brought trained weights, by name.
    """

    settings: BenchSettings
    entries: tuple[BenchEntry, ...]
    usual_anchor_ms: float | None
    machine: Mapping[str, Any]
    drops: Mapping[str, Int8Drop] = field(default_factory=dict)

    def of(self, target: str) -> dict[str, BenchEntry]:
        """The entries on a target by the model's name."""
        return {e.model.name: e for e in self.entries if e.target == target}

    @property
    def main(self) -> dict[str, BenchEntry]:
        """The entries on the target that was asked for, in the order of the models."""
        return self.of(self.settings.targets[0])

    @property
    def failures(self) -> list[BenchEntry]:
        return [e for e in self.entries if e.failure]

    def speed_ups(self) -> dict[str, Estimate]:
        """How many times as fast each model is on the second target as on the first, where both were measured; empty
        with one target."""
        if len(self.settings.targets) < 2:
            return {}
        after = {name: e.latency for name, e in self.of(self.settings.targets[1]).items()}
        pairs = {name: (e.latency, after.get(name)) for name, e in self.main.items()}
        return {name: speed_up("speed_up", a, b) for name, (a, b) in pairs.items() if a is not None and b is not None}

    def family_speed_ups(self) -> dict[str, float]:
        """The geometric mean of a family's."""
        of_family: dict[str, list[float]] = {}
        for name, ratio in self.speed_ups().items():
            of_family.setdefault(self.main[name].model.family, []).append(math.log(ratio.value))
        return {family: math.exp(mean(logs)) for family, logs in of_family.items()}

    def family_drops(self) -> dict[str, float]:
        """The mean of a family's, in points."""
        of_family: dict[str, list[float]] = {}
        for name, drop in self.drops.items():
            of_family.setdefault(self.main[name].model.family, []).append(drop.points)
        return {family: mean(points) for family, points in of_family.items()}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, ``bench.json``: machine, settings, and of every entry the model, the combined latency and each
        round."""
        times = [m.time for e in self.entries for m in e.measured if m.time]
        ratios = self.speed_ups()
        return {
            "schema": 1,
            "machine": dict(self.machine),
            "settings": self.settings.to_dict(),
            "usual_anchor_ms": self.usual_anchor_ms,
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
    turns: Sequence[BenchRecord],
    machine: Mapping[str, Any],
    drops: Mapping[str, Int8Drop] | None = None,
) -> BenchResult:
    """What the turns say of every model on every target, all at one speed of the machine: the anchor's usual one
    during the bench."""
    usual = nominal_reference_ms(t.measurement for t in turns if t.measurement is not None)
    entries = []
    for target in settings.targets:
        for model in models:
            own = [t for t in turns if (t.model, t.target) == (model.name, target)]
            measured = tuple(t.measurement for t in own if t.measurement is not None)
            failure = next((t.failure for t in own if t.failure), "")
            entries.append(
                BenchEntry(model, target, measured, combine_rounds(measured, usual) if measured else None, failure)
            )
    return BenchResult(settings, tuple(entries), usual, machine, drops or {})
