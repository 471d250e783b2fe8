"""Transfer of weights between detectors: by name of the cell, by layout of the channels, by name of the class.

Equal nodes of one family of blocks have equal names (``stage1_block-csp.conv1.conv.weight``), whatever their widths.
Where widths differ, the leading channels of each part of a layout are copied (docs/architecture.md, "Layouts"), as a
supernet cuts its architectures; the other channels keep their initial values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nas.supernet.supernet import layouts
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.graph import Layout

NAMED = 20
"""Most names of each kind in a report; all are counted."""

Places = list[tuple[int, int]]
"""Pairs of indices along one axis: in the source, in the target."""


_KINDS = (
    ("taken", "taken whole"),
    ("sliced", "cut out of wider ones"),
    ("partial", "filled in part"),
    ("new", "left new"),
    ("unused", "of the file not used"),
)


@dataclass(frozen=True)
class Part:
    """A weight: its name, its number of values, and the number of values that were copied."""

    name: str
    size: int
    taken: int


@dataclass
class TransferReport:
    """What was transferred to every weight; BatchNorm statistics follow their weights.

    Attributes:
        taken: weights that were copied whole.
        sliced: weights that were cut out of larger ones.
        partial: weights of which a part was copied.
        new: weights that keep their initial values.
        unused: weights of the source without a counterpart.
        classes: number of classes whose weights were copied.
    """

    taken: list[Part] = field(default_factory=list)
    sliced: list[Part] = field(default_factory=list)
    partial: list[Part] = field(default_factory=list)
    new: list[Part] = field(default_factory=list)
    unused: list[Part] = field(default_factory=list)
    classes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the report (JSON-ready): tensors, parameters and the first :data:`NAMED` names of each kind."""
        kinds = {name: getattr(self, name) for name in ("taken", "sliced", "partial", "new", "unused")}
        return {"classes": self.classes, **{name: _counted(parts) for name, parts in kinds.items()}}

    def lines(self) -> list[str]:
        """Return one line per kind that occurs, with its first names."""
        lines = []
        for name, what in _KINDS:
            parts: list[Part] = getattr(self, name)
            if not parts:
                continue
            part = f", {sum(p.taken for p in parts):,} of them taken" if name == "partial" else ""
            names = (
                ""
                if name in ("taken", "sliced")
                else f": {', '.join(p.name for p in parts[:3])}{' …' if len(parts) > 3 else ''}"
            )
            lines.append(f"{what}: {len(parts)} tensors, {sum(p.size for p in parts):,} parameters{part}{names}")
        return lines


def _counted(parts: Sequence[Part]) -> dict[str, Any]:
    return {
        "tensors": len(parts),
        "parameters": sum(p.size for p in parts),
        "values_taken": sum(p.taken for p in parts),
        "names": [p.name for p in parts[:NAMED]],
    }


@torch.no_grad()
def transfer(
    source: Detector, source_classes: Sequence[str], target: Detector, classes: Sequence[str]
) -> TransferReport:
    """Copy the weights of ``source`` that fit into ``target``, in place, and report them.

    Weights that only the target has, and the rows of classes that the source lacks (by name, ignoring case), keep
    their initial values. Raises InputError if nothing fits.

    Args:
        source: detector with the weights.
        source_classes: its class names in the order of its outputs.
        target: detector to fill.
        classes: its class names.
    """
    old, axes = dict(source.state_dict()), (layouts(source), layouts(target))
    known = {name.casefold(): i for i, name in enumerate(source_classes)}
    mapped = [(known[name.casefold()], i) for i, name in enumerate(classes) if name.casefold() in known]
    rows = _class_rows(source), _class_rows(target)
    parameters = {name for name, _ in target.named_parameters()}
    report = TransferReport(classes=len(mapped))
    for name, own in target.state_dict().items():
        found = old.pop(name, None)
        taken = 0
        if found is not None and found.dim() == own.dim():
            places = [_parts(s, t) for s, t in zip(axes[0].get(name, ()), axes[1].get(name, ()), strict=False)]
            if name in rows[0] and name in rows[1]:
                places[0] = _rows(rows[0][name], len(source_classes), rows[1][name], len(classes), mapped)
            places += [_centre(s, t) for s, t in zip(found.shape[len(places) :], own.shape[len(places) :], strict=True)]
            taken = _copy(found, own, places)
        if name in parameters:
            part = Part(name.removeprefix("cells."), own.numel(), taken)
            whole = report.taken if found is not None and found.shape == own.shape else report.sliced
            (whole if taken == own.numel() else report.partial if taken else report.new).append(part)
    kept = dict(source.named_parameters())
    report.unused = [Part(name.removeprefix("cells."), kept[name].numel(), 0) for name in old if name in kept]
    if not (report.taken or report.sliced or report.partial):
        raise InputError(
            "weights of which nothing fits this architecture", "weights of the same search space", "leave --init out"
        )
    return report


def _parts(source: Layout, target: Layout) -> Places:
    """Return the places of the leading channels of each part.

    Parts of non-zero width in both layouts are paired by index, the others from the end, as a supernet's cuts do: in
    a concatenation without intermediate results, the last bottleneck is the last part, whatever the depth.
    """
    same = [i for i, widths in enumerate(zip(source, target, strict=False)) if all(widths)]
    left = ([i for i, width in enumerate(layout) if width and i not in same] for layout in (source, target))
    pairs = [*((i, i) for i in same), *zip(*(reversed(parts) for parts in left), strict=False)]
    return [(sum(source[:a]) + i, sum(target[:b]) + i) for a, b in pairs for i in range(min(source[a], target[b]))]


def _rows(
    source: tuple[int, int], sources: int, target: tuple[int, int], targets: int, mapped: Sequence[tuple[int, int]]
) -> Places:
    """Return the places on an axis that consists of groups of other rows followed by one row per class.

    ``source`` and ``target``: (groups, other rows per group); ``mapped``: pairs of class indices in both.
    """
    places = list[tuple[int, int]]()
    for group in range(min(source[0], target[0])):
        start, own = group * (source[1] + sources), group * (target[1] + targets)
        places += [(start + i, own + i) for i in range(min(source[1], target[1]))]
        places += [(start + source[1] + there, own + target[1] + here) for there, here in mapped]
    return places


def _centre(source: int, target: int) -> Places:
    """Return the places of the centre of a kernel's side."""
    size = min(source, target)
    return [((source - size) // 2 + i, (target - size) // 2 + i) for i in range(size)]


def _copy(source: Tensor, target: Tensor, places: Sequence[Places]) -> int:
    """Copy the product of the places of all axes; return the number of values."""
    there, own = (
        tuple(
            torch.tensor([pair[side] for pair in axis]).view(-1, *(1,) * (len(places) - 1 - i))
            for i, axis in enumerate(places)
        )
        for side in (0, 1)
    )
    if all(map(len, places)):
        target[own] = source[there].to(target)
    return math.prod(map(len, places))


def _class_rows(detector: Detector) -> dict[str, tuple[int, int]]:
    """Return (groups, other rows at the head of each group) of the weights whose first axis has a row per class, as
    tagged by the heads."""
    found: dict[str, tuple[int, int]] = {}
    for prefix, layer in detector.named_modules():
        tag: tuple[int, int] | None = getattr(layer, "class_rows", None)
        if tag is not None:
            found |= {f"{prefix}.{name}": tag for name, _ in layer.named_parameters(recurse=False)}
    return found
