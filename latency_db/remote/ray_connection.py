"""The connection to a Ray cluster, and what its nodes must have in common with the driver."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from search_spaces.errors import InputError

PACKAGES = ("search_spaces", "latency_db", "nas")
"""Packages of this project whose code has to be the same on all nodes."""
LIBRARIES = ("torch", "numpy", "onnx", "onnxruntime", "ray")
"""Libraries whose versions have to be the same on all nodes."""


def connect(address: str) -> Any:
    """Connect this process to a Ray cluster, once, without usage statistics; return the module ``ray``.

    Args:
        address: ``auto`` for the cluster that this machine is a node of, or ``host:port``, or ``ray://host:port``.

    Raises:
        InputError: Ray is not installed, or there is no such cluster.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if find_spec("ray") is None:
        raise InputError(f"Ray cluster {address!r} needs ray", hint="pip install 'hw-nas-yolo[ray]'")
    import ray

    if not ray.is_initialized():
        try:
            ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"no Ray cluster at {address!r} ({first})", hint="ray start --head --port 6379 (docs/scaling.md)"
            ) from None
    return ray


def versions() -> dict[str, str]:
    """Return what has to be the same on all nodes: Python, libraries, and a digest of this project's code."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2]), "code": code_digest()}
    return found | {name: _version(name) for name in LIBRARIES}


def check_versions(node: str, there: Mapping[str, str], wanted: Mapping[str, str] | None = None) -> None:
    """Raise InputError that names the first difference between a node and the driver (default: this process)."""
    for name, own in (wanted or versions()).items():
        if there.get(name) != own:
            what = "another code of this project" if name == "code" else f"{name} {there.get(name) or 'missing'}"
            expected = "the code of the driver" if name == "code" else f"{name} {own or 'missing'}, as the driver"
            raise InputError(f"Ray node {node} has {what}", expected)


def code_digest() -> str:
    """Return the first 16 digits of the SHA-256 of all Python files of this project's packages."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for file in sorted(Path(folder).rglob("*.py")):
                digest.update(f"{package}/{file.relative_to(folder)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
