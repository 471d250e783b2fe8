"""Types and texts of the rows of results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Figure = Mapping[str, Any]
Row = tuple[str, str]
"""What the figure is, and its value with the unit."""
Rows = Callable[[Figure], Sequence[Row]]
"""Returns the rows of a result besides its goals."""
Theme = Mapping[str, tuple[str, Rows]]
"""Result -> its title and its rows."""


def percent(share: float, digits: int = 1) -> str:
    """A share as percent."""
    return f"{100 * share:.{digits}f} %"


def interval(low: float, high: float) -> str:
    """An interval in parentheses."""
    return f"({low:.2f}…{high:.2f})"


def milliseconds(value: float) -> str:
    """A time in ms, three digits."""
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


def nothing(f: Figure) -> list[Row]:
    """No figure besides the goals."""
    return []
