"""Why a chosen network is what it is, as one value with a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.core.estimate import Candidate
from nas.search.explain.counterfactuals import Counterfactual, counterfactuals, ordered, with_verified
from nas.search.explain.run_data import RunData, read_run
from nas.search.explain.surrogate import RunSurrogates
from nas.search.explain.verified import read_verified
from nas.search.explain.waterfall import Waterfall, waterfall
from nas.search.samplers.blas import on_one_blas_thread

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Explanation:
    """Why a network was chosen: what each step of each of its choices would change, and where it comes from.

    Args:
        name: Name of the pick.
        id: Id of the network.
        cost, gain: Names of the two estimates that it was chosen by.
        budget: Upper bound of its cost; None without.
        values: Value of every estimate of the network by name.
        counterfactuals: Steps that help most first.
        waterfall: The way from the nearest stock network; None if there is nothing to start from.
    """

    name: str
    id: str
    cost: str
    gain: str
    budget: float | None
    values: Mapping[str, float]
    counterfactuals: tuple[Counterfactual, ...]
    waterfall: Waterfall | None = field(default=None)

    @property
    def table(self) -> pd.DataFrame:
        """One row per counterfactual.

        Columns: ``choice``, ``before``, ``after``, ``step``, ``id``; for cost and gain the change (``.change``), its 95 %
        interval (``.low``, ``.high``) and ``.source``; ``effect`` (saves, costs, open); ``efficiency`` (gain per unit of cost); ``params.change``,
        ``macs.change``; ``verified``.
        """
        import pandas as pd

        rows = []
        for one in self.counterfactuals:
            row: dict[str, object] = {k: getattr(one, k) for k in ("choice", "before", "after", "step", "id")}
            for name in (self.cost, self.gain):
                change = one.best(name)
                row[f"{name}.change"] = change.value
                row |= {f"{name}.{part}": getattr(change, part) for part in ("low", "high", "source")}
            row["effect"] = one.effect(self.cost)
            row["efficiency"] = one.efficiency(self.cost, self.gain)
            row |= {f"{name}.change": change.value for name, change in one.computed.items() if name != self.cost}
            rows.append({**row, "verified": one.verified})
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "id": self.id,
            "cost": self.cost,
            "gain": self.gain,
            "budget": self.budget,
            "values": dict(self.values),
            "counterfactuals": [
                {**c.to_dict(), "effect": c.effect(self.cost), "efficiency": c.efficiency(self.cost, self.gain)}
                for c in self.counterfactuals
            ],
            "waterfall": None if self.waterfall is None else self.waterfall.to_dict(),
        }


def explain(folder: Path, name: str) -> Explanation:
    """Explain a chosen network of a run.

    Raises InputError for an unknown name, or a run with too few candidates for a surrogate.
    """
    run = read_run(folder)
    pick = run.pick(name)
    return explanation_of(run, name, pick, RunSurrogates(run))


@on_one_blas_thread
def explanation_of(run: RunData, name: str, candidate: Candidate, surrogates: RunSurrogates) -> Explanation:
    """Explain a candidate under a name, with the measurements that verified its counterfactuals."""
    budgets = {p.name: p.budget for p in run.selection or ()}
    found = counterfactuals(run, candidate, surrogates)
    verified = read_verified(run.folder).get(candidate.id, {})
    steps = ordered(with_verified(found, verified), run.cost.name, run.gain.name)
    values = {e.name: e.value for e in candidate.estimates}
    return Explanation(
        name,
        candidate.id,
        run.cost.name,
        run.gain.name,
        budgets.get(name),
        values,
        steps,
        waterfall(run, candidate, surrogates),
    )
