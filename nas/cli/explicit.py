"""Options that know whether they were given: without a default in the parsed result, and with it in their help."""

from __future__ import annotations

import argparse
from typing import Any, cast


class ExplicitOptions:
    """Adds options to a parser whose values appear in the parsed namespace only if they were given.

    ``add_*`` functions of :mod:`nas.cli.options` take it in place of a parser (:meth:`as_parser`).
    """

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser
        self.defaults: dict[str, Any] = {}
        """Default of every option by its name in the namespace."""
        self.flags: dict[str, str] = {}
        """Flag of every option by its name in the namespace."""

    def add_argument(self, *flags: str, default: Any = None, help: str = "", **rest: Any) -> argparse.Action:
        """Add an option as ``argparse.ArgumentParser.add_argument`` does."""
        default = False if rest.get("action") == "store_true" and default is None else default
        text = help.replace("%(default)s", str(default).replace("%", "%%"))
        action = self._parser.add_argument(*flags, default=argparse.SUPPRESS, help=text, **rest)
        self.defaults[action.dest], self.flags[action.dest] = default, flags[0]
        return action

    def set_defaults(self, **values: Any) -> None:
        """Set defaults as ``argparse.ArgumentParser.set_defaults`` does."""
        self._parser.set_defaults(**values)

    def as_parser(self) -> argparse.ArgumentParser:
        """Return itself with the type of a parser."""
        return cast(argparse.ArgumentParser, self)

    def given(self, args: argparse.Namespace) -> dict[str, str]:
        """Return the options that were given: name in the namespace -> flag."""
        return {name: flag for name, flag in self.flags.items() if hasattr(args, name)}
