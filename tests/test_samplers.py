"""Optuna's own conformance suite, for the samplers that are ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.samplers import BaseSampler

from nas.samplers.guided import GuidedSampler

suites = pytest.importorskip("optuna.testing.pytest_samplers", reason="this optuna has no sampler suite (5.0 has)")


class TestGuided(suites.BasicSamplerTestCase, suites.RelativeSamplerTestCase, suites.MultiObjectiveSamplerTestCase):  # type: ignore[name-defined]
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: GuidedSampler(0, initial=3)
