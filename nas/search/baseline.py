"""References as yardsticks: what a chosen architecture gains over the network that its budget was taken from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas.core.estimate import Estimate, speed_up
from nas.core.units import quantity
from nas.search.selection import Selection
from search_spaces.json_checks import check_fields, check_type


@dataclass(frozen=True)
class Baseline:
    """A reference as it was measured on a target: image size in pixels, latency in ms, deployed parameters, MACs at
    that size."""

    name: str
    image_size: int
    latency: Estimate
    params: int
    macs: int

    def __str__(self) -> str:
        return f"{self.name} at {self.image_size} px"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**vars(self), "latency": self.latency.to_dict()}

    @classmethod
    def from_dict(cls, data: object) -> Baseline:
        """Restore a baseline from :meth:`to_dict`. Raises InputError for a missing, unknown or wrongly typed field."""
        given = check_fields(data, ("name", "image_size", "latency", "params", "macs"), "baseline")
        check_type(given["name"], str, "name of a baseline")
        for field in ("image_size", "params", "macs"):
            check_type(given[field], int, f"{field} of a baseline")
        return cls(**{**given, "latency": Estimate.from_dict(given["latency"])})


@dataclass(frozen=True)
class Comparison:
    """A chosen architecture (its name, latency in ms, parameters, MACs) against the reference whose latency was its
    budget."""

    name: str
    latency: Estimate
    params: float
    macs: float
    baseline: Baseline

    @property
    def speed_up(self) -> Estimate:
        """How many times as fast as the reference."""
        return speed_up(
            f"speedup_over_{self.baseline.name}@{self.baseline.image_size}", self.baseline.latency, self.latency
        )

    def __str__(self) -> str:
        ratio = self.speed_up.value
        said = f"{ratio:.2f}x faster" if ratio >= 1 else f"{1 / ratio:.2f}x slower"
        times = f"{quantity(self.latency)} against {quantity(self.baseline.latency)}"
        costs = (
            f"{self.params / self.baseline.params:.2f}x its parameters, {self.macs / self.baseline.macs:.2f}x its MACs"
        )
        return f"{self.name}: {said} than {self.baseline} on {self.latency.target} ({times}), {costs}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: both sides and the ratios."""
        ratios = {
            "speed_up": self.speed_up.to_dict(),
            "params": self.params / self.baseline.params,
            "macs": self.macs / self.baseline.macs,
        }
        return {
            "name": self.name,
            "latency": self.latency.to_dict(),
            "params": self.params,
            "macs": self.macs,
            "baseline": self.baseline.to_dict(),
            "ratios": ratios,
        }

    @classmethod
    def from_dict(cls, data: object) -> Comparison:
        """Inverse of :meth:`to_dict`; the ratios are worked out again."""
        given = check_fields(data, ("name", "latency", "params", "macs", "baseline", "ratios"), "comparison")
        baseline = Baseline.from_dict(given["baseline"])
        return cls(
            str(given["name"]),
            Estimate.from_dict(given["latency"]),
            float(given["params"]),
            float(given["macs"]),
            baseline,
        )


def compare(baselines: Mapping[str, Baseline], selection: Selection) -> tuple[Comparison, ...]:
    """The picks whose budget is a reference's latency, against that reference."""
    return tuple(
        Comparison(
            p.name,
            p.candidate[selection.cost],
            p.candidate["params"].value,
            p.candidate["macs"].value,
            baselines[p.name],
        )
        for p in selection
        if p.name in baselines
    )
