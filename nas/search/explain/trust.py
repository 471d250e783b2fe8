"""What a reader needs to trust the figures of a run and to repeat them: device, conditions, seeds, commands, hashes."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from statistics import median, stdev
from typing import Any

from latency_db.core.measurement import LatencyKey, Measurement
from latency_db.database.db import LatencyDB
from latency_db.database.filters import MeasurementFilter
from latency_db.runtimes import RUNTIMES, open_profiler
from nas.profiling.default_database import default_latency_db
from nas.search.explain.commands import commands_of
from nas.search.explain.run_data import RunData
from search_spaces.errors import InputError

PACKAGES = ("hw-nas-yolo", "torch", "onnxruntime", "openvino", "ncnn", "optuna", "numpy")
HASHED = ("run.json", "study.journal", "front.json", "front.csv", "candidates.csv", "supernet.safetensors")
ENDINGS = (".json", ".safetensors", ".onnx", ".log.csv", ".metrics.json")
OWN_FILES = ("report.json",)


@dataclass(frozen=True)
class FileHash:
    """SHA-256 of a file of the run, and its bytes."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Trust:
    """Where the figures of a run come from.

    Args:
        device: Device of the measurements: fields of its fingerprint; empty where nothing was measured.
        runtime: Runtime and its version, as the measurements record them.
        system: Operating system and Python of the measurements.
        verdicts: Number of measurements by verdict: clean, contended, throttled.
        clocks: Number of measurements by clock: wall or CPU time.
        busy_elsewhere: Median share of the CPU that other processes used; None if unknown.
        steal_share: Largest share of time that a hypervisor withheld; None if unknown.
        throttle_events: Events of throttling in all measurements; None if unknown.
        reference_spread: Standard deviation of the reference model's latency over the measurements, as a share of its
            mean: how much the machine's speed changed. None with fewer than two.
        repeatability: Median relative difference of first and second measurements of the chosen; None without.
        measured: First and last time of the measurements, ISO 8601; empty without.
        keys: Database keys of S, M and L: ``workload | target | version | device``.
        seed: Seed of the search.
        versions: Installed packages of the machine that wrote the report.
        commands: Commands that repeat the run, one a line.
        files: Hashes of the run's files.
    """

    device: Mapping[str, Any]
    runtime: str
    system: Mapping[str, str]
    verdicts: Mapping[str, int]
    clocks: Mapping[str, int]
    busy_elsewhere: float | None
    steal_share: float | None
    throttle_events: int | None
    reference_spread: float | None
    repeatability: float | None
    measured: tuple[str, ...]
    keys: Mapping[str, str]
    seed: int
    versions: Mapping[str, str]
    commands: tuple[str, ...]
    files: tuple[FileHash, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def trust(run: RunData, rows: Sequence[tuple[LatencyKey, Measurement]]) -> Trust:
    """Return where the figures of a run come from.

    ``rows``: the run's measurements (:func:`measurements_of`).
    """
    measured = [m for _, m in rows]
    environments = [m.environment for m in measured]
    last = environments[-1] if environments else {}
    references = [m.reference_ms for m in measured if m.reference_ms]
    times = sorted(m.time for m in measured if m.time)
    versions = sorted({k.version for k, _ in rows})
    throttled = [e["throttle_events"] for e in environments if e.get("throttle_events") is not None]
    return Trust(
        device=dict(last.get("device", {})),
        runtime=f"{run.plan.target.runtime} {', '.join(versions)}".strip(),
        system={name: str(last[name]) for name in ("system", "python") if name in last},
        verdicts=dict(Counter(m.verdict for m in measured)),
        clocks=dict(Counter(m.clock for m in measured)),
        busy_elsewhere=_median([e.get("busy_elsewhere") for e in environments]),
        steal_share=max(
            (float(e["steal_share"]) for e in environments if e.get("steal_share") is not None), default=None
        ),
        throttle_events=sum(throttled) if throttled else None,
        reference_spread=stdev(references) / (math.fsum(references) / len(references)) if len(references) > 1 else None,
        repeatability=_repeatability(run),
        measured=(times[0], times[-1]) if times else (),
        keys=_keys(run, rows),
        seed=run.plan.settings.seed,
        versions=_versions(),
        commands=commands_of(run),
        files=tuple(_hashes(run.folder)),
    )


def measurements_of(run: RunData) -> list[tuple[LatencyKey, Measurement]]:
    """Return the measurements of a run's candidates on its targets; empty where the database cannot be read."""
    wanted = {f"{c.architecture.space}@{c.architecture.version}/{c.architecture.id}/" for c in run.candidates}
    location = run.plan.settings.latency_db or default_latency_db()
    if "://" not in str(location) and not Path(location).is_file():
        return []
    targets = {str(t) for t in run.plan.targets.values()}
    try:
        with LatencyDB(location) as database:
            rows = list(database.rows(MeasurementFilter()))
    except InputError:
        return []
    return [
        (key, m)
        for key, m in sorted(rows, key=lambda row: row[1].time)
        if key.target in targets and any(key.workload.startswith(w) for w in wanted)
    ]


def why_not_here(run: RunData, rows: Sequence[tuple[LatencyKey, Measurement]]) -> str:
    """Return why this machine cannot add measurements to those of a run; empty where it can.

    ``rows``: the run's measurements (:func:`measurements_of`).
    """
    if run.plan.settings.on:
        return f"the run was measured on {run.plan.settings.on}"
    target = run.plan.target
    if not RUNTIMES[target.runtime].measures or (reason := RUNTIMES[target.runtime].available()):
        return f"{target} is not measured here" + (f": {reason}" if RUNTIMES[target.runtime].measures else "")
    devices = {key.device for key, _ in rows}
    try:
        with open_profiler(target) as profiler:
            own = profiler.fingerprint().id
    except InputError as error:
        return str(error)
    return "" if not devices or own in devices else "the run was measured on another device"


def _median(values: Sequence[object]) -> float | None:
    numbers = [float(v) for v in values if isinstance(v, (int, float))]
    return median(numbers) if numbers else None


def _repeatability(run: RunData) -> float | None:
    """Return the median relative difference of first and second measurements of the cost."""
    name = run.cost.name
    pairs = [(c[f"{name}_first"].value, c[name].value) for c in run.candidates if f"{name}_first" in c]
    return median(abs(a - b) / b for a, b in pairs) if pairs else None


def _keys(run: RunData, rows: Sequence[tuple[LatencyKey, Measurement]]) -> dict[str, str]:
    found = {}
    for pick in run.selection or ():
        for key, _ in rows:
            if f"/{pick.candidate.architecture.id}/" in key.workload:
                found[pick.name] = " | ".join((key.workload, key.target, key.version, key.device))
    return found


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = package_version(package)
        except PackageNotFoundError:
            continue
    return found


def _hashes(folder: Path) -> list[FileHash]:
    """Return the hashes of the run's files that decide or hold its results, by name."""
    files = [f for f in folder.iterdir() if f.is_file() and f.name not in OWN_FILES]
    kept = sorted(f for f in files if f.name in HASHED or f.name.endswith(ENDINGS))
    return [FileHash(f.name, file_sha256(f), f.stat().st_size) for f in kept]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def manifest(files: Sequence[FileHash]) -> str:
    """Return the SHA-256 of the list of all hashes: one number that stands for the whole run."""
    rows = json.dumps([[f.name, f.sha256] for f in files], separators=(",", ":"))
    return hashlib.sha256(rows.encode()).hexdigest()
