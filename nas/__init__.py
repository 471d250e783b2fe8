"""L2: everything about searching, training and deploying detectors, and the command line. It imports ``latency_db`` and
``search_spaces``.

The Python interface is at the top of this package and imported on first use: :class:`Search`, :func:`open_run`,
:func:`train`, :func:`load`, :func:`measure`, :func:`build`, :class:`Architecture`, :data:`spaces` (docs/python.md).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.api import ArchitectureFile, Model, Run, Search, build, load, measure, open_run, train
    from search_spaces.architecture import Architecture
    from search_spaces.errors import InputError
    from search_spaces.spaces import SPACES as spaces

__all__ = [
    "Architecture",
    "ArchitectureFile",
    "InputError",
    "Model",
    "Run",
    "Search",
    "build",
    "load",
    "measure",
    "open_run",
    "spaces",
    "train",
]

_ELSEWHERE = {
    "Architecture": "search_spaces.architecture:Architecture",
    "InputError": "search_spaces.errors:InputError",
    "spaces": "search_spaces.spaces:SPACES",
}
"""Names that are not in :mod:`nas.api`."""


def __getattr__(name: str) -> object:
    """Import a name of the interface on first use; importing ``nas`` imports nothing else."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _ELSEWHERE.get(name, f"nas.api:{name}").partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
