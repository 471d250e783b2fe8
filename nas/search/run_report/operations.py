"""Where the time of the chosen networks goes: latency per operation on the run's target."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latency_db.operation_profile.profile import (
    SMALL,
    OperationProfile,
    profile_operations,
    profiling_process,
    why_unprofiled,
)
from latency_db.operation_profile.roofline import Roofline, measure_roofline, roofline_process
from latency_db.timing.timing_client import TimingClient
from nas.core.estimate import Candidate
from nas.core.reporter import Reporter
from nas.estimators.base import Context
from nas.search.explain.run_data import RunData
from search_spaces.errors import InputError
from search_spaces.image_size import optional_size


@dataclass(frozen=True)
class Operations:
    """Latency per operation of chosen networks.

    Args:
        profiles: Profile by id of the network.
        roofline: What one core of the machine reaches; None where nothing was profiled.
        missing: Why there is no profile; empty otherwise.
    """

    profiles: Mapping[str, OperationProfile]
    roofline: Roofline | None
    missing: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; every operation with what it is bound by."""
        profiles = {}
        for id_, profile in self.profiles.items():
            data = profile.to_dict()
            for row, operation in zip(data["operations"], profile.operations, strict=True):
                row["bound"] = (
                    None
                    if self.roofline is None or not (operation.macs or operation.bytes)
                    else self.roofline.bound(operation.macs, operation.bytes, operation.ms)
                )
            profiles[id_] = data
        roofline = None if self.roofline is None else self.roofline.to_dict()
        return {"profiles": profiles, "roofline": roofline, "missing": self.missing}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Operations:
        """Restore from :meth:`to_dict`."""
        profiles = {}
        for id_, profile in data["profiles"].items():
            rows = [{k: v for k, v in row.items() if k != "bound"} for row in profile["operations"]]
            profiles[id_] = OperationProfile.from_dict({**profile, "operations": rows})
        roofline = None if data["roofline"] is None else Roofline.from_dict(data["roofline"])
        return cls(profiles, roofline, str(data["missing"]))


def operations_of(run: RunData, elsewhere: str, reporter: Reporter, kept: Operations | None = None) -> Operations:
    """Profile the chosen networks of a run on its target.

    A network that cannot be profiled is left out with a warning.

    Args:
        run: The run.
        elsewhere: Why nothing can be measured here; empty where it can.
        reporter: Receives the progress.
        kept: An earlier result, whose profiles are not measured again.
    """
    picks = {p.candidate.id: p.candidate for p in run.selection or ()}
    profiles = {id_: p for id_, p in kept.profiles.items() if id_ in picks} if kept is not None else {}
    target = run.plan.target
    if profiles.keys() != picks.keys() and (reason := elsewhere or why_unprofiled(target)):
        return Operations({}, None, reason)
    if run.plan.settings.precisions or target.precision == "int8":
        return Operations({}, None, "networks in int8 are not profiled: that needs the calibration of the data set")
    roofline = kept.roofline if kept is not None else None
    missing = [id_ for id_ in picks if id_ not in profiles]
    with ExitStack() as processes:  # all start at once: their libraries are loaded while networks are written
        profiler = processes.enter_context(profiling_process(target)) if missing else None
        machine = processes.enter_context(roofline_process()) if roofline is None else None
        if profiler is not None:
            with reporter.steps("latency per operation") as update:
                overhead_ms = None  # of the target, so that one network shows it
                for i, id_ in enumerate(missing):
                    update(i, len(missing), id_)
                    try:
                        profiles[id_] = _profile(run, picks[id_], profiler, overhead_ms)
                        overhead_ms = profiles[id_].overhead_ms
                    except InputError as error:
                        reporter.warning(f"{id_} is not profiled: {error}")
                update(len(missing), len(missing), "")
        roofline = roofline or measure_roofline(machine)
    return Operations(profiles, roofline)


def _profile(run: RunData, candidate: Candidate, process: TimingClient, overhead_ms: float | None) -> OperationProfile:
    target = run.plan.target
    with tempfile.TemporaryDirectory(prefix="nas-operations-") as scratch:
        workloads = []
        for name, size in (("network", target.image_size), ("small", SMALL))[: 2 if overhead_ms is None else 1]:
            folder = Path(scratch) / name
            folder.mkdir()
            context = Context(
                run.plan.space, run.num_classes, target=replace(target, image_size=optional_size(size)), scratch=folder
            )
            workloads.append(context.workload(candidate.architecture))
        small = workloads[1] if overhead_ms is None else None
        return profile_operations(workloads[0], target, small=small, process=process, overhead_ms=overhead_ms)
