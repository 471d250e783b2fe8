"""A board as the client sees it: its facts, files that are sent once, and the process that measures there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import queue
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from latency_db.core.profiler import RuntimeFailure
from latency_db.remote.archive import code_archive
from latency_db.remote.bootstrap import FACTS, FOLDER, RECEIVE
from latency_db.remote.ssh import Address, Backoff, ConnectionLost, Ssh
from latency_db.timing.reference_model import CPU_REFERENCE, reference_model_file
from search_spaces.errors import InputError
from search_spaces.json_checks import parse_json
from search_spaces.text import printable

LOG = logging.getLogger(__name__)

OLDEST_PYTHON = (3, 10)
LEAST_MIB = 64
"""Free disk below which a board is not used, MiB."""
MODELS_BYTES = 2 << 30
"""Models that a board keeps; the ones unused for longest are removed."""
CODE_BYTES = 64 << 20
SLOWEST_BYTES_S = 20_000
"""Slowest transfer that is waited for, bytes per second."""
LONGEST_ANSWER = 64 << 20
"""Longest line that a board may answer, bytes."""
ANSWER_S = 1800.0
"""Seconds within which the board answers a request: a finalist takes a minute, a compiled network several."""


class Board:
    """A machine on which latency is measured over ssh.

    The connection is made at the first use, in one attempt. A lost one is made again with growing pauses and a warning
    each; the request that was lost is repeated, since each request can be.

    Args:
        address: ``ssh:user@host[:port][?python=PATH]``.
        backoff: How long a lost connection is tried again.

    Raises:
        InputError: The address has another form, or there is no ssh client.
    """

    def __init__(self, address: str, backoff: Backoff | None = None) -> None:
        self._ssh = Ssh(Address.parse(address), backoff=backoff)
        self._process: _Process | None = None
        self._facts: dict[str, Any] | None = None
        self._sent: set[str] = set()

    def __str__(self) -> str:
        return str(self._ssh.address)

    def facts(self) -> dict[str, Any]:
        """Return the Python, numpy, system and free disk of the board; the first call asks the board.

        Raises:
            InputError: The board cannot be used: no answer, log-in, host key, no Python, too old a Python, no numpy, a
                full disk.
        """
        if self._facts is None:
            command = self._ssh.python(["-c", FACTS, FOLDER])
            try:
                found = self._ssh.persistently(lambda: self._ssh.run(command, timeout_s=60))
            except ConnectionLost:
                raise
            except RuntimeFailure as error:
                hint = f"name one: {self}?python=/path/to/python"
                raise InputError(f"{self} cannot run {self._ssh.address.python} ({error})", "Python", hint) from None
            facts = parse_json(found, f"facts of {self}")
            self._check(facts)
            self._facts = facts
        return self._facts

    def _check(self, facts: Mapping[str, Any]) -> None:
        version = tuple(int(part) for part in str(facts["python"]).split(".")[:2])
        if version < OLDEST_PYTHON:
            wanted = ".".join(map(str, OLDEST_PYTHON))
            hint = f"install a newer one, and name it: {self}?python=/path/to/python"
            raise InputError(f"{self} has Python {printable(facts['python'])}", f"{wanted} or later", hint)
        if not facts["numpy"]:
            hint = "on the board: python3 -m venv ~/nas && ~/nas/bin/pip install numpy onnxruntime; "
            raise InputError(
                f"{self} has no numpy", "numpy and a runtime", f"{hint}then name {self}?python=~/nas/bin/python"
            )
        if facts["free_mib"] < LEAST_MIB:
            raise InputError(f"{self} has {facts['free_mib']} MiB of free disk", f"{LEAST_MIB} MiB or more")

    def send(self, name: str, content: bytes, limit_bytes: int) -> None:
        """Store a file on the board, whole or not at all.

        Args:
            name: Path below the folder of the board.
            content: Bytes of the file.
            limit_bytes: Size of the file's folder above which its oldest files are removed.

        Raises:
            RuntimeFailure: The board cannot store it (a full disk).
            ConnectionLost: The connection stayed lost.
        """
        digest = hashlib.sha256(content).hexdigest()
        command = self._ssh.python(["-c", RECEIVE, FOLDER, name, str(len(content)), digest, str(limit_bytes)])

        timeout_s = 120 + len(content) / SLOWEST_BYTES_S

        def attempt() -> None:
            answer = parse_json(self._ssh.run(command, content, timeout_s), f"answer of {self}")
            if "incomplete" in answer:
                raise ConnectionLost(f"transfer to {self} was interrupted: {printable(answer['incomplete'])}")
            if "error" in answer:
                hint = "free some space on the board"
                raise RuntimeFailure(f"{self} cannot store {name}: {printable(answer['error'])}", hint=hint)

        self._ssh.persistently(attempt)

    def ask(self, do: str, request: Mapping[str, Any]) -> Any:
        """Return the answer of the process on the board to one request.

        Raises:
            InputError: The board refuses the request (the model, the target).
            RuntimeFailure: The run failed, or the connection stayed lost.
        """
        self.facts()

        def attempt() -> dict[str, Any]:
            if self._process is None:
                self._process = self._start()
            try:
                return self._process.ask({"do": do, **request})
            except InputError:
                self._end_process()
                raise

        answer = self._ssh.persistently(attempt)
        if "error" in answer:
            kind = RuntimeFailure if answer.get("kind") == "RuntimeFailure" else InputError
            raise kind(f"on {self}: {printable(answer['error'])}")
        return answer.get("ok")

    def release(self, request: Mapping[str, Any]) -> None:
        """Close the profiler of a target on the board, if the process there still runs.

        A lost connection is no error: a process that ended has closed all its profilers.
        """
        if self._process is None:
            return
        try:
            self._process.ask({"do": "release", **request})
        except InputError:  # a lost process has released everything
            self._end_process()

    def send_model(self, model: Path) -> str:
        """Send an ONNX file unless the board has it; return its SHA-256.

        Raises:
            InputError: The board cannot be used.
            RuntimeFailure: The board cannot store it, or the connection stayed lost.
        """
        content = model.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if not self.ask("has", {"sha256": digest}):
            LOG.info("sending %s (%.1f MiB) to %s", model.name, len(content) / 2**20, self)
            self.send(f"models/{digest}.onnx", content, MODELS_BYTES)
        return digest

    def _start(self) -> _Process:
        """Start the process on the board; send code and reference model before it, unless they are there."""
        digest, archive = code_archive()
        name = f"code/{digest[:16]}.zip"
        reference = reference_model_file(CPU_REFERENCE)
        for path, content in ((name, archive), (f"latency_db/{reference.name}", reference.read_bytes())):
            if path not in self._sent and not self._has_file(path, len(content)):
                self.send(path, content, CODE_BYTES)
            self._sent.add(path)
        environment = f'PYTHONPATH="$HOME"/{FOLDER}/{name} XDG_CACHE_HOME="$HOME"/{FOLDER} PYTHONDONTWRITEBYTECODE=1'
        python = self._ssh.python(["-m", "latency_db.remote.board_server"], environment)
        return _Process(self._ssh, f'{python} "$HOME"/{FOLDER}')

    def _has_file(self, name: str, size: int) -> bool:
        check = f'[ "$(wc -c < "$HOME"/{FOLDER}/{name} 2>/dev/null)" -eq {size} ] 2>/dev/null && echo yes || echo no'
        return self._ssh.run(check, timeout_s=60).strip() == b"yes"

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.close()
        self._process = None
        self._sent.clear()  # whoever restarts the board may have emptied its folder

    def close(self) -> None:
        """End the process on the board and the connection; may be called twice."""
        self._end_process()
        self._ssh.close()

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Process:
    """One process on the board that answers JSON lines."""

    def __init__(self, ssh: Ssh, command: str) -> None:
        self._ssh = ssh
        self._messages: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
        self._process = subprocess.Popen(
            ssh.arguments(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._messages
        )
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline(LONGEST_ANSWER):
            self._lines.put(line)
        self._lines.put(b"")

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to one request. Raises ConnectionLost, or what :meth:`Ssh.failure` gives."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=ANSWER_S)
        except (BrokenPipeError, OSError):
            line = b""
        except queue.Empty:
            raise ConnectionLost(f"{self._ssh.address} did not answer within {ANSWER_S:g} s") from None
        if not line.endswith(b"\n"):
            raise self._reason()
        answer = parse_json(line, f"answer of {self._ssh.address}")
        if not isinstance(answer, dict):
            raise RuntimeFailure(f"{self._ssh.address} gave an answer that is no object")
        return answer

    def _reason(self) -> InputError:
        try:
            status = self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._messages.seek(0)
        messages = self._messages.read().decode(errors="replace")
        killed = status < 0 or status > 128
        if killed and status != 255:  # the process on the board died: a reboot, or out of memory
            return ConnectionLost(f"the process on {self._ssh.address} ended with status {status}")
        return self._ssh.failure(status or 255, messages)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._messages.close()
