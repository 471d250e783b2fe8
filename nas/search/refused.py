"""Removal of what a search has written before it was refused, so that the corrected command can run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from nas.search.driver import lock_file
from nas.search.settings import RUN_FILE, SearchSettings
from search_spaces.errors import InputError


@contextlib.contextmanager
def removed_if_refused(folder: Path, settings: SearchSettings) -> Iterator[Callable[[], None]]:
    """Remove the run in ``folder`` if the context ends with an InputError before any work was done.

    Gives a function to be called when the first trial begins: from then on everything stays. So does a run that was
    there before, and one with other files than those that open a run (a supernet's checkpoint, a log).
    """
    existed, begun = folder.exists(), (folder / RUN_FILE).exists()
    before = set(folder.iterdir()) if existed else set()

    def begin() -> None:
        nonlocal begun
        begun = True

    try:
        yield begin
    except InputError:
        if not begun and folder.is_dir():
            _remove(folder, settings.storage_of(folder), before, existed)
        raise


@contextlib.contextmanager
def limits_kept_if_refused(folder: Path) -> Iterator[None]:
    """Restore the budgets and goals in the settings of a run that was there before, if the context ends with an
    InputError: other limits that nothing meets must not take the place of those that S, M and L were chosen with."""
    before = SearchSettings.read(folder) if (folder / RUN_FILE).exists() else None
    try:
        yield
    except InputError:
        if before is not None and (folder / RUN_FILE).exists():
            now = SearchSettings.read(folder)
            limits = {name: getattr(before, name) for name in ("budgets", "at_least", "baselines", "goals")}
            if (now.budgets, now.at_least) != (before.budgets, before.at_least):
                replace(now, **limits).write(folder)
        raise


def _remove(folder: Path, storage: Path | str, before: set[Path], existed: bool) -> None:
    written = set(folder.iterdir()) - before
    if not written <= {folder / RUN_FILE, storage, lock_file(storage)}:
        return
    with contextlib.suppress(OSError):  # a disk that has failed since; the error that led here is what counts
        for path in written:
            path.unlink()
        if not existed:
            folder.rmdir()
