"""A lock that admits one writing process per output."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from search_spaces.errors import InputError


@contextlib.contextmanager
def output_lock(path: Path) -> Iterator[None]:
    """Hold a lock on the output ``path`` for the time of the context.

    The lock is a file ``.<name>.lock`` beside ``path``, which the operating system releases when the process ends,
    however it ends. Raises InputError if another process holds it, or if the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    name = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(name)
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another process is writing {path}", "one writer", "wait for it to end, or take another --out"
        ) from None
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", "a folder that you may write to") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            name.unlink()  # while it is held: a process that opened it meanwhile sees that it is gone
        lock.release()
