"""One driver per study: the process that searches is the only one that writes the study.

Beside a journal or an SQLite file, the driver holds a kernel lock on ``.FILE.driver``, which ends with its process. In
a database it keeps a record of itself in the study. A record cannot be compared and set in one operation, so the
driver writes it, waits, reads it back, and reads it again before every change: of two processes that begin at the same
moment, the one whose record is there continues, and the other ends.

A record of a process that has ended on this machine is replaced. Whether a process of another machine is alive cannot
be seen from here, so its record is respected until the user says otherwise (``take_over``).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import optuna

from nas.search.storage import study_file
from search_spaces.errors import InputError

DRIVER = "driver"
"""User attribute of a study in a database: the record of its driver; empty once it has left."""
SETTLE_S = 2.0
"""Seconds after which a record is read back: longer than a database takes to write it."""


@dataclass(frozen=True)
class DriverRecord:
    """Identity of a process.

    Args:
        host: Name of its machine, for messages.
        pid: Number of the process.
        place: Boot of the machine and name space of process numbers: within one place a number means one process.
        started: Start of the process in clock ticks since boot, which tells it from a later one of the same number.
        nonce: Random; two studies that one process drives have different ones.
    """

    host: str
    pid: int
    place: str
    started: str
    nonce: str

    @classmethod
    def own(cls) -> DriverRecord:
        """Return a record of this process."""
        return cls(platform.node(), os.getpid(), _place(), _started(os.getpid()), uuid.uuid4().hex)

    @property
    def ended(self) -> bool:
        """Whether the process is known to have ended; False for one whose place is not this process's."""
        return bool(self.place) and self.place == _place() and _started(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Driver:
    """Holds the right to write a study while its context lasts.

    Args:
        study: The study.
        storage: Its storage, as it was named.
        take_over: Whether the record of a process of another machine is replaced.

    Raises InputError, on entering the context, if another process drives the study.
    """

    def __init__(self, study: optuna.Study, storage: Path | str, take_over: bool = False) -> None:
        self._study, self._storage, self._take_over = study, storage, take_over
        self._held: contextlib.AbstractContextManager[None] | None = None
        self._own: DriverRecord | None = None
        self._depth = 0

    def __enter__(self) -> Driver:
        if self._depth == 0:
            file = lock_file(self._storage)
            held = self._recorded() if file is None else _locked(file, self._study.study_name)
            held.__enter__()
            self._held = held
        self._depth += 1
        return self

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if self._depth == 0 and self._held is not None:
            self._held.__exit__(None, None, None)
            self._held = None

    def check(self) -> None:
        """Raise InputError if another process took the study over."""
        if self._own is not None and (there := self._record()) != self._own:
            name = self._study.study_name
            raise InputError(f"{there or 'another process'} took over the study {name!r}", "one search per study")

    @contextlib.contextmanager
    def _recorded(self) -> Iterator[None]:
        there = self._record()
        if there is not None and not there.ended and not self._take_over:
            raise _driven(self._study.study_name, str(there), "if that process has ended: add --take-over")
        self._own = DriverRecord.own()
        self._study.set_user_attr(DRIVER, asdict(self._own))
        try:
            _settle()
            self.check()
            yield
        finally:
            with contextlib.suppress(Exception):  # an unreachable database: the record stays, and is replaced later
                if self._record() == self._own:
                    self._study.set_user_attr(DRIVER, {})
            self._own = None

    def _record(self) -> DriverRecord | None:
        found = self._study.user_attrs.get(DRIVER)
        return DriverRecord(**found) if found else None


def lock_file(storage: Path | str) -> Path | None:
    """Return the lock file of a journal or an SQLite file; None for a database server."""
    file = study_file(storage)
    return None if file is None else file.with_name(f".{file.name}.driver")


@contextlib.contextmanager
def _locked(file: Path, name: str) -> Iterator[None]:
    """Hold the kernel's lock on a file, which holds the process's identity for messages."""
    with open(file, "a+") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)  # freed by the kernel with the process
        except BlockingIOError:
            opened.seek(0)
            raise _driven(name, opened.read(200).strip() or "another process") from None
        opened.truncate(0)
        opened.write(f"process {os.getpid()} on {platform.node()}")
        opened.flush()
        yield


def _settle() -> None:
    time.sleep(SETTLE_S)


def _driven(name: str, who: str, hint: str = "more workers: --workers N or --ray ADDRESS of that search") -> InputError:
    return InputError(f"{who} searches in the study {name!r}", "one search per study", hint)


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return the start time of a process from ``/proc``; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
