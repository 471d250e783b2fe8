"""A predicted and a measured change both have an interval."""

from __future__ import annotations

import pytest

from benchmarks.counterfactuals import agrees, within
from nas.search.explain.surrogate import Difference

PREDICTED = Difference(1.0, 0.7, 1.3, "predicted")


@pytest.mark.parametrize(
    ("measured", "inside", "agreeing"),
    [
        (Difference(1.2, 1.1, 1.3, "measured"), True, True),
        (Difference(1.45, 1.05, 1.85, "measured"), False, True),  # .45 apart; half of the interval of both is .5
        (Difference(1.55, 1.15, 1.95, "measured"), False, False),
        (Difference(1.45, None, None, "measured"), False, False),
    ],
)
def test_measured_changes_within_and_in_agreement(measured: Difference, inside: bool, agreeing: bool) -> None:
    assert within(PREDICTED, measured) is inside
    assert agrees(PREDICTED, measured) is agreeing
