"""Where the command line meets the operating system: encodings, closed pipes, full disks, signals, one-line errors."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn, TextIO

from search_spaces.errors import InputError
from search_spaces.text import printable

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a command as Ctrl-C does."""


def leave(status: int) -> NoReturn:
    """End the process: exit handlers run and buffers are written, but modules are not torn down.

    The interpreter takes about a second to tear down torch. A process with other threads that are still at work ends
    as every other, which waits for them.
    """
    busy = [t for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
    if busy:
        sys.exit(status)
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed by the caller
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def guarded(command: Callable[[], int], label: str, resume_hint: Callable[[], str]) -> int:
    """Run ``command`` and return the exit status of the process.

    An :class:`InputError` and an ``OSError`` become one line on standard error with status 2, a closed pipe ends the
    command silently, and Ctrl-C, SIGTERM and SIGHUP end it with one line that tells how to resume. Every other
    exception is a defect and keeps its traceback.

    ``label`` begins each line, for example ``nas search``; ``resume_hint()`` is called only after an interruption.
    """
    for stream in (sys.stdout, sys.stderr):
        replace_unencodable(stream)
    with stop_signals() as received:
        try:
            status = command()
            _flush(sys.stdout)
            return status
        except InputError as error:
            return _failed(f"{label}: {error}")
        except BrokenPipeError:
            _discard(sys.stdout)
            return 128 + signal.SIGPIPE
        except OSError as error:
            _discard(sys.stdout)
            return _failed(f"{label}: {_one_line(error)}")
        except KeyboardInterrupt:
            number = received[-1] if received else signal.SIGINT
            how = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
            hint = resume_hint()
            _say(f"\n{label}: {how}" + (f"; {hint}" if hint else ""))
            return 128 + number


def replace_unencodable(stream: TextIO | None) -> None:
    """Let a stream print ``?`` for a character that its encoding lacks, instead of raising UnicodeEncodeError."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


@contextlib.contextmanager
def stop_signals() -> Iterator[list[signal.Signals]]:
    """Within the block SIGTERM and SIGHUP act as Ctrl-C; gives a list of those that were received.

    A signal that is ignored (``nohup``) or handled by somebody else stays as it is. A forked child that inherits the
    handler ends by the signal at once.
    """
    received: list[signal.Signals] = []
    own = os.getpid()

    def stop(number: int, frame: object) -> None:
        if os.getpid() != own:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        received.append(signal.Signals(number))
        if callable(signal.getsignal(signal.SIGINT)):
            signal.raise_signal(signal.SIGINT)
        else:  # a shell ignores Ctrl-C for a command in the background
            raise KeyboardInterrupt

    stop.record = received.append  # type: ignore[attr-defined] # nas.core.interrupts delays it to the end of a step
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    taken = [number for number in STOP_SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, stop)
    try:
        yield received
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _flush(stream: TextIO | None) -> None:
    if stream is not None and not stream.closed:
        stream.flush()


def _discard(stream: TextIO | None) -> None:
    """Send what is left in the buffer of an unusable stream to the null device, so that the exit of the interpreter
    does not fail on it again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        _flush(stream)
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())  # type: ignore[union-attr]
        os.close(null)


def _failed(line: str) -> int:
    _say(line)
    return 2


def _say(line: str) -> None:
    """Print to standard error, if it is still there."""
    with contextlib.suppress(OSError, ValueError):
        print(printable(line, keep="\n"), file=sys.stderr, flush=True)


def _one_line(error: OSError) -> str:
    """Operating system's reason and file, without the error number."""
    reason = error.strerror or str(error) or type(error).__name__
    return printable(f"{reason}: {error.filename}" if error.filename is not None else reason)
