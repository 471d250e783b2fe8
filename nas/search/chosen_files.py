"""Where the architecture files of S, M and L are: in the folder of the run, or in one of its selections."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nas.core.architecture_file import Artifact, read_artifact
from nas.core.atomic import atomic_write
from nas.data.transforms import AREA
from nas.search.report.front_files import Front, read_front, write_front
from nas.search.settings import RUN_FILE, SearchSettings
from search_spaces.errors import InputError

FILES = "files"
"""Note of ``front.json``: the folder in the run that has the files of the picks, where it is not the run's own."""
COPIED = ("candidates.csv", "frontier.html", "frontier.png")
_SELECTION = re.compile(r"selection-[1-9][0-9]*")


def front_of_run(run: Path) -> Front | None:
    """Return the content of ``front.json``; None before there is one. Raises InputError if it is damaged."""
    path = run / "front.json"
    return read_front(path) if path.exists() else None


def folder_of(run: Path, front: Front | None) -> Path:
    """Return the folder of the picks' files. Raises InputError if the front names none of the run's selections."""
    name = front.notes.get(FILES) if front is not None else None
    if name is None:
        return run
    if not isinstance(name, str) or not _SELECTION.fullmatch(name):
        raise InputError(f"{run / 'front.json'}: files in {name!r}", "a folder such as selection-2")
    return run / name


def chosen_files(run: Path) -> dict[str, Path]:
    """Return the architecture files of a run's picks by name, small to large; empty before the search has chosen.

    Raises InputError if ``front.json`` is damaged.
    """
    front = front_of_run(run)
    folder = folder_of(run, front)
    return {name: folder / f"{name}.json" for name, _ in front.chosen} if front is not None else {}


def free_folder(folder: Path, artifacts: Sequence[Artifact]) -> Path:
    """Return where the files of a selection may go: ``folder``, unless trained weights of another architecture are
    beside one of the names, or beside a name that the selection has no more. Then its ``selection-N`` with the same
    architectures, or the first that does not exist."""
    wanted = {a.name: (a.architecture, a.precision) for a in artifacts}
    if not any(
        _is_trained_otherwise(folder / f"{name}.json", wanted.get(name)) for name in {*wanted, *own_names(folder)}
    ):
        return folder
    number = 2
    while (other := folder / f"selection-{number}").exists():
        found = {name: read_artifact(path) for name, path in chosen_files(other).items() if path.exists()}
        if {name: (a.architecture, a.precision) for name, a in found.items()} == wanted:
            return other
        number += 1
    return other


def _is_trained_otherwise(file: Path, wanted: tuple[object, object] | None) -> bool:
    if not file.with_suffix(".safetensors").exists() or not file.exists():
        return False
    old = read_artifact(file)
    return (old.architecture, old.precision) != wanted


def own_names(folder: Path) -> set[str]:
    """Return the names whose files are in the folder itself: those of its front, or, if that names other files or is of
    a running search, those with trained weights."""
    names = {name for name, path in chosen_files(folder).items() if path.parent == folder}
    return names or {f.stem for f in folder.glob("*.safetensors") if _is_architecture(f.with_suffix(".json"))}


def _is_architecture(file: Path) -> bool:
    try:
        read_artifact(file)
    except InputError:  # none there, or a file of the user
        return False
    return True


def point_to(run: Path, folder: Path) -> None:
    """Make the selection in ``folder`` that of the run: its front and its tables are the run's."""
    front = read_front(folder / "front.json")
    for name in COPIED:
        atomic_write(run / name, (folder / name).read_bytes())
    write_front(run, replace(front, notes={**front.notes, FILES: folder.name}))


def supernet_of(folder: Path) -> Path:
    """Return the supernet of a run, or of one of its selections: the one that it was given, or else the file in it."""
    run = folder.parent if _SELECTION.fullmatch(folder.name) and not (folder / RUN_FILE).exists() else folder
    given = SearchSettings.read(run).supernet if (run / RUN_FILE).exists() else None
    return Path(given) if given else run / "supernet.safetensors"


def interpolation_of_run(run: Path) -> str:
    """Return how the images of a run, or of one of its selections, are shrunk: as for the supernet that its candidates
    come from, ``area`` without one. Raises InputError if the supernet is damaged."""
    from nas.supernet.weights import interpolation_of  # imports torch

    supernet = supernet_of(run)
    return interpolation_of(supernet) if supernet.is_file() else AREA
