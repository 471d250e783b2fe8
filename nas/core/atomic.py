"""Atomic writing of files: after a crash or on a full disk, a file is either complete or unchanged."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from search_spaces.errors import InputError
from search_spaces.text import printable

Writer = Callable[[BinaryIO, bytes], object]

_HINTS = {
    errno.ENOSPC: "free some space on that disk and run the command again",
    errno.EDQUOT: "the disk quota is used up: free some space and run the command again",
    errno.EROFS: "the disk is read-only: choose another output folder",
    errno.EACCES: "choose an output folder that you may write to",
    errno.EPERM: "choose an output folder that you may write to",
    errno.ENOTDIR: "a part of the path is a file: choose another output folder",
    errno.EEXIST: "a part of the path is a file: choose another output folder",
    errno.EISDIR: "the path is a folder: name a file in it",
}


def atomic_write(
    path: str | os.PathLike[str], content: str | bytes, write: Writer | None = None, durable: bool = True
) -> Path:
    """Replace the file at ``path`` by ``content`` atomically, and return the path.

    The content is written to a temporary file in the same folder, flushed to disk, and renamed. A missing folder is
    made. A symbolic link at ``path`` is kept, and its target is replaced.

    Args:
        path: The file.
        content: Bytes, or text that is encoded as UTF-8.
        write: Function that writes the bytes to the open file; tests pass one that fails.
        durable: Whether to wait until the content is on disk, so that it survives a power failure.

    Raises:
        InputError: if the file cannot be written; it is then unchanged.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{time.monotonic_ns()}.tmp")
    try:
        data = content.encode() if isinstance(content, str) else content
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_through(temporary, data, write, durable)
        os.replace(temporary, target)
    except UnicodeEncodeError as error:
        raise InputError(
            f"cannot write {os.fspath(path)}: {error.reason} in {error.object[error.start : error.end]!r}",
            "Unicode text",
        ) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"cannot write {os.fspath(path)}: {reason}", hint=_HINTS.get(error.errno or 0, "")) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    if durable:
        _sync_folder(target.parent)
    return Path(path)


@contextlib.contextmanager
def naming(final: Path, temporary: Path) -> Iterator[None]:
    """Name the user's file ``final`` in errors of the context, which works on the file ``temporary`` in its stead.

    Raises InputError again with the other name.
    """
    try:
        yield
    except InputError as error:
        text = str(error)
        for old, new in ((temporary, final), (temporary.name, final.name)):
            text = text.replace(printable(old), printable(new))
        if text == str(error):
            raise
        raise InputError(text) from None


def _write_through(path: Path, data: bytes, write: Writer | None, durable: bool) -> None:
    # os.open and not tempfile: the file gets the permissions of any new file (umask), where mkstemp gives 0600.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    with os.fdopen(descriptor, "wb") as file:
        write(file, data) if write else file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # Makes the new name survive a power cut; where folders cannot be opened (Windows) or synced (some network disks)
    # the file is in place anyway.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
