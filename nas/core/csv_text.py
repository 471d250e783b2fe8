"""Tables of values as CSV, safe to open in a spreadsheet and to print."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from search_spaces.text import is_formula, printable


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object]], header: bool = True) -> str:
    """Return rows as CSV with a line feed after each; cells that a row lacks are empty.

    Names of classes, files and devices come from outside. Their control characters, except line feeds, become
    visible escapes, and text that a spreadsheet would take for a formula has an apostrophe before it. Numbers are written exactly.

    Args:
        columns: Names of the columns.
        rows: Column -> value.
        header: Whether the names of the columns are the first line.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if header:
        writer.writerow([_cell(column) for column in columns])
    for row in rows:
        writer.writerow([_cell(row.get(column, "")) for column in columns])
    return out.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = printable(value, keep="\n")
    return f"'{text}" if is_formula(text) else text
