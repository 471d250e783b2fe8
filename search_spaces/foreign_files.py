"""Reading files that somebody else wrote: regular files only, of bounded size, with an error of one line.

A path from outside may name a pipe (reading it waits forever), a device (``/dev/zero`` never ends) or a file larger
than memory. :func:`open_file`, :func:`read_bytes` and :func:`read_text` refuse all three before anything is read::

    content = json.loads(read_bytes(path, max_bytes=64 * MIB, expected="a run.json"))
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from search_spaces.errors import InputError

MIB = 1 << 20

_KINDS = (
    (stat.S_ISDIR, "is a folder"),
    (stat.S_ISFIFO, "is a named pipe and no regular file"),
    (stat.S_ISCHR, "is a device and no regular file"),
    (stat.S_ISBLK, "is a device and no regular file"),
    (stat.S_ISSOCK, "is a socket and no regular file"),
)


class UnreadableFile(InputError):
    """A file that is missing, is no regular file, is too large or cannot be read.

    Attributes:
        path: the file as the caller named it.
        reason: what is wrong, to be put after the path: "is a folder".
        missing: whether there is nothing at the path.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str, expected: str = "", missing: bool = False) -> None:
        super().__init__(f"{os.fspath(path)} {reason}", expected)
        self.path = Path(path)
        self.reason = reason
        self.missing = missing


def open_file(path: str | os.PathLike[str], max_bytes: int, expected: str = "") -> BinaryIO:
    """Open a regular file of at most ``max_bytes`` bytes for reading.

    Symbolic links are followed; what counts is the file at their end. ``expected`` goes into the error: what kind of
    file the caller wants.

    Raises:
        UnreadableFile: the path names nothing, a folder, a pipe, a device or a socket, or the file is too large or
            cannot be opened.
    """
    # O_NONBLOCK: opening a pipe that nobody writes to would wait; on a regular file the flag does nothing.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise _unreadable(path, error, expected) from None
    try:
        _check(path, os.fstat(descriptor), max_bytes, expected)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: str | os.PathLike[str], max_bytes: int, expected: str = "") -> bytes:
    """Read a regular file of at most ``max_bytes`` bytes, also where it grows meanwhile.

    Raises:
        UnreadableFile: as :func:`open_file`, or reading fails.
    """
    with open_file(path, max_bytes, expected) as file:
        try:
            content = file.read(max_bytes + 1)
        except OSError as error:
            raise _unreadable(path, error, expected) from None
    if len(content) > max_bytes:
        raise _too_large(path, max_bytes, expected)
    return content


def read_text(path: str | os.PathLike[str], max_bytes: int, expected: str = "", errors: str = "strict") -> str:
    """Read a regular UTF-8 file of at most ``max_bytes`` bytes; a byte order mark is dropped.

    ``errors`` is what ``bytes.decode`` calls so: "strict", "replace" or "surrogateescape".

    Raises:
        UnreadableFile: as :func:`read_bytes`, or the content is not UTF-8 and ``errors`` is "strict".
    """
    try:
        return read_bytes(path, max_bytes, expected).decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise UnreadableFile(path, f"is not UTF-8 text (byte {error.start}: {error.reason})", expected) from None


def _check(path: str | os.PathLike[str], status: os.stat_result, max_bytes: int, expected: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        reason = next((text for kind, text in _KINDS if kind(status.st_mode)), "is no regular file")
        raise UnreadableFile(path, reason, expected)
    if status.st_size > max_bytes:
        raise _too_large(path, max_bytes, expected)


def _too_large(path: str | os.PathLike[str], max_bytes: int, expected: str) -> UnreadableFile:
    size = f"{max_bytes / MIB:.0f} MiB" if max_bytes >= MIB else f"{max_bytes} bytes"
    return UnreadableFile(path, f"is larger than {size}, the most that is read of such a file", expected)


def _unreadable(path: str | os.PathLike[str], error: OSError | ValueError, expected: str) -> UnreadableFile:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return UnreadableFile(path, "does not exist", expected, missing=True)
    if os.path.isdir(path):  # Windows opens no folders
        return UnreadableFile(path, "is a folder", expected)
    if not isinstance(error, OSError):
        return UnreadableFile(repr(os.fspath(path)), f"is no path ({error})", expected)
    return UnreadableFile(path, f"cannot be read ({error.strerror or type(error).__name__})", expected)
