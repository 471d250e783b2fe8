"""The output of a training: one writer at a time, finished weights are never replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nas.core import distributed as processes
from nas.core.architecture_file import Artifact
from nas.core.output_lock import output_lock
from nas.supernet.supernet import Supernet
from nas.supernet.weights import is_supernet, load_detector, load_supernet
from nas.training.job import TrainJob
from nas.training.recipe import Recipe
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace


@contextlib.contextmanager
def exclusive_output(path: Path) -> Iterator[None]:
    """Hold the lock of an output file, in rank 0 for all processes that train together. Raises InputError in all of
    them if another training writes the file."""
    with contextlib.ExitStack() as stack:

        def acquire() -> InputError | None:
            try:
                stack.enter_context(output_lock(path))
            except InputError as error:
                return error
            return None

        if (error := processes.broadcast_from_first(acquire)) is not None:
            raise error
        yield


def finished_record(artifact: Artifact, path: Path, job: TrainJob) -> dict[str, Any] | None:
    """Return the record of the weights in ``path`` if this very training wrote them, None if the file does not exist.

    The record has no ``metrics`` if the evaluation after the training did not end. Raises InputError if the file
    holds anything else: it is never replaced.
    """
    if not path.exists():
        return None
    if is_supernet(path):
        raise _occupied(path, "a supernet")
    _, found, record = load_detector(path)
    if found.architecture != artifact.architecture:
        raise _occupied(path, f"architecture {found.architecture.id}")
    _check_provenance(path, record, job)
    return record


def finished_supernet(space: SearchSpace, path: Path, job: TrainJob) -> Supernet | None:
    """Return the supernet in ``path`` if this very training wrote it, None if the file does not exist. Raises
    InputError if the file holds anything else: it is never replaced."""
    if not path.exists():
        return None
    if not is_supernet(path):
        raise _occupied(path, "no supernet")
    supernet, _, record = load_supernet(path)
    if (supernet.space.name, supernet.space.choices) != (space.name, space.choices):
        raise _occupied(path, "another search space")
    _check_provenance(path, record, job)
    return supernet


def _check_provenance(path: Path, record: Mapping[str, Any], job: TrainJob) -> None:
    wanted = {**job.provenance(), "augmentation": job.augmentation.to_dict()}
    if "supernet" in record and "recipe" not in record:
        raise _exists(path, "taken from a supernet without further training (nas extract)")
    for name, value in wanted.items():
        found = record.get(name)
        if name == "recipe" and isinstance(found, dict):
            found = {**Recipe().to_dict(), **found}  # older files lack the values at their defaults
            assert isinstance(value, dict)
            different = next((n for n in value if found.get(n) != value[n]), None)
            if different is not None:
                raise _occupied(path, f"{different} = {found.get(different)!r} and not {value[different]!r}")
        elif name == "data" and found != value:
            raise _occupied(path, "another state of the data set: its images, labels or classes differ")
        elif found != value and not (found is None and name in ("from", "augmentation")):
            raise _occupied(path, f"{name} {_short(found)} and not {_short(value)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _occupied(path: Path, what: str) -> InputError:
    return _exists(path, f"from a training with {what}")


def _exists(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} exists, {what}",
        "an --out that does not exist",
        "finished weights are never replaced: take another --out, or remove the file",
    )
