"""Commands on another machine by the system's OpenSSH client: its configuration, keys and jump hosts apply.

One connection is shared by all commands (ControlMaster). Host keys must be known: an unknown or changed key ends the
command. Nothing is ever asked (BatchMode), so that a search does not stop at a prompt; keys with a passphrase need
ssh-agent.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from latency_db.core.profiler import RuntimeFailure
from search_spaces.errors import InputError
from search_spaces.text import printable

LOG = logging.getLogger(__name__)
T = TypeVar("T")

COMMAND = "NAS_SSH"
"""The variable that replaces ``ssh``, with options: ``ssh -F lab.conf``."""
CONNECTION_FAILED = 255
"""Exit status of ssh itself; other statuses are those of the command."""
_ADDRESS = re.compile(
    r"ssh:(?P<host>[A-Za-z0-9_][\w.@-]*|\[[0-9a-fA-F:]+\])(?::(?P<port>\d{1,5}))?(?:\?python=(?P<python>\S+))?"
)
_REFUSED = (
    (
        ("host key verification failed", "host identification has changed", "no matching host key"),
        "its host key is unknown or has changed",
        "connect once with ssh in a terminal and compare the key that it shows",
    ),
    (
        ("permission denied", "too many authentication failures"),
        "it refuses to log in",
        "set up a key: ssh-copy-id HOST; a key with a passphrase needs ssh-agent",
    ),
    (("bad configuration option", "unknown option", "no such file"), "ssh cannot be started", "check " + COMMAND),
)
_NO_NAME = ("could not resolve hostname",), "its name is unknown", "check the name, or name it in ~/.ssh/config"
"""As :data:`_REFUSED`; of a machine that was reached before, the network is lost and not the name."""
_FIRST_HINT = "check that it is on, the network, the port, and that its SSH server runs"


class ConnectionLost(RuntimeFailure):
    """A connection could not be made or ended; the operation may be repeated."""


@dataclass(frozen=True)
class Address:
    """A machine that ssh reaches.

    Attributes:
        host: Name or address, with a user if there is one, or a name in ssh's configuration.
        port: Port; None is ssh's default.
        python: Command or path of the Python to run there.
    """

    host: str
    port: int | None = None
    python: str = "python3"

    def __str__(self) -> str:
        text = f"ssh:{self.host}" + (f":{self.port}" if self.port else "")
        return text + (f"?python={self.python}" if self.python != "python3" else "")

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse ``ssh:user@host[:port][?python=PATH]``. Raises InputError for another form."""
        match = _ADDRESS.fullmatch(text)
        port = int(match["port"]) if match and match["port"] else None
        if match is None or (port is not None and not 0 < port < 65536):
            expected = "ssh:user@host[:port][?python=/path/to/python], such as ssh:pi@raspberrypi.local"
            raise InputError(f"device {printable(text)}", expected)
        return cls(match["host"].strip("[]"), port, match["python"] or "python3")


@dataclass(frozen=True)
class Backoff:
    """Pauses between attempts: ``first_s``, twice as long each time up to ``longest_s``, for ``total_s`` in all."""

    total_s: float = 300.0
    first_s: float = 1.0
    longest_s: float = 20.0


class Ssh:
    """Runs commands on one machine over one shared connection.

    Args:
        address: The machine.
        connect_s: Seconds within which it must answer.
        backoff: How long a lost connection is tried again.

    Raises:
        InputError: There is no ssh client.
    """

    def __init__(self, address: Address, connect_s: int = 10, backoff: Backoff | None = None) -> None:
        self.address = address
        self._backoff = backoff or Backoff()
        self._reached = False
        words = shlex.split(os.environ.get(COMMAND, "ssh"))
        if not words or shutil.which(words[0]) is None:
            raise InputError("no ssh client on this machine", "OpenSSH", "Debian: apt install openssh-client")
        # Paths of sockets have at most about 100 characters, so the folder is in /tmp whatever TMPDIR is.
        self._folder = tempfile.mkdtemp(prefix="nas-ssh-", dir="/tmp" if os.path.isdir("/tmp") else None)
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": connect_s,
            "ServerAliveInterval": 5,
            "ServerAliveCountMax": 4,
            "ControlMaster": "auto",
            "ControlPath": f"{self._folder}/%C",
            "ControlPersist": 60,
        }
        self._command = [*words, *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
        if address.port:
            self._command += ["-p", str(address.port)]

    def arguments(self, command: str) -> list[str]:
        """Return the local command line that runs ``command`` in the shell of the machine."""
        return [*self._command, "--", self.address.host, command]

    def python(self, arguments: Sequence[str], environment: str = "") -> str:
        """Return the shell command that runs Python on the machine; ``environment`` is put before it as it is."""
        python = self.address.python
        name = f'"$HOME"{shlex.quote(python[1:])}' if python.startswith("~/") else shlex.quote(python)
        return " ".join([*filter(None, [environment]), name, *map(shlex.quote, arguments)])

    def run(self, command: str, content: bytes = b"", timeout_s: float = 600.0) -> bytes:
        """Run a command, with ``content`` as its input; return its output.

        Raises:
            ConnectionLost: The connection failed or ended; see :meth:`persistently`.
            InputError: The machine cannot be used (host key, log-in, name).
            RuntimeFailure: The command failed; the text is the end of its error output.
        """
        try:
            done = subprocess.run(self.arguments(command), input=content, capture_output=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise ConnectionLost(f"{self.address} did not answer within {timeout_s:g} s") from None
        if done.returncode:
            raise self.failure(done.returncode, done.stderr.decode(errors="replace"))
        return done.stdout

    def failure(self, status: int, messages: str) -> InputError:
        """Return the exception for a command that ended with an error.

        Args:
            status: Exit status of the command; :data:`CONNECTION_FAILED` is that of ssh itself.
            messages: Its error output.
        """
        lines = [line.strip() for line in messages.splitlines() if line.strip()]
        last = printable(lines[-1])[:300] if lines else f"status {status}"
        if status != CONNECTION_FAILED:
            return RuntimeFailure(f"{self.address}: {last}")
        for parts, meaning, hint in _REFUSED if self._reached else (*_REFUSED, _NO_NAME):
            if any(part in messages.lower() for part in parts):
                hint = hint.replace("HOST", self.address.host)
                return InputError(f"{self.address} cannot be used: {meaning} ({last})", hint=hint)
        return ConnectionLost(f"connection to {self.address}: {last}")

    def persistently(
        self,
        operation: Callable[[], T],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> T:
        """Return the result of ``operation``, repeated with growing pauses while the connection is lost.

        A warning is logged before each pause. A machine that was never reached is not tried again.

        Raises:
            InputError: No connection was made so far.
            ConnectionLost: The last one, if the time of the :class:`Backoff` is over.
        """
        end = clock() + self._backoff.total_s
        pause = self._backoff.first_s
        while True:
            try:
                result = operation()
                self._reached = True
                return result
            except ConnectionLost as error:
                if not self._reached:
                    raise InputError(str(error), "a machine that answers", _FIRST_HINT) from None
                left = end - clock()
                if left <= 0:
                    raise
                pause = min(pause, left)
                LOG.warning("%s; next attempt in %.0f s, %.0f s left", error, pause, left)
            sleep(pause)
            pause = min(2 * pause, self._backoff.longest_s)

    def close(self) -> None:
        """End the shared connection; may be called twice."""
        if Path(self._folder).exists():
            end = [*self._command, "-O", "exit", "--", self.address.host]
            subprocess.run(end, capture_output=True, timeout=30, check=False)
            shutil.rmtree(self._folder, ignore_errors=True)
