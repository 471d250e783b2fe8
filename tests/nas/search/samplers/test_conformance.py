"""The guided sampler against the conformance suite that Optuna ships since 4.8."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.samplers import BaseSampler

from nas.search.samplers.config import SamplerConfig
from nas.search.samplers.guided import GuidedSampler

suites = pytest.importorskip("optuna.testing.pytest_samplers", reason="Optuna ships its sampler suite since 4.8")


class TestGuided(suites.BasicSamplerTestCase, suites.RelativeSamplerTestCase, suites.MultiObjectiveSamplerTestCase):  # type: ignore[name-defined]
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: GuidedSampler(0, SamplerConfig(n_startup_trials=3))
