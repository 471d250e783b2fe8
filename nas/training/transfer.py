"""Weights of one detector for another: what matches by name, cut or filled by layouts, classes by name; and how what
was taken is tuned.

Names are those of cells (``stage1_block-csp.conv1.conv.weight``), so that equal nodes of one family meet whatever
their widths. Where a width differs, the leading channels of each part of a layout are taken (docs/decisions/0002-layouts-of-laid-out-axes.md,
"Layouts"), as the supernet cuts them; the rest keeps its fresh values.
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
"""Names that a report lists of each kind; all are counted."""

Places = list[tuple[int, int]]
"""Along one axis: which index of the source is taken, and where it comes to lie."""


_KINDS = (
    ("taken", "taken whole"),
    ("sliced", "cut out of wider ones"),
    ("partial", "filled in part"),
    ("new", "left new"),
    ("unused", "of the file not used"),
)


@dataclass(frozen=True)
class Part:
    """A weight of the new detector: its name, its values, and how many of them were taken."""

    name: str
    size: int
    taken: int


@dataclass
class TransferReport:
    """What became of every weight (BatchNorm statistics go with their weights): taken as it was, cut out of a wider
    one (``sliced``), filled in part only (``partial``), or new; and which of the source found no use."""

    taken: list[Part] = field(default_factory=list)
    sliced: list[Part] = field(default_factory=list)
    partial: list[Part] = field(default_factory=list)
    new: list[Part] = field(default_factory=list)
    unused: list[Part] = field(default_factory=list)
    classes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: tensors, parameters and the first :data:`NAMED` names of each kind; ``classes``: those whose
        rows were taken, by their names."""
        kinds = {name: getattr(self, name) for name in ("taken", "sliced", "partial", "new", "unused")}
        return {"classes": self.classes, **{name: _counted(parts) for name, parts in kinds.items()}}

    def lines(self) -> list[str]:
        """For a person: one line per kind that there is, with its first names."""
        said = []
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
            said.append(f"{what}: {len(parts)} tensors, {sum(p.size for p in parts):,} parameters{part}{names}")
        return said


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
    """Fill ``target`` from ``source`` in place. InputError where nothing fits.

    A weight that only the target has, and the rows of classes that the source does not know (by name, whatever the
    case), stay as they are in the target: fresh, with the bias of the prior.
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
    """The leading channels of each part that both have; of parts that only one has the last are paired, as a
    supernet's cuts do: in a concatenation without the intermediate results the last bottleneck is the last part,
    whatever the depth."""
    same = [i for i, widths in enumerate(zip(source, target, strict=False)) if all(widths)]
    left = ([i for i, width in enumerate(layout) if width and i not in same] for layout in (source, target))
    pairs = [*((i, i) for i in same), *zip(*(reversed(parts) for parts in left), strict=False)]
    return [(sum(source[:a]) + i, sum(target[:b]) + i) for a, b in pairs for i in range(min(source[a], target[b]))]


def _rows(
    source: tuple[int, int], sources: int, target: tuple[int, int], targets: int, mapped: Sequence[tuple[int, int]]
) -> Places:
    """Of an axis that is, group after group, some rows of other things and then the classes: the former, and the
    classes that both know."""
    places = list[tuple[int, int]]()
    for group in range(min(source[0], target[0])):
        start, own = group * (source[1] + sources), group * (target[1] + targets)
        places += [(start + i, own + i) for i in range(min(source[1], target[1]))]
        places += [(start + source[1] + there, own + target[1] + here) for there, here in mapped]
    return places


def _centre(source: int, target: int) -> Places:
    """The middle of a kernel's side."""
    size = min(source, target)
    return [((source - size) // 2 + i, (target - size) // 2 + i) for i in range(size)]


def _copy(source: Tensor, target: Tensor, places: Sequence[Places]) -> int:
    """Copy the places of each axis, crossed; how many values those are."""
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
    """Weights whose first axis holds a row per class: (groups, rows of other things at the head of each group), as
    the heads tag their convs."""
    found: dict[str, tuple[int, int]] = {}
    for prefix, layer in detector.named_modules():
        tag: tuple[int, int] | None = getattr(layer, "class_rows", None)
        if tag is not None:
            found |= {f"{prefix}.{name}": tag for name, _ in layer.named_parameters(recurse=False)}
    return found
