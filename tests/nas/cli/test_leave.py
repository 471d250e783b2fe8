"""The end of the process of a command: exit handlers run, buffers are written, other threads are waited for."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import atexit, sys, threading, time
from nas.cli.border import leave
atexit.register(lambda: print("handler"))
{more}
print("work")
leave(3)
"""
THREAD = "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()"


def end_of(more: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", CODE.format(more=more)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_handlers_run_and_buffers_are_written() -> None:
    assert end_of("") == (3, "work\nhandler\n")


def test_other_threads_are_waited_for() -> None:
    assert end_of(THREAD) == (3, "work\nthread\nhandler\n")


def test_the_command_ends_with_its_status() -> None:
    def status(*arguments: str) -> int:
        return subprocess.run([sys.executable, "-m", "nas", *arguments], capture_output=True, check=False).returncode

    assert (status("list"), status("serch")) == (0, 2)
