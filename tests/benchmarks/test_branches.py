"""The twins that benchmarks/branches.py compares: different to train, equal to deploy."""

from __future__ import annotations

from collections import Counter

from torch import nn

from benchmarks.branches import SPACE, UNITS, twin
from search_spaces.layers import QARepVGG, RepVGG, fuse


def test_twins_differ_in_their_units_and_are_one_graph_when_deployed() -> None:
    kinds, deployed = {}, {}
    for units in UNITS:
        detector = SPACE.build(twin(units, 96), 3).eval()
        kinds[units] = Counter(type(m) for m in detector.modules() if isinstance(m, (QARepVGG, RepVGG)))
        fuse(detector, full=True)
        deployed[units] = sorted(
            (tuple(m.weight.shape), m.stride) for m in detector.modules() if isinstance(m, nn.Conv2d)
        )
    assert set(kinds["qarepvgg"]) == {QARepVGG} and set(kinds["repvgg"]) == {RepVGG} and not kinds["plain"]
    assert kinds["qarepvgg"].total() == kinds["repvgg"].total() > 20
    assert deployed["qarepvgg"] == deployed["repvgg"] == deployed["plain"]
