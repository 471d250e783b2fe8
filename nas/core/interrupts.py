"""Ctrl-C, SIGTERM and SIGHUP during a training."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from nas.core import distributed as processes

RECORD = "record"
"""Attribute of a signal handler that ends the program as Ctrl-C does: a function that takes note of the signal."""


@contextlib.contextmanager
def interrupts_between_steps() -> Iterator[Callable[[], None]]:
    """Delay Ctrl-C, SIGTERM and SIGHUP to the end of a step; gives ``check()``, to be called between steps.

    ``check()`` raises KeyboardInterrupt after one of the signals: from the middle of a step nothing could be resumed
    exactly. A second Ctrl-C raises at once. Of several processes that train together, all stop after the same step.

    A program that handles a signal itself keeps its handler, unless the handler only ends the program as Ctrl-C does
    and says so by an attribute :data:`RECORD`.
    """
    pressed = False

    def note(number: int, frame: object) -> None:
        nonlocal pressed
        record = getattr(handled[number], RECORD, None)
        if record is not None:
            record(signal.Signals(number))
        if pressed and (number == signal.SIGINT or record is not None):
            raise KeyboardInterrupt
        pressed = True

    def check() -> None:
        if processes.any_process(pressed or processes.stop_requested()):
            raise KeyboardInterrupt

    handled: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        handled = {number: default for number, default in defaults.items() if signal.getsignal(number) == default}
        stops = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        handled |= {number: signal.getsignal(number) for number in stops if hasattr(signal.getsignal(number), RECORD)}
    for number in handled:
        signal.signal(number, note)
    try:
        yield check
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
