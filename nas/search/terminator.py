"""When a search has found what there is to find: by the gain that is still to be expected, against what was spent."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from statistics import mean, median

from optuna.trial import FrozenTrial

from search_spaces.errors import InputError

GAIN = "guided:gain"
"""System attribute of a trial: the gain of hypervolume that the sampler expected of it, as a share of the hypervolume
there was."""
LEAST = 30
"""Candidates before which no search ends."""
MODEL = 10
"""Proposals whose expected gains are averaged."""
ENOUGH = 1e-3
"""``auto``: a search ends where a tenth as much work again would gain less than this share of the hypervolume."""


@dataclass
class Progress:
    """Hypervolume after every candidate, what the sampler expected of it, and when it was done."""

    volumes: list[float | None] = field(default_factory=list)
    expected: list[float | None] = field(default_factory=list)
    times: list[datetime | None] = field(default_factory=list)

    def add(self, trial: FrozenTrial, volume: float | None) -> None:
        """The next candidate, in the order in which they became known."""
        self.volumes.append(volume)
        self.expected.append(trial.system_attrs.get(GAIN))
        self.times.append(trial.datetime_complete)

    def __len__(self) -> int:
        return len(self.volumes)

    @property
    def gain(self) -> float | None:
        """Expected of the next candidate, as a share of the hypervolume: what the sampler's models say or what the
        last fifth of the candidates gained on average, whichever is more. None while that cannot be said."""
        now = self.volumes[-1] if self.volumes else None
        if now is None or now <= 0 or len(self) < LEAST:
            return None
        window = max(MODEL, len(self) // 5)
        before = self.volumes[-1 - window]
        if before is None:
            return None
        models = [e for e in self.expected[-2 * MODEL :] if e is not None][-MODEL:]
        return max((now - before) / now / window, mean(models) if models else 0.0)

    @property
    def minutes(self) -> float | None:
        """Minutes from one candidate to the next, all workers together: the median of late, so that a break does not
        count."""
        times = [t for t in self.times[-2 * MODEL :] if t is not None]
        gaps = [(b - a).total_seconds() for a, b in pairwise(times)]
        return max(median(gaps), 1e-3) / 60 if gaps else None


@dataclass(frozen=True)
class StopRule:
    """``auto``, or a gain per minute below which it is not worth going on (percent of the hypervolume)."""

    percent_per_minute: float | None = None

    @classmethod
    def parse(cls, text: str) -> StopRule:
        """From ``auto`` or a positive number."""
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

    def __call__(self, progress: Progress) -> bool:
        """Whether the search may end."""
        gain, minutes = progress.gain, progress.minutes
        if gain is None:
            return False
        if self.percent_per_minute is None:
            return gain * len(progress) / 10 < ENOUGH
        return minutes is not None and 100 * gain / minutes < self.percent_per_minute


def NEVER(progress: Progress) -> bool:
    """All candidates that were asked for are tried."""
    return False


def said(progress: Progress) -> str:
    """The rate for people; empty while it is not known."""
    gain, minutes = progress.gain, progress.minutes
    return "" if gain is None or minutes is None else f"expected gain {100 * gain / minutes:.2g} % a minute"
