"""Ranges of activations for runtimes whose int8 operators have one scale for what they read and what they write.

LiteRT's pooling, resizing, splits and concatenations move numbers without computing with them. An input with another
scale has to be rescaled by an operator of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from latency_db.conversion.onnx_parts import decode_tail
from latency_db.conversion.tflite_int8 import MOVING, PROBABILITIES

if TYPE_CHECKING:
    import onnx

Range = tuple[float, float]

ONE_SCALE = MOVING - {"Concat"}
PROBABILITY = 0.0, 255 / 256
MOST = 2.0
"""A concatenation gives its range to an input whose steps become at most so many times as wide: one bit."""


def shared_ranges(proto: onnx.ModelProto, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Return the ranges after sharing.

    1. What a moving operator reads and writes has one range, the union.
    2. From the last concatenation to the first, each input takes the range of the output, unless its steps become more
       than :data:`MOST` times as wide, or a range that begins at 0 would begin below.
    3. Sigmoids and softmaxes have the range 0..255/256.
    """
    tail = decode_tail(proto)
    nodes = [n for n in proto.graph.node if n.name not in tail]
    groups = _Groups(ranges)
    for n in nodes:
        if n.op_type in ONE_SCALE:
            groups.join([n.input[0], *n.output])
    for n in reversed(nodes):
        if n.op_type == "Concat":
            for name in n.input:
                groups.offer(name, n.output[0])
    found = {name: groups.range_of(name) for name in ranges}
    return found | {n.output[0]: PROBABILITY for n in nodes if n.op_type in PROBABILITIES and n.output[0] in found}


class _Groups:
    """Values that share a range."""

    def __init__(self, ranges: Mapping[str, Range]) -> None:
        self._group = {name: [name] for name in ranges}
        self._range = {name: _with_zero(ends) for name, ends in ranges.items()}

    def range_of(self, name: str) -> Range:
        return self._range[name]

    def join(self, names: list[str]) -> None:
        """Give values one range, the union of theirs; values without a range are left out."""
        groups = [self._group[name] for name in names if name in self._group]
        members = list(dict.fromkeys(name for group in groups for name in group))
        if members:
            self._set(members, _union(*(self._range[name] for name in members)))

    def offer(self, name: str, output: str) -> None:
        """Give the values that share a range with ``name`` that of ``output``, if it is not too wide for them."""
        if name in self._range and output in self._range:
            own, wide = self._range[name], self._range[output]
            covers = _union(own, wide) == wide
            clips = own[0] == 0 and wide[0] < 0  # the range of a ReLU is the ReLU: the quantizer removes it
            if covers and not clips and _length(wide) <= MOST * _length(own):
                self._set(self._group[name], wide)

    def _set(self, members: list[str], ends: Range) -> None:
        for name in members:
            self._group[name], self._range[name] = members, ends


def _with_zero(ends: Range) -> Range:
    """A range with the zero in it, as every quantizer takes it."""
    return min(ends[0], 0.0), max(ends[1], 0.0)


def _union(*ranges: Range) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _length(ends: Range) -> float:
    return ends[1] - ends[0]
