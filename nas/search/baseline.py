"""Reference models as baselines: what a chosen architecture gains over the model that its budget was taken from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas.core.estimate import Estimate, speed_up
from nas.core.units import label, quantity
from nas.search.selection import Selection
from search_spaces.image_size import ImageSize
from search_spaces.json_checks import check_fields, check_type


@dataclass(frozen=True)
class Baseline:
    """A reference model as measured on a target.

    Args:
        name: Name of the reference.
        image_size: Image size.
        latency: Latency in ms.
        params: Deployed parameters.
        macs: Multiply-accumulates at the image size.
        accuracy: Accuracy by the search's own estimate; None if it is unknown.
    """

    name: str
    image_size: ImageSize
    latency: Estimate
    params: int
    macs: int
    accuracy: Estimate | None = None

    def __str__(self) -> str:
        return f"{self.name} at {self.image_size} px"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        accuracy = {} if self.accuracy is None else {"accuracy": self.accuracy.to_dict()}
        return {
            "name": self.name,
            "image_size": self.image_size.value,
            "latency": self.latency.to_dict(),
            "params": self.params,
            "macs": self.macs,
            **accuracy,
        }

    @classmethod
    def from_dict(cls, data: object) -> Baseline:
        """Restore a baseline from :meth:`to_dict`. Raises InputError for a missing, unknown or wrongly typed field."""
        given = check_fields(data, ("name", "image_size", "latency", "params", "macs"), "baseline", ("accuracy",))
        check_type(given["name"], str, "name of a baseline")
        for field in ("params", "macs"):
            check_type(given[field], int, f"{field} of a baseline")
        accuracy = {"accuracy": Estimate.from_dict(given["accuracy"])} if "accuracy" in given else {}
        size = ImageSize.of(given["image_size"])
        return cls(**{**given, "image_size": size, "latency": Estimate.from_dict(given["latency"]), **accuracy})


@dataclass(frozen=True)
class Comparison:
    """A chosen architecture against the reference model whose latency was its budget.

    Args:
        name: Name of the pick.
        latency: Its latency in ms.
        params: Its parameters.
        macs: Its MACs.
        baseline: The reference model.
        accuracy: Its accuracy, where that of the reference is known.
        side_by_side: Whether both latencies are of one interleaved bench.
    """

    name: str
    latency: Estimate
    params: float
    macs: float
    baseline: Baseline
    accuracy: Estimate | None = None
    side_by_side: bool = False

    @property
    def speed_up(self) -> Estimate:
        """Latency of the reference by that of the pick, with its interval."""
        return speed_up(
            f"speedup_over_{self.baseline.name}@{self.baseline.image_size}", self.baseline.latency, self.latency
        )

    def __str__(self) -> str:
        ratio = self.speed_up
        faster = f"{ratio.value:.2f}x faster" if ratio.value >= 1 else f"{1 / ratio.value:.2f}x slower"
        times = f"{quantity(self.latency)} against {quantity(self.baseline.latency)}"
        costs = (
            f"{self.params / self.baseline.params:.2f}x its parameters, {self.macs / self.baseline.macs:.2f}x its MACs"
        )
        text = f"{self.name}: {faster} than {self.baseline} on {self.latency.target} ({times}), {costs}"
        if self.side_by_side and ratio.low is not None and ratio.high is not None:
            text += f"; measured side by side, ratio {ratio.low:.2f} to {ratio.high:.2f}"
        elif not self.side_by_side:
            text += "; not measured side by side"
        if self.accuracy is None or self.baseline.accuracy is None:
            return f"{text}; accuracy of {self.baseline.name} not known"
        own, other = quantity(self.accuracy), quantity(self.baseline.accuracy)
        return f"{text}; {label(self.accuracy.name)} {own} against {other} by the same estimate"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: both sides and the ratios."""
        accuracy = {} if self.accuracy is None else {"accuracy": self.accuracy.to_dict()}
        return {
            "name": self.name,
            "latency": self.latency.to_dict(),
            "params": self.params,
            "macs": self.macs,
            "baseline": self.baseline.to_dict(),
            **accuracy,
            **({"side_by_side": True} if self.side_by_side else {}),
            "ratios": {
                "speed_up": self.speed_up.to_dict(),
                "params": self.params / self.baseline.params,
                "macs": self.macs / self.baseline.macs,
            },
        }

    @classmethod
    def from_dict(cls, data: object) -> Comparison:
        """Restore a comparison from :meth:`to_dict`; the ratios are computed again.

        Raises InputError for a missing, unknown or wrongly typed field.
        """
        required = ("name", "latency", "params", "macs", "baseline", "ratios")
        given = check_fields(data, required, "comparison", ("accuracy", "side_by_side"))
        return cls(
            str(given["name"]),
            Estimate.from_dict(given["latency"]),
            float(given["params"]),
            float(given["macs"]),
            Baseline.from_dict(given["baseline"]),
            Estimate.from_dict(given["accuracy"]) if "accuracy" in given else None,
            given.get("side_by_side") is True,
        )


def compare(baselines: Mapping[str, Baseline], selection: Selection, gain: str) -> tuple[Comparison, ...]:
    """Compare the picks whose budget is a reference model's latency with that reference.

    ``gain`` is the name of the accuracy, compared where that of the reference is known.
    """
    return tuple(
        Comparison(
            p.name,
            p.candidate[selection.cost],
            p.candidate["params"].value,
            p.candidate["macs"].value,
            baselines[p.name],
            p.candidate[gain] if baselines[p.name].accuracy is not None else None,
        )
        for p in selection
        if p.name in baselines
    )
