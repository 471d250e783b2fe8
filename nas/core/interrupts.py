"""Ctrl-C while training."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from nas.core import distributed as processes


@contextlib.contextmanager
def interrupts_between_steps() -> Iterator[Callable[[], None]]:
    """Ctrl-C waits for ``check()``, called between steps: from the middle of one nothing can be continued exactly.
    Pressed twice, it does not wait.

    Of several processes that were sent it, all stop after the same step.

    A program that handles the signal itself keeps its handler.
    """
    pressed = False

    def note(number: int, frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    def check() -> None:
        if processes.anywhere(pressed):
            raise KeyboardInterrupt

    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield lambda: None
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
