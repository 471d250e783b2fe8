"""Checkpoints: the state of a training as a file.

A checkpoint is written atomically, read without executing code (``weights_only``), and refused if it is of another
training.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from nas.core import distributed as processes
from nas.training.recipe import Recipe
from search_spaces.errors import InputError
from search_spaces.text import brief

SETTINGS = ("identity", "recipe", "steps", "processes", "augmentation")
"""Settings that must be equal to resume from a checkpoint."""
_FINGERPRINT = re.compile(r"\b[0-9a-f]{16}\b")
"""Fingerprint of a data set in an identity."""
ADDED = frozenset({"augmentation", "random", "pending", "best", "evaluated"})
"""Entries that older checkpoints lack."""


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically: a kill leaves the old file or the new one. Raises InputError if the file cannot
    be written."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, RuntimeError) as error:
        # torch reports a full disk as a RuntimeError about its own file format
        reason = error.strerror or error if isinstance(error, OSError) else "the disk is full, or writing failed"
        with contextlib.suppress(OSError):
            part.unlink()
        raise InputError(
            f"checkpoint {path} cannot be written ({reason})", "a writable folder with free space"
        ) from None


def remove_checkpoint(path: Path) -> None:
    """Remove the checkpoint of a finished training, in process 0."""
    if not processes.rank():
        path.unlink(missing_ok=True)


def read_checkpoint(
    path: Path, device: torch.device, settings: Mapping[str, Any], names: Iterable[str]
) -> dict[str, Any]:
    """Read the state in ``path``, its tensors on ``device``. Raises InputError if the file cannot be read, lacks one
    of ``names``, or is of a training with other ``settings``."""
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
            theirs = {**Recipe().to_dict(), **theirs}  # older files lack the values at their defaults
            theirs, mine = _differences(theirs, mine)
        if theirs != mine and not (name in ADDED and theirs is None):
            raise _other_training(path, name, theirs, mine)
    # a loss term has another name in older checkpoints
    state["pending"] = [
        {("distill" if k == "taught" else k): v for k, v in t.items()} for t in state.get("pending", [])
    ]
    return state


def _other_training(path: Path, name: str, theirs: object, mine: object) -> InputError:
    """Return the error for a checkpoint whose setting ``name`` has another value."""
    if isinstance(theirs, str) and isinstance(mine, str):
        (theirs_own, _, theirs_from), (mine_own, _, mine_from) = theirs.partition(" from "), mine.partition(" from ")
        advice = "use another folder, or remove the checkpoint to begin anew"
        if theirs_own == mine_own:
            return InputError(f"checkpoint {path} began from {brief(theirs_from)}", brief(mine_from), advice)
        if theirs_from == mine_from and _FINGERPRINT.sub("", theirs_own) == _FINGERPRINT.sub("", mine_own):
            return InputError(
                f"checkpoint {path} is of another state of the data set",
                "the same images, labels and classes as when the training began",
                advice,
            )
    return InputError(
        f"checkpoint {path} is of {name} {brief(theirs)}",
        brief(mine),
        "use another folder, or the settings it began with",
    )


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    names = [name for name in (*b, *a) if a.get(name) != b.get(name)]
    return {n: a.get(n) for n in names}, {n: b.get(n) for n in names}
