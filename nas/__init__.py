"""L2: estimators, supernet, samplers, study, front, selection, data, training, export and the command line.
``nas.load`` opens a trained detector."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.inference.model import load

__all__ = ["load"]


def __getattr__(name: str) -> object:
    """``nas.load`` on demand: importing ``nas`` imports nothing else."""
    if name == "load":
        from nas.inference.model import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
