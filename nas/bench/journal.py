"""The journal of a bench: a file of JSON lines, its settings first, then every measurement as soon as it is taken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.bench.results import BenchRecord, BenchSettings
from nas.core.journal import Journal
from search_spaces.errors import InputError

JOURNAL = "bench.jsonl"
JOURNAL_VERSION = 1


class BenchJournal:
    """Reads and extends the journal in a bench's folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        self._lines = Journal(self.path)

    def begin(self, settings: BenchSettings) -> list[BenchRecord]:
        """Start a journal, or read the records of one with the same settings.

        Failures are left out, so that they are tried again.

        Raises:
            InputError: if the journal has other settings or is damaged.
        """
        lines = self._lines.read()
        if not lines:
            self._lines.start({"bench": JOURNAL_VERSION, **settings.to_dict()})
            return []
        first, *others = lines
        if first.get("bench") != JOURNAL_VERSION:
            raise InputError(f"{self.path} is not the journal of a bench of this version", hint="choose another --out")
        if differences := settings.differences(first):
            hint = "repeat its settings to resume it, or choose another --out"
            raise InputError(f"{self.path.parent} holds a bench of other settings: {'; '.join(differences)}", hint=hint)
        records = [self._record(data, i) for i, data in enumerate(others, 2)]
        return [record for record in records if record.measurement is not None]

    def read(self) -> tuple[BenchSettings, list[BenchRecord]]:
        """Read the settings and all records, whatever the settings are.

        Raises:
            InputError: if there is no journal, or it is damaged.
        """
        lines = self._lines.read()
        if not lines:
            raise InputError(f"no bench in {self.path.parent}", "the folder of a bench")
        first, *others = lines
        try:
            settings = BenchSettings.from_dict({name: value for name, value in first.items() if name != "bench"})
        except (KeyError, TypeError) as error:
            raise InputError(f"{self.path} is not the journal of a bench of this version ({error})") from None
        return settings, [self._record(data, i) for i, data in enumerate(others, 2)]

    def append(self, record: BenchRecord) -> None:
        """Write a record; once this returns, a kill does not lose it."""
        self._lines.append(record.to_dict())

    def _record(self, data: Mapping[str, Any], number: int) -> BenchRecord:
        try:
            return BenchRecord.from_dict(data)
        except (InputError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"line {number} of {self.path} is no turn of a bench ({error})",
                hint="remove that line, or choose another --out",
            ) from None
