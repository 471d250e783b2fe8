"""A logger that writes ``<weights>.log.csv``, one row per report."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nas.core.atomic import atomic_write
from nas.core.csv_text import csv_text
from nas.core.training_progress import Progress
from nas.training.loggers.base import Logger, numbers
from search_spaces.errors import InputError

Row = Mapping[str, Any]


class CsvLogger(Logger):
    """Writes a table with the columns step, epoch, the loss terms, lr, images_per_s, memory_mib, and, in rows with an
    evaluation, val_map and val_map50.

    A resumed training continues the same file. Rows from its first step on are removed, since the training reports
    them again, and so is an incomplete last line.
    """

    def __init__(self, weights: Path, settings: dict[str, Any]) -> None:
        self.path = weights.with_suffix(".log.csv")
        self._columns: list[str] = []

    def log(self, progress: Progress) -> None:
        """Append a row. New columns are added to all rows.

        Raises InputError if the file cannot be written, or if an existing file is no log of a training.
        """
        row = {"step": progress.step, **{name: format(value, ".6g") for name, value in numbers(progress).items()}}
        first = not self._columns
        if first or not row.keys() <= set(self._columns):
            earlier = [r for r in self._read() if int(r["step"]) < progress.step]
            names = list(dict.fromkeys([*self._columns, *(earlier[0] if first and earlier else ()), *row]))
            self._columns = [n for n in names if not n.startswith("val_")] + [n for n in names if n.startswith("val_")]
            atomic_write(self.path, self._text(earlier, header=True), durable=False)
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(self._text([row]))
        except OSError as error:
            raise InputError(
                f"cannot write {self.path} ({error.strerror})", "a writable folder with free space"
            ) from None

    def _text(self, rows: Iterable[Row], header: bool = False) -> str:
        return csv_text(self._columns, rows, header)

    def _read(self) -> list[dict[str, str]]:
        """Return the complete rows of the file; none where there is no file."""
        try:
            text = self.path.read_text("utf-8")
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"log {self.path} cannot be read ({error})", "the file of this training", "move it away"
            ) from None
        rows = list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))
        if any(not (row.get("step") or "").isdecimal() or None in row for row in rows):
            raise InputError(
                f"{self.path} is no log of a training", "a file that begins with a column step", "move it away"
            )
        return rows
