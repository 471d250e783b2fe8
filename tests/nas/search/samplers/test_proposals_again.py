"""A proposal that a kill interrupts is made again: by another process, with the same result."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState

from nas.search.samplers import SAMPLERS, StudyInfo

SPACE: dict[str, BaseDistribution] = {f"x{i}": CategoricalDistribution(range(8)) for i in range(6)}


@pytest.mark.parametrize("name", ["random", "nsga2", "tpe"])
def test_an_interrupted_proposal_is_made_again(name: str) -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    for number in range(65):  # three generations of NSGA-II
        study.sampler = SAMPLERS[name](0, StudyInfo(SPACE, stream=number))
        interrupted = study.ask(SPACE)
        study.tell(interrupted, state=TrialState.FAIL)
        study.sampler = SAMPLERS[name](0, StudyInfo(SPACE, stream=number))
        again = study.ask(SPACE)
        assert again.params == interrupted.params, number
        values = [int(v) for v in again.params.values()]
        study.tell(again, (sum(values), sum(v * (i % 3) for i, v in enumerate(values))))
