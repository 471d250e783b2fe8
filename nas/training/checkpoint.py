"""A training's state as a file: written whole or not at all, read without running anything, refused where it is
another training's."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from nas.training.recipe import Recipe
from search_spaces.errors import InputError

SETTINGS = ("identity", "recipe", "steps", "processes", "augmentation")
"""What must be equal for a checkpoint to be continued."""
ADDED = frozenset({"augmentation", "random", "pending", "best", "evaluated"})
"""What older checkpoints lack: they are continued without."""


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write beside, then replace: a kill leaves the old file or the new one."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(dict(state), part)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch wraps a full disk in a RuntimeError
        with contextlib.suppress(OSError):
            part.unlink()
        raise InputError(
            f"checkpoint {path} cannot be written ({error})", "a writable folder with free space"
        ) from None


def read_checkpoint(
    path: Path, device: torch.device, settings: Mapping[str, Any], names: Iterable[str]
) -> dict[str, Any]:
    """The state in ``path``, which must have ``names`` and be of a training with these ``settings``."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # noqa: BLE001 - what a damaged file raises depends on where it is damaged
        raise InputError(
            f"checkpoint {path} cannot be read ({type(error).__name__})",
            "a file this program wrote",
            "delete it to start anew",
        ) from None
    if not isinstance(state, dict) or not set(names) - ADDED <= state.keys():
        raise InputError(
            f"{path} is not a checkpoint of a training", "a file this program wrote", "delete it to start anew"
        )
    for name in SETTINGS:
        theirs, mine = state.get(name), settings[name]
        if name == "recipe" and isinstance(theirs, dict):
            theirs = {**Recipe().to_dict(), **theirs}  # an older one lacks what is at its default
            theirs, mine = _differences(theirs, mine)
        if theirs != mine and not (name in ADDED and theirs is None):
            raise InputError(
                f"checkpoint {path} is of {name} {theirs!r}",
                repr(mine),
                "use another folder, or the settings it began with",
            )
    return state


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    names = [name for name in (*b, *a) if a.get(name) != b.get(name)]
    return {n: a.get(n) for n in names}, {n: b.get(n) for n in names}
