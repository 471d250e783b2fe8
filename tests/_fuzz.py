"""Mutations of valid files, and the bounds that reading them must keep: InputError at most, no hang, bounded memory.

>>> for text in mutations(path.read_bytes(), 300, seed=0):
...     path.write_bytes(text)
...     with bounded():
...         read(path)

The same seed gives the same mutations on every machine, so that a failure can be repeated.
"""

from __future__ import annotations

import copy
import json
import random
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from search_spaces.errors import InputError

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**31,
    2**53 + 1,
    2**64,
    10**400,
    -0.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "0",
    "x" * 5000,
    "\x1b[31m",
    "\x00",
    "\ud800",
    "../../x",
    [],
    {},
    [[]],
    [1, 2, 3, 4],
    {"id": 1},
)
"""Values that take the place of others in JSON."""

TOKENS: tuple[bytes, ...] = (
    *(b"0", b"-1", b"1e400", b"nan", b"inf", b"9" * 400, b"9" * 5000, b"2147483648", b"20000000", b"0x10", b"1_0"),
    *(b"null", b"true", b"no", b"~", b'""', b"[]", b"{}", b"[" * 500, b"{a: " * 200, b"<a>" * 500, b"&a *a", b"<<: "),
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe9", b"\n", b"\r", b"\t", b" ", b"\xe2\x80\xa8", b"\x1b[31m", b"%s"),
    *(b"../", b"/dev/zero", b"..", b"/", b"~", b"-", b": ", b"#", b"!!python/object/apply:os.system", b"<!DOCTYPE a>"),
)
"""Bytes that are put into text."""

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")


def mutations(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield ``count`` mutations of a text file: bytes changed, pieces removed, repeated, exchanged, cut off, and odd
    tokens put in or in the place of numbers."""
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        mutated = content
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            mutated = rng.choice(_CHANGES)(mutated, rng)
        yield mutated


def json_mutations(value: Any, count: int, seed: int) -> Iterator[Any]:
    """Yield ``count`` mutations of a JSON value: one to three entries replaced, removed, repeated or wrapped."""
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        mutated = copy.deepcopy(value)
        for _ in range(rng.choice((1, 1, 2, 3))):
            mutated = _changed_entry(mutated, rng)
        yield mutated


def json_bytes(value: Any) -> bytes:
    """Return JSON of any value of :func:`json_mutations`, long integers included."""
    limit = sys.get_int_max_str_digits() if hasattr(sys, "get_int_max_str_digits") else None
    try:
        if limit is not None:
            sys.set_int_max_str_digits(0)
        return json.dumps(value).encode()
    finally:
        if limit is not None:
            sys.set_int_max_str_digits(limit)


@contextmanager
def bounded(seconds: int = 10, mib: int = 200) -> Iterator[None]:
    """Let InputError pass, fail for any other exception, after ``seconds``, and if the peak memory of the process grows
    by more than ``mib`` MiB. The error must be one line of at most 6,100 characters."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise AssertionError(f"still running after {seconds} s")

    before = _peak_mib()
    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    except InputError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 6100, text[:500]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    assert _peak_mib() - before <= mib, f"memory grew by {_peak_mib() - before:.0f} MiB"


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _piece(content: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(content) + 1)
    return start, min(len(content), start + rng.choice((1, 2, 8, 40, 200)))


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 4, 16)) if changed else 0):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _remove(content: bytes, rng: random.Random) -> bytes:
    start, end = _piece(content, rng)
    return content[:start] + content[end:]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    start, end = _piece(content, rng)
    return content[:end] + content[start:end] * rng.choice((1, 2, 100)) + content[end:]


def _exchange(content: bytes, rng: random.Random) -> bytes:
    (a, b), (c, d) = sorted((_piece(content, rng), _piece(content, rng)))
    return content if b > c else content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _insert(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + rng.choice(TOKENS) + content[start:]


def _number(content: bytes, rng: random.Random) -> bytes:
    if not (found := list(_NUMBER.finditer(content))):
        return content
    start, end = rng.choice(found).span()
    return content[:start] + rng.choice(TOKENS) + content[end:]


_CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_flip, _remove, _repeat, _exchange, _cut, _insert, _insert, _number, _number),
)


def _changed_entry(value: Any, rng: random.Random) -> Any:
    places = list(_places(value))
    if not places:
        return rng.choice(VALUES)
    container, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind == 0:
        with suppress(IndexError):
            del container[key]
    elif kind == 1 and isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]))
    elif kind == 2:
        container[key] = [container[key]]
    elif kind == 3 and isinstance(container, dict):
        container[rng.choice(("", "id", "x" * 300, "\x1b"))] = container.pop(key)
    else:
        container[key] = copy.deepcopy(rng.choice(VALUES))
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key or index) below a JSON value."""
    stack = [value]
    while stack:
        container = stack.pop()
        keys: Any = (
            container if isinstance(container, dict) else range(len(container)) if isinstance(container, list) else ()
        )
        for key in keys:
            yield container, key
            stack.append(container[key])
