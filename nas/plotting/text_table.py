"""A table of text, for terminals (rich) and for Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class TextTable:
    """Headers and rows of text; the first ``left`` columns are aligned left, the others (numbers) right."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1

    def markdown(self) -> str:
        """A Markdown table, columns padded so that it reads as plain text too."""
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

    def rich(self, title: str | None = None) -> Table:
        """The table for a terminal, to be printed by a ``rich.console.Console``."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", header_style="bold")
        for i, header in enumerate(self.headers):
            table.add_column(
                Text(header), justify="left" if i < self.left else "right", no_wrap=True, style="bold" if i == 0 else ""
            )
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row))  # Text: a name with [brackets] is no markup
        return table
