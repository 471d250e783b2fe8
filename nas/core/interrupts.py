"""Ctrl-C and SIGTERM during a training."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from nas.core import distributed as processes


@contextlib.contextmanager
def interrupts_between_steps() -> Iterator[Callable[[], None]]:
    """Delay Ctrl-C and SIGTERM to the end of a step; gives ``check()``, to be called between steps.

    ``check()`` raises KeyboardInterrupt after one of the signals: from the middle of a step nothing could be resumed
    exactly. A second Ctrl-C raises at once. Of several processes that train together, all stop after the same step.

    A program that handles a signal itself keeps its handler.
    """
    pressed = False

    def note(number: int, frame: object) -> None:
        nonlocal pressed
        if pressed and number == signal.SIGINT:
            raise KeyboardInterrupt
        pressed = True

    def check() -> None:
        if processes.any_process(pressed or processes.stop_requested()):
            raise KeyboardInterrupt

    handled = {}
    if threading.current_thread() is threading.main_thread():
        defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        handled = {number: default for number, default in defaults.items() if signal.getsignal(number) == default}
    for number in handled:
        signal.signal(number, note)
    try:
        yield check
    finally:
        for number, default in handled.items():
            signal.signal(number, default)
