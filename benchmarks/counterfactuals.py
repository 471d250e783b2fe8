"""Do measured steps fall into the intervals that were predicted for them?

``python -m benchmarks.counterfactuals --run RUN --count 20``

``RUN`` is a finished search. Its ``--count`` most interesting counterfactuals are predicted from its candidates alone and
then measured: latency in interleaved rounds beside the chosen network, accuracy by the search's own estimator. Figures:
how many measured changes are within the predicted 95 % intervals; how many agree with them, which means that predicted and
measured change differ by no more than the 95 % interval of that difference, since a measured change has an interval too;
and for how many the sign of the latency change is right. Of the signs those count whose measured change exceeds its own
interval.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from math import hypot
from pathlib import Path
from typing import Any

from benchmarks.record import Goal, write
from nas.core.console_reporter import ConsoleReporter
from nas.search.explain.run_data import read_run
from nas.search.explain.surrogate import Difference
from nas.search.explain.trust import measurements_of
from nas.search.explain.verified import VERIFIED_FILE
from nas.search.explain.verify import VerifiedStep, verified_table, verify

KEPT = (".json", ".journal", ".csv", ".safetensors")


def within(predicted: Difference, measured: Difference) -> bool:
    """Return whether a measured change is in the predicted interval."""
    assert predicted.low is not None
    assert predicted.high is not None
    return predicted.low <= measured.value <= predicted.high


def agrees(predicted: Difference, measured: Difference) -> bool:
    """Return whether the two differ by no more than the interval of their difference (independent errors)."""
    assert predicted.low is not None
    assert predicted.high is not None
    middle, half = (predicted.low + predicted.high) / 2, (predicted.high - predicted.low) / 2
    own = 0.0 if measured.low is None or measured.high is None else (measured.high - measured.low) / 2
    return abs(measured.value - middle) <= hypot(half, own)


def decided(measured: Difference) -> bool:
    """Return whether a measured change exceeds its own interval, so that its sign is known."""
    return measured.low is None or measured.high is None or measured.low > 0 or measured.high < 0


def figure_of(steps: Sequence[VerifiedStep], cost: str, gain: str) -> dict[str, Any]:
    """Return the counts and every step."""
    rows: list[dict[str, Any]] = [
        {
            "pick": s.name,
            "choice": s.counterfactual.choice,
            "before": s.counterfactual.before,
            "after": s.counterfactual.after,
            "predicted": {name: s.counterfactual.predicted[name].to_dict() for name in (cost, gain)},
            "measured": {name: s.measured[name].to_dict() for name in (cost, gain)},
            "within": {name: within(s.counterfactual.predicted[name], s.measured[name]) for name in (cost, gain)},
            "agrees": {name: agrees(s.counterfactual.predicted[name], s.measured[name]) for name in (cost, gain)},
        }
        for s in steps
    ]
    signs = [
        (s.counterfactual.predicted[cost].value > 0) == (s.measured[cost].value > 0)
        for s in steps
        if decided(s.measured[cost])
    ]
    return {
        "count": len(steps),
        "within_cost": sum(row["within"][cost] for row in rows),
        "within_gain": sum(row["within"][gain] for row in rows),
        "within_both": sum(all(row["within"].values()) for row in rows),
        "agree_both": sum(all(row["agrees"].values()) for row in rows),
        "decided_signs": len(signs),
        "right_signs": sum(signs),
        "steps": rows,
    }


def goals_of(figure: dict[str, Any]) -> list[Goal]:
    """17 of 20 within both intervals; 95 % of the signs."""
    share = figure["right_signs"] / figure["decided_signs"] if figure["decided_signs"] else 1.0
    return [
        Goal(
            "counterfactuals whose measured changes are within the predicted 95 % intervals, latency and accuracy",
            figure["within_both"],
            f">= {-(-17 * figure['count'] // 20)}",
            f"of {figure['count']}",
        ),
        Goal("counterfactuals whose latency changes with the predicted sign", share, ">= 0.95", "share"),
    ]


def main() -> None:
    """Verify and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20)
    args = parser.parse_args()
    reporter = ConsoleReporter()
    with tempfile.TemporaryDirectory(prefix="nas-counterfactuals-") as folder:
        copy = Path(folder) / args.run.name
        copy.mkdir()
        for file in args.run.iterdir():
            if file.suffix in KEPT and file.name != VERIFIED_FILE:
                shutil.copy(file, copy / file.name)
        steps = verify(copy, args.count, reporter)
        run = read_run(copy)
    reporter.table(verified_table(steps))
    figure = figure_of(steps, run.cost.name, run.gain.name)
    verdicts = [m.verdict for _, m in measurements_of(run)]
    figure |= {
        "target": str(run.plan.target),
        "candidates": len(run.candidates),
        "contended_share_of_search": verdicts.count("contended") / len(verdicts) if verdicts else None,
    }
    write("counterfactuals", figure, goals_of(figure))


if __name__ == "__main__":
    main()
