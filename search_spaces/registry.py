"""Name -> object tables whose entries are imported only when asked for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from search_spaces.errors import InputError

T = TypeVar("T")


class Registry(Generic[T]):
    """A table of ``name -> "module:attribute"``; other packages add to it through the entry-point group of the same
    name.

    Entries are strings, so a library that is missing breaks only the entry that needs it, and listing the names
    imports nothing.
    """

    def __init__(self, group: str, builtin: Mapping[str, str]) -> None:
        self.group = group
        self._builtin = dict(builtin)

    @cached_property
    def _targets(self) -> dict[str, str]:
        targets = dict(self._builtin)
        for plugin in entry_points(group=self.group):
            if targets.setdefault(plugin.name, plugin.value) != plugin.value:
                raise InputError(
                    f"plug-in {plugin.value!r} re-uses the name {plugin.name!r} of {self.group}", "a new name"
                )
        return targets

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, name: str) -> T:
        if name not in self._targets:
            raise unknown(self.group.rpartition(".")[2].rstrip("s"), name, self._targets)
        module, attribute = self._targets[name].split(":")
        entry: T = getattr(import_module(module), attribute)
        return entry


def unknown(what: str, name: object, known: Mapping[str, object] | Iterator[object] | tuple[object, ...]) -> InputError:
    """Make the error for a name that is not in a table: it lists the known names and the nearest."""
    names = [str(k) for k in known]
    near = difflib.get_close_matches(str(name), names, n=1)
    return InputError(
        f"unknown {what} {str(name)!r}", f"one of {', '.join(names)}", f"did you mean {near[0]!r}?" if near else ""
    )
