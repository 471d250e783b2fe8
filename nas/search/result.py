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

    @property
    def files(self) -> list[str]:
        """Names of the files of the result that are in its folder."""
        names = [f"{artifact.name}.json" for artifact in self.artifacts]
        names += ["front.json", "front.csv", "candidates.csv", "frontier.html", "frontier.png"]
        return [name for name in names if (self.folder / name).exists()]
