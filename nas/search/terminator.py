"""Automatic stopping: the expected gain of hypervolume against the work done so far.

=========  ==========================================================================================
n          candidates so far
HV_i       hypervolume after candidate i
w          window, max(:data:`WINDOW`, n // 5)
gain       max((HV_n - HV_{n-w}) / HV_n / w, mean of the sampler's last :data:`WINDOW` expected gains)
rate       100 * gain / (median minutes between candidates), in percent per minute
auto       the search stops if n / 10 * gain < :data:`ENOUGH`
=========  ==========================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from statistics import mean, median

from optuna.trial import FrozenTrial

from search_spaces.errors import InputError

GAIN = "guided:gain"
"""System attribute of a trial: gain of hypervolume that the sampler expected, as a share of the hypervolume then."""
LEAST = 30
"""Smallest number of candidates of a search that stops automatically."""
WINDOW = 10
"""Proposals whose expected gains are averaged."""
ENOUGH = 1e-3
"""``auto``: the search stops if another tenth of the work would gain less than this share of the hypervolume."""


@dataclass
class SearchProgress:
    """Hypervolume after every candidate, the gain that the sampler expected of it, and its completion time."""

    volumes: list[float | None] = field(default_factory=list)
    expected: list[float | None] = field(default_factory=list)
    times: list[datetime | None] = field(default_factory=list)

    def add(self, trial: FrozenTrial, volume: float | None) -> None:
        """Add the next candidate with the hypervolume after it."""
        self.volumes.append(volume)
        self.expected.append(trial.system_attrs.get(GAIN))
        self.times.append(trial.datetime_complete)

    def __len__(self) -> int:
        return len(self.volumes)

    @property
    def gain(self) -> float | None:
        """Expected gain of the next candidate as a share of the hypervolume; None before :data:`LEAST` candidates."""
        now = self.volumes[-1] if self.volumes else None
        if now is None or now <= 0 or len(self) < LEAST:
            return None
        window = max(WINDOW, len(self) // 5)
        before = self.volumes[-1 - window]
        if before is None:
            return None
        models = [e for e in self.expected[-2 * WINDOW :] if e is not None][-WINDOW:]
        return max((now - before) / now / window, mean(models) if models else 0.0)

    @property
    def minutes(self) -> float | None:
        """Median minutes between recent candidates of all workers together; a break does not count."""
        times = [t for t in self.times[-2 * WINDOW :] if t is not None]
        gaps = [(b - a).total_seconds() for a, b in pairwise(times)]
        return max(median(gaps), 1e-3) / 60 if gaps else None

    @property
    def rate_text(self) -> str:
        """The expected gain per minute as text; empty while it is unknown."""
        gain, minutes = self.gain, self.minutes
        return "" if gain is None or minutes is None else f"expected gain {100 * gain / minutes:.2g} % a minute"


@dataclass(frozen=True)
class StopRule:
    """Decides when a search stops: ``auto``, or below a gain in percent of the hypervolume per minute."""

    percent_per_minute: float | None = None

    @classmethod
    def parse(cls, text: str) -> StopRule:
        """Parse ``auto`` or a number between 0 and 100. Raises InputError for anything else."""
        if text == "auto":
            return cls()
        try:
            value = float(text.removesuffix("%"))
        except ValueError:
            value = 0.0
        if not 0 < value < 100:
            raise InputError(
                f"--stop {text}", "auto, or the least gain of hypervolume in percent per minute, for example 0.05"
            )
        return cls(value)

    def __call__(self, progress: SearchProgress) -> bool:
        """Return whether the search may stop."""
        gain, minutes = progress.gain, progress.minutes
        if gain is None:
            return False
        if self.percent_per_minute is None:
            return gain * len(progress) / 10 < ENOUGH
        return minutes is not None and 100 * gain / minutes < self.percent_per_minute


def never(progress: SearchProgress) -> bool:
    """Never stop: all trials are run."""
    return False
