"""Who works on a study, and who is no more: each worker counts on in the study itself, and is judged by whether
others see it count."""

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
"""A worker of another machine that was not seen to count for so long is taken for dead."""
UNSIGNED_S = 10.0
"""The same for a trial that nobody has signed, which takes milliseconds."""
PREFIX = "beat "
LEFT = -1
_beating: set[str] = set()
"""Workers in this process: threads may each have one."""


def name_of_this() -> str:
    """``host:pid:nonce``; the nonce tells a process from an earlier one of the same number."""
    return f"{platform.node()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


class Heart:
    """Counts on every :data:`BEAT_S` seconds in a user attribute of the study, from a thread of its own, until it is
    left.

    A beat that fails (the database was gone for a moment) is made up for by the next.
    """

    def __init__(self, study: optuna.Study, worker: str, every_s: float = BEAT_S) -> None:
        self._study, self._worker, self._key, self._every_s = study, worker, PREFIX + worker, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heart", daemon=True)

    def __enter__(self) -> Heart:
        self._study.set_user_attr(self._key, 0)
        _beating.add(self._worker)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        _beating.discard(self._worker)
        with contextlib.suppress(Exception):
            self._study.set_user_attr(self._key, LEFT)

    def _beat(self) -> None:
        count = 0
        while not self._stop.wait(self._every_s):
            count += 1
            with contextlib.suppress(Exception):
                self._study.set_user_attr(self._key, count)


class Signed(BaseSampler):
    """A sampler whose trials bear their worker's name from their first moment on, so that nobody has to wait for what
    a killed process has begun."""

    def __init__(self, sampler: BaseSampler, worker: str) -> None:
        self._sampler, self._worker = sampler, worker

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        set_trial_user_attr(study, trial, "worker", self._worker)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()


class Watcher:
    """Judges other workers. Clocks of two machines need not agree: what counts is whether a beat changed while this
    process watched."""

    def __init__(self, own: str, grace_s: float = GRACE_S, now: Callable[[], float] = time.monotonic) -> None:
        self._own, self._grace_s, self._now = own, grace_s, now
        self._seen: dict[str, tuple[int | None, float]] = {}

    def alive(self, worker: str | None, attributes: Mapping[str, Any], trial: int = 0) -> bool:
        """Whether the worker of a trial (its number) may still be there; ``attributes`` are the study's. None: the
        trial is not signed (yet)."""
        if worker is None:
            others = any(self.alive(other, attributes) for other in workers(attributes) if other != self._own)
            return others and self._counts(f"trial {trial}", None, UNSIGNED_S)
        if worker == self._own:
            return True
        if attributes.get(PREFIX + worker) == LEFT or _gone(worker):
            return False
        return self._counts(worker, attributes.get(PREFIX + worker), self._grace_s)

    def _counts(self, who: str, beat: int | None, grace_s: float) -> bool:
        before, since = self._seen.get(who, (None, None))
        if since is None or before != beat:
            self._seen[who] = (beat, self._now())
            return True
        return self._now() - since < grace_s


def workers(attributes: Mapping[str, Any]) -> list[str]:
    """All that ever began and have not said goodbye."""
    return [key.removeprefix(PREFIX) for key, beat in attributes.items() if key.startswith(PREFIX) and beat != LEFT]


def _gone(worker: str) -> bool:
    """Whether it was a process of this machine that is no more."""
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
