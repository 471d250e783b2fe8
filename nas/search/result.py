"""The result of a search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas.core.architecture_file import Artifact
from nas.core.estimate import Candidate
from nas.search.selection import Selection


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Args:
        candidates: Every evaluated candidate with its newest measurement.
        selection: The picks.
        artifacts: Contents of the picks' files.
        folder: Folder of the files.
    """

    candidates: tuple[Candidate, ...]
    selection: Selection
    artifacts: tuple[Artifact, ...]
    folder: Path
