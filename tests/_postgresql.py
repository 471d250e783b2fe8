"""A real PostgreSQL server that a test starts, stops and ends; skipped where its programs are not installed (Debian:
postgresql)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text


def programs() -> Path | None:
    """The folder of initdb and pg_ctl; Debian keeps them out of PATH, by version."""
    places = [Path(found).parent for found in [shutil.which("initdb")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    return next((p for p in reversed(places) if (p / "initdb").exists() and (p / "pg_ctl").exists()), None)


@dataclass
class Server:
    """One cluster in a folder of its own, reached by a socket in it alone."""

    folder: Path
    programs: Path
    as_user: tuple[str, ...]

    def run(self, program: str, *args: str) -> None:
        command = [*self.as_user, str(self.programs / program), "-D", str(self.folder / "data"), *args]
        with (self.folder.parent / f"{self.folder.name}.log").open(
            "a"
        ) as log:  # the server inherits it: a pipe would never end
            subprocess.run(command, check=True, stdout=log, stderr=log, cwd="/", timeout=60)

    def start(self) -> None:
        self.run("pg_ctl", "-w", "start", "-o", f"-k {self.folder} -c listen_addresses= -c fsync=off")

    def stop(self) -> None:
        self.run("pg_ctl", "-w", "-m", "fast", "stop")

    def url(self, database: str) -> str:
        return f"postgresql://nas@/{database}?host={self.folder}"

    def sql(self, database: str, statement: str) -> list[Any]:
        engine = create_engine(
            self.url(database).replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            done = connection.execute(text(statement))
            found = list(done.all()) if done.returns_rows else []
        engine.dispose()
        return found


@contextmanager
def running() -> Iterator[Server]:
    """A new cluster while the context lasts."""
    found = programs()
    if found is None:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    # Neither pytest's folder, which others may not enter, nor a long path, which a socket may not have.
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    # The server refuses to be root. A program changes the user, because subprocess with user= forks, and then gRPC's fork
    # handlers, which Ray loads, may hang in the child.
    as_user = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups") if root else ()
    if root:
        shutil.chown(folder, "nobody", "nogroup")
    started = Server(folder, found, as_user)
    try:
        started.run("initdb", "-U", "nas", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        started.start()
        yield started
        started.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_name(f"{folder.name}.log").unlink(missing_ok=True)
