"""Liveness of the workers of a study: each counts up in a user attribute of the study, and is judged by whether others
see it count."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from nas.search.optuna_compat import set_trial_user_attr

BEAT_S = 5.0
GRACE_S = 60.0
"""A worker of another machine whose count did not change for so long counts as dead."""
UNSIGNED_S = 10.0
"""The same for a trial that bears no worker's name yet, which normally takes milliseconds."""
PREFIX = "beat "
LEFT = -1
_beating: set[str] = set()
"""Workers in this process: threads may each have one."""


def new_worker_name() -> str:
    """Return ``host:pid:nonce``; the nonce distinguishes a process from an earlier one with the same number."""
    return f"{platform.node()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


class Heartbeat:
    """Context manager that counts up every :data:`BEAT_S` seconds in a user attribute of the study, in a thread.

    A beat that fails (the database was away for a moment) is made up for by the next.
    """

    def __init__(self, study: optuna.Study, worker: str, every_s: float = BEAT_S) -> None:
        self._study, self._worker, self._key, self._every_s = study, worker, PREFIX + worker, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._study.set_user_attr(self._key, 0)
        _beating.add(self._worker)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(timeout=2 * BEAT_S)  # longer only while the database is away
        _beating.discard(self._worker)
        with contextlib.suppress(Exception):
            self._study.set_user_attr(self._key, LEFT)

    def _beat(self) -> None:
        count = 0
        while not self._stop.wait(self._every_s):
            count += 1
            with contextlib.suppress(Exception):
                self._study.set_user_attr(self._key, count)


class WorkerSampler(BaseSampler):
    """A sampler whose trials bear the worker's name from their first moment, so that others need not wait for the
    trials of a killed process."""

    def __init__(self, sampler: BaseSampler, worker: str) -> None:
        self._sampler, self._worker = sampler, worker

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Write the worker's name into the trial."""
        set_trial_user_attr(study, trial, "worker", self._worker)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Delegate to the sampler."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Delegate to the sampler."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Delegate to the sampler."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Delegate to the sampler."""
        self._sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Delegate to the sampler."""
        self._sampler.reseed_rng()


class WorkerMonitor:
    """Judges whether other workers are alive.

    Clocks of two machines need not agree: only a change of a count while this process watches is evidence.
    """

    def __init__(self, own: str, grace_s: float = GRACE_S, now: Callable[[], float] = time.monotonic) -> None:
        self._own, self._grace_s, self._now = own, grace_s, now
        self._seen: dict[str, tuple[int | None, float]] = {}

    def alive(self, worker: str | None, attributes: Mapping[str, Any], trial: int = 0) -> bool:
        """Return whether the worker of a trial may still be alive.

        Args:
            worker: Name of the worker; None if the trial bears no name (yet).
            attributes: User attributes of the study.
            trial: Number of the trial.
        """
        if worker is None:
            others = any(self.alive(other, attributes) for other in workers(attributes) if other != self._own)
            return others and self._counts(f"trial {trial}", None, UNSIGNED_S)
        if worker == self._own:
            return True
        if attributes.get(PREFIX + worker) == LEFT or _ended(worker):
            return False
        return self._counts(worker, attributes.get(PREFIX + worker), self._grace_s)

    def _counts(self, who: str, beat: int | None, grace_s: float) -> bool:
        before, since = self._seen.get(who, (None, None))
        if since is None or before != beat:
            self._seen[who] = (beat, self._now())
            return True
        return self._now() - since < grace_s


def workers(attributes: Mapping[str, Any]) -> list[str]:
    """Return the workers that began and did not leave, from the user attributes of the study."""
    return [key.removeprefix(PREFIX) for key, beat in attributes.items() if key.startswith(PREFIX) and beat != LEFT]


def _ended(worker: str) -> bool:
    """Return whether the worker was a process of this machine that has ended."""
    host, pid, *_ = (*worker.split(":"), "", "")
    if host != platform.node() or not pid.isdecimal():
        return False
    if int(pid) == os.getpid():
        return worker not in _beating  # a study that is no longer run, or an earlier process with our number
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
