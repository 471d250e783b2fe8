"""One writer per run folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from search_spaces.errors import InputError


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder.

    The lock is on the folder itself and ends with the process, so it leaves no file. A file system without locks on
    folders is used without one. Raises InputError if another process holds the lock, or there is no such folder.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"cannot open folder {folder} ({error.strerror})", "the folder of a run") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise InputError(f"another nas search works in {folder}", "one at a time") from None
        yield
    finally:
        os.close(descriptor)
