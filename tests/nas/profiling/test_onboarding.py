"""Onboarding measures what teaches most until the goal is met, keeps everything, goes on after an interruption, and
says when it falls short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import Network, Profiler, RuntimeFailure, Workload
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from nas.cli import main
from nas.core.console_reporter import ConsoleReporter
from nas.profiling import onboard as onboarding
from nas.profiling.onboard import FIRST, OnboardingGoal, OnboardingRequest, onboard
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES
from search_spaces.trace import trace
from tests._fakes import tiny_space
from tests._measured import measurement
from tests._progress import Recording

TARGET = Target("onnxruntime")
SPACE = tiny_space()


class Physics(Profiler):
    """A device whose every convolution takes a fixed time and whose MACs take theirs; ``broken`` networks fail,
    ``stop`` says when to pull the plug."""

    runtime = "onnxruntime"
    precisions = ("fp32",)
    asked: ClassVar[list[str]] = []
    broken: Callable[[Network], bool] = staticmethod(lambda network: False)
    stop_after = 10**6

    @classmethod
    def available(cls) -> str | None:
        return None

    @classmethod
    def version(cls) -> str:
        return "1"

    def measure(self, workload: Workload) -> Measurement:
        network = workload.network
        assert network is not None
        if len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked.append(network.key)
        if self.broken(network):
            raise RuntimeFailure("out of memory")
        cost = trace(
            SPACES[network.architecture.space].graph(network.architecture), network.classes, network.image_size
        )
        ms = 0.02 * sum(op.kind == "conv" for op in cost.ops) + cost.macs / 2e7
        noise = 1 + 0.01 * (int(network.architecture.id[:4], 16) / 2**15 - 1)
        return replace(measurement(network, ms * noise), verdict="clean")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> type[Physics]:
    physics = type("Device", (Physics,), {"asked": []})
    monkeypatch.setattr(onboarding, "open_profiler", lambda target: physics(target))
    return physics


def test_the_goal_is_reached_with_few_and_nothing_is_measured_twice(device: type[Physics], tmp_path: Path) -> None:
    with LatencyDB(tmp_path / "db.sqlite") as database:
        reporter = Recording()
        done = onboard(OnboardingRequest(SPACE, 10, TARGET, OnboardingGoal(0.10)), database, reporter)
        reporter.check("describing networks")
        reporter.check("networks measured", ended=False)  # the goal is reached before the most networks
        assert done.reached and done.share >= 0.95 and FIRST <= done.measured < 72
        assert len(set(device.asked)) == len(device.asked) == done.measured
        again = onboard(OnboardingRequest(SPACE, 10, TARGET, OnboardingGoal(0.10)), database, ConsoleReporter())
        assert again.reached and len(device.asked) == done.measured


def test_an_interruption_loses_nothing_and_failures_are_left_out(
    device: type[Physics], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device.stop_after = 10
    device.broken = staticmethod(lambda network: network.architecture.id[0] in "01")
    with LatencyDB(tmp_path / "db.sqlite") as database:
        with pytest.raises(KeyboardInterrupt):
            onboard(OnboardingRequest(SPACE, 10, TARGET, OnboardingGoal(0.10)), database, ConsoleReporter())
        kept = len(database.all())
        assert 0 < kept <= 10
        device.stop_after = 10**6
        done = onboard(OnboardingRequest(SPACE, 10, TARGET, OnboardingGoal(0.20)), database, ConsoleReporter())
        assert done.reached and len(database.all()) == done.measured
    assert "left out: out of memory" in capsys.readouterr().out


def test_a_device_that_always_fails_is_an_error(device: type[Physics], tmp_path: Path) -> None:
    device.broken = staticmethod(lambda network: True)
    with LatencyDB(tmp_path / "db.sqlite") as database, pytest.raises(RuntimeFailure, match="out of memory"):
        onboard(OnboardingRequest(SPACE, 10, TARGET, OnboardingGoal(0.10)), database, ConsoleReporter())


def test_falling_short_is_said(device: type[Physics], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["onboard", "--latency-db", str(tmp_path / "db.sqlite"), "--fix", "image_size=96"]
    assert main([*common, "--tolerance", "0.001%", "--max-networks", "24", "--num-classes", "10"]) == 1
    assert "short of 95%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--tolerance", "much"], "a share such as 5%"),
        (["--tolerance", "0"], "between 0 and 100"),
        (["--max-networks", "3"], "at least"),
    ],
)
def test_wrong_input(wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["onboard", *wrong]) == 2
    assert said in capsys.readouterr().err


def test_goals_are_checked() -> None:
    with pytest.raises(InputError):
        OnboardingGoal(1.5)
