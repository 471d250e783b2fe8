"""A node of a Ray cluster as the device that latency is measured on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from latency_db.core.profiler import RuntimeFailure
from latency_db.remote.board_server import BoardServer, answer
from latency_db.remote.ray_connection import check_versions, connect, versions
from search_spaces.errors import InputError
from search_spaces.text import printable

PREFIX = "ray:"
OPEN_S = 120.0
"""Seconds within which a node with the resource must be found."""


class RayBoard:
    """A node that offers a custom resource, such as ``ray start --address … --resources '{"jetson-orin": 1}'``.

    It has the methods of :class:`latency_db.remote.board.Board`. The node is held while the board is open, and found
    again by Ray if it is lost.

    Args:
        address: ``ray:RESOURCE``. The process must be connected to the cluster, or be on a node of it.

    Raises:
        InputError: No node offers the resource, or it has other versions of code or libraries.
    """

    def __init__(self, address: str) -> None:
        self._name = address
        resource = address.removeprefix(PREFIX)
        self._ray = connect("auto")
        if not resource or not self._ray.cluster_resources().get(resource):
            raise InputError(
                f"no node of the Ray cluster offers {resource!r}",
                hint=f"ray start … --resources '{{\"{resource}\": 1}}'",
            )
        options = {"num_cpus": 0, "resources": {resource: 1}, "max_restarts": -1, "max_task_retries": -1}
        self._actor = self._ray.remote(_Server).options(**options).remote()
        self._checked = False

    def __str__(self) -> str:
        return self._name

    def facts(self) -> dict[str, Any]:
        """Return the versions of the node. Raises InputError if they are not those of this process."""
        found: dict[str, Any] = self._get(self._actor.versions.remote(), OPEN_S)
        check_versions(str(self), found)
        self._checked = True
        return found

    def ask(self, do: str, request: Mapping[str, Any]) -> Any:
        """Return the answer of the node to one request.

        Raises:
            InputError: The node refuses the request.
            RuntimeFailure: The run failed, or the node stayed lost.
        """
        if not self._checked:
            self.facts()
        found = self._get(self._actor.answer.remote({"do": do, **request}), None)
        if "error" in found:
            kind = RuntimeFailure if found.get("kind") == "RuntimeFailure" else InputError
            raise kind(f"on {self}: {printable(found['error'])}")
        return found.get("ok")

    def release(self, request: Mapping[str, Any]) -> None:
        """Close the profiler of a target on the node."""
        self._get(self._actor.answer.remote({"do": "release", **request}), OPEN_S)

    def send_model(self, model: Path) -> str:
        """Send an ONNX file unless the node has it; return its SHA-256."""
        content = model.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if not self.ask("has", {"sha256": digest}):
            self._get(self._actor.store.remote(digest, content), None)
        return digest

    def _get(self, answer: Any, timeout_s: float | None) -> Any:
        try:
            return self._ray.get(answer, timeout=timeout_s)
        except self._ray.exceptions.RayError as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RuntimeFailure(f"{self} did not answer ({first})") from None

    def close(self) -> None:
        """Let the node go; may be called twice."""
        self._ray.kill(self._actor)

    def __enter__(self) -> RayBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Server:
    """The actor on the node: a board server without a connection of its own."""

    def __init__(self) -> None:
        self._folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hw-nas-yolo"
        (self._folder / "models").mkdir(parents=True, exist_ok=True)
        server = BoardServer(self._folder)
        actions = (server.check, server.open, server.has, server.measure, server.release)
        self._actions: dict[str, Callable[[Mapping[str, Any]], object]] = {act.__name__: act for act in actions}

    def versions(self) -> dict[str, str]:
        """Return the versions of the node."""
        return versions()

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one request."""
        return answer(self._actions, request)

    def store(self, digest: str, content: bytes) -> None:
        """Keep a model, whole or not at all."""
        path = self._folder / "models" / f"{digest}.onnx"
        part = path.with_suffix(f".{os.getpid()}")
        part.write_bytes(content)
        part.replace(path)
