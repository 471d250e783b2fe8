"""Removal of what a search has written before it was refused, so that the corrected command can run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
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


def _remove(folder: Path, storage: Path | str, before: set[Path], existed: bool) -> None:
    written = set(folder.iterdir()) - before
    if not written <= {folder / RUN_FILE, storage, lock_file(storage)}:
        return
    with contextlib.suppress(OSError):  # a disk that has failed since; the error that led here is what counts
        for path in written:
            path.unlink()
        if not existed:
            folder.rmdir()
