"""A real SSH server on the loopback interface, with keys, host keys and a home folder of its own: a board for
benchmarks and tests. Debian: openssh-server, openssh-client."""

from __future__ import annotations

import getpass
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from latency_db.remote.ssh import COMMAND

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/sbin")
BOARD_PACKAGES = ("numpy", "onnxruntime", "google", "flatbuffers", "packaging")
"""All that the board's Python finds besides the standard library."""


def missing() -> str | None:
    """Return what has to be installed for a server; None if nothing."""
    if SSHD is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        return "no SSH server here: apt-get install openssh-server openssh-client"
    return None


@dataclass
class Sshd:
    """An SSH server with its own keys, and a home folder for who logs in."""

    folder: Path
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """The home folder on the board."""
        return self.folder / "home"

    @property
    def address(self) -> str:
        """The address for ``--on``."""
        return f"ssh:{getpass.getuser()}@127.0.0.1:{self.port}?python={self.folder}/python"

    def start(self) -> None:
        """Start the server and wait until it listens."""
        assert SSHD is not None
        log = (self.folder / "sshd.log").open("ab")
        self.processes.append(subprocess.Popen([SSHD, "-D", "-e", "-f", self.folder / "sshd_config"], stderr=log))
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"sshd did not start: {(self.folder / 'sshd.log').read_text()}")

    def stop(self) -> None:
        """End the server."""
        for process in self.processes:
            process.terminate()
            process.wait()
        self.processes.clear()

    def command(self, known_hosts: str = "known_hosts", key: str = "id") -> str:
        """Return the client's command with the server's keys; the user's own configuration is not read."""
        options = (
            f"-o UserKnownHostsFile={self.folder / known_hosts} -o GlobalKnownHostsFile=none -o IdentitiesOnly=yes"
        )
        return f"ssh -F none -i {self.folder / key} {options}"


def make_key(path: Path) -> str:
    """Make a key without a passphrase; return its public part."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True, stdin=subprocess.DEVNULL)
    return path.with_suffix(".pub").read_text()


def make_python(folder: Path, prefix: str = "") -> None:
    """Make a Python that finds numpy and ONNX Runtime, and nothing else of this environment.

    ``prefix``: a command before it, such as ``taskset -c 0``.
    """
    site = folder / "site"
    site.mkdir()
    for package in BOARD_PACKAGES:
        if spec := importlib.util.find_spec(package):
            place = Path(next(iter(spec.submodule_search_locations or [])))
            (site / package).symlink_to(place)
            for beside in [*place.parent.glob(f"{package}*.dist-info"), *place.parent.glob(f"{package}.libs")]:
                (site / beside.name).symlink_to(beside)
    base = getattr(sys, "_base_executable", sys.executable)
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{site}" PYTHONNOUSERSITE=1 exec {prefix} {base} "$@"\n')
    script.chmod(0o755)


@contextmanager
def loopback_board(prefix: str = "") -> Iterator[Sshd]:
    """Start a server; ``prefix`` as :func:`make_python` takes it. Requires that nothing is :func:`missing`."""
    folder = Path(tempfile.mkdtemp(prefix="sshd"))
    (folder / "home").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host_key = make_key(folder / "host")
    (folder / "authorized_keys").write_text(make_key(folder / "id"))
    make_key(folder / "stranger")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    (folder / "changed_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'stranger.pub').read_text()}")
    (folder / "no_hosts").write_text("")
    make_python(folder, prefix)
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\n"
        f"PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"PermitRootLogin prohibit-password\nSetEnv HOME={folder}/home\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd's empty folder for separated privileges
    server = Sshd(folder, port)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def client_of(server: Sshd) -> Iterator[None]:
    """Have the SSH client of this process use the server's keys while the context lasts."""
    before = os.environ.get(COMMAND)
    os.environ[COMMAND] = server.command()
    try:
        yield
    finally:
        os.environ.pop(COMMAND, None)
        if before is not None:
            os.environ[COMMAND] = before
