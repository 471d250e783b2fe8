"""A table of text, for terminals (rich) and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search_spaces.text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_BORDER = 3
"""Characters of padding per column on a terminal."""


@dataclass(frozen=True)
class TextTable:
    """Headers and rows of text; the first ``left`` columns are aligned left, the others (numbers) right.

    Cells are made printable on construction (:func:`search_spaces.text.printable`), since they hold file names, class
    names and names of devices.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", tuple(map(printable, self.headers)))
        object.__setattr__(self, "rows", tuple(tuple(map(printable, row)) for row in self.rows))

    def markdown(self) -> str:
        """Return a Markdown table, with columns padded so that it is readable as plain text too."""
        lines = [tuple(cell.replace("|", "\\|") for cell in row) for row in (self.headers, *self.rows)]
        widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(self.headers))]
        rule = "|".join(f" {'-' * w} " if i < self.left else f" {'-' * (w - 1)}: " for i, w in enumerate(widths))
        texts = [
            " | ".join(
                c.ljust(w) if i < self.left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        return "\n".join([f"| {texts[0]} |", f"|{rule}|", *(f"| {text} |" for text in texts[1:])]) + "\n"

    def rich(self, title: str | None = None, widths: Sequence[int] | None = None) -> Table:
        """Return the table for a ``rich.console.Console``.

        With ``widths``, one per column in characters, cells are broken between words.
        :meth:`nas.core.console_reporter.ConsoleReporter.table` chooses the form that shows every cell in full.
        """
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=None if title is None else Text(printable(title)),
            box=box.SIMPLE_HEAD,
            title_justify="left",
            title_style="bold",
            header_style="bold",
        )
        for i, header in enumerate(self.headers):
            table.add_column(
                Text(header),
                justify="left" if i < self.left else "right",
                no_wrap=widths is None,
                width=None if widths is None else widths[i],
                overflow="fold",
                style="bold" if i == 0 else "",
            )
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row))  # Text: a name with [brackets] is no markup
        return table

    def fitted(self, width: int, title: str | None = None) -> RenderableType:
        """Return the widest form that fits ``width`` characters with every cell in full.

        The forms are one line per row, cells wrapped between words, and one block per row with a line per cell.
        """
        from rich.cells import cell_len

        columns = list(zip(self.headers, *self.rows, strict=True))
        whole = [max(map(cell_len, column)) for column in columns]
        room = width - _BORDER * len(columns) - 1
        if sum(whole) <= room:
            return self.rich(title)
        widths = [max(cell_len(word) for cell in column for word in cell.split() or [""]) for column in columns]
        widths[0] = whole[0]
        if sum(widths) > room:
            return self._blocks(title)
        for i, most in enumerate(whole):
            widths[i] += min(most - widths[i], room - sum(widths))
        return self.rich(title, widths)

    def _blocks(self, title: str | None) -> RenderableType:
        from rich.text import Text

        name = max(map(len, self.headers))
        text = Text()
        if title:
            text.append(f"{title}\n", "bold")
        for row in self.rows:
            text.append(f"\n{self.headers[0]} {row[0]}".rstrip() + "\n", "bold")
            for header, cell in list(zip(self.headers, row, strict=True))[1:]:
                text.append(f"  {header:<{name}}  ", "dim").append(f"{cell}\n")
        return text
