"""Comes before the tests' own imports: what :mod:`search_spaces` switches off must be off before a test imports
onnxruntime by itself.

Every test begins with the same random numbers, so that a difference between two machines is one of their processors.
A shell ignores Ctrl-C for commands in the background, ``nohup`` a closed terminal: tests of signals need the defaults.
"""

import random
import signal
import sys

import pytest

import search_spaces  # noqa: F401

for _number, _default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _default)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed the global generators before the fixtures of a test; torch only where a test module imported it."""
    random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
