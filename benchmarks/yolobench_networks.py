"""The networks of YOLOBench, from their names: as architectures of this project where its spaces hold them, and all
as lists of operations.

YOLOBench (arXiv:2307.13901) scales six families by a depth and a width multiple and gives all of them the head of
YOLOv8. YOLOv5 to v8 are points of the spaces of those families. Two are no space here and are written down as
operations from their published description: YOLOv3 (arXiv:1804.02767) and Scaled-YOLOv4's CSP variant
(arXiv:2011.08036). That the reconstruction is right is checked, not believed: multiply-accumulates agree with the
table's ``conv_gmacs_fused`` for all 968 rows, parameters with ``params_fused`` (``python -m
benchmarks.yolobench_networks TABLE``).
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from search_spaces.architecture import Architecture, Value
from search_spaces.errors import InputError
from search_spaces.op import Op, Shape
from search_spaces.spaces import SPACES, space_of
from search_spaces.trace import trace

CLASSES, BINS = 80, 16
_SHORT = {"n": (0.33, 0.25), "s": (0.33, 0.5), "m": (0.67, 0.75), "l": (1.0, 1.0)}
_MULTIPLES = {"1": 1.0, "25": 0.25, "33": 0.33, "5": 0.5, "6": 0.6, "67": 0.67, "75": 0.75}
_NAME = re.compile(r"yolo([3-8])([sml](?=-))?-?(?:([nsml])|d(\d+)w(\d+))")


@dataclass
class _Recorder:
    """Writes down the operations of a network while it is described; feature maps are their shapes (channels, height,
    width)."""

    depth_multiple: float
    width_multiple: float
    ops: list[Op] = field(default_factory=list)

    def width(self, channels: int) -> int:
        return math.ceil(channels * self.width_multiple / 8) * 8

    def depth(self, repeats: int) -> int:
        return max(round(repeats * self.depth_multiple), 1)

    def conv(self, x: Shape, out: int, kernel: int = 1, stride: int = 1, skip: bool = False, act: bool = True) -> Shape:
        y = (out, x[1] // stride, x[2] // stride)
        weights = x[0] * out * kernel**2
        fused = (("silu",) if act else ()) + (("add",) if skip else ())
        self.ops.append(
            Op("conv", (x, y) if skip else (x,), y, kernel, stride, 1, weights * y[1] * y[2], weights + out, fused)
        )
        return y

    def concat(self, *xs: Shape) -> Shape:
        y = (sum(x[0] for x in xs), *xs[0][1:])
        self.ops.append(Op("concat", xs, y))
        return y

    def pointwise(self, x: Shape) -> Shape:
        self.ops.append(Op("silu", (x,), x))
        return x

    def pool(self, x: Shape, kernel: int, stride: int = 1) -> Shape:
        y = (x[0], x[1] // stride, x[2] // stride)
        self.ops.append(Op("pool", (x,), y, kernel, stride))
        return y

    def upsample(self, x: Shape) -> Shape:
        y = (x[0], 2 * x[1], 2 * x[2])
        self.ops.append(Op("upsample", (x,), y))
        return y

    def bottlenecks(self, x: Shape, count: int, hidden: int | None = None, kernel: int = 1, skip: bool = True) -> Shape:
        """Two convolutions each, ``kernel`` and 3, around a skip; at least the widths of ``x`` again."""
        for _ in range(count):
            x = self.conv(self.conv(x, hidden or x[0], kernel), x[0], 3, skip=skip)
        return x

    def stack(self, x: Shape, out: int, count: int) -> Shape:
        """3x3 convolutions one after the other: RepVGG blocks, deployed."""
        for _ in range(count):
            x = self.conv(x, out, 3)
        return x

    def csp(self, x: Shape, out: int, count: int) -> Shape:
        """YOLOv4's BottleneckCSP: the norm and activation follow the concatenation, so they are an operation of their
        own."""
        a = self.conv(self.bottlenecks(self.conv(x, out // 2), count), out // 2, act=False)
        return self.conv(self.pointwise(self.concat(a, self.conv(x, out // 2, act=False))), out)

    def csp2(self, x: Shape, out: int, count: int) -> Shape:
        """YOLOv4's BottleneckCSP of the neck: full width, one convolution before the split."""
        x = self.conv(x, out)
        a = self.bottlenecks(x, count, skip=False)
        return self.conv(self.pointwise(self.concat(a, self.conv(x, out, act=False))), out)

    def spp_csp(self, x: Shape, out: int, hidden: int) -> Shape:
        """SPP inside a CSP: three convolutions, pools of 5, 9, 13 side by side, two convolutions, beside a 1x1; the
        norm follows the concatenation."""
        a = self.conv(self.conv(self.conv(x, hidden), hidden, 3), hidden)
        a = self.conv(self.conv(self.concat(a, *(self.pool(a, kernel) for kernel in (5, 9, 13))), hidden), hidden, 3)
        return self.conv(self.pointwise(self.concat(a, self.conv(x, hidden, act=False))), out)

    def head(self, *levels: Shape) -> None:
        """YOLOv8's: two branches of two 3x3 and a 1x1 per level."""
        box, label = max(16, levels[0][0] // 4, 4 * BINS), max(levels[0][0], CLASSES)
        for x in levels:
            for hidden, out in ((box, 4 * BINS), (label, CLASSES)):
                self.conv(self.stack(x, hidden, 2), out, act=False)


def _yolov3(n: _Recorder, image: Shape) -> None:
    w = n.width
    x = n.conv(n.conv(image, w(32), 3), w(64), 3, 2)
    x = n.bottlenecks(x, 1, w(64) // 2)
    stages = []
    for channels, repeats in ((128, 2), (256, 8), (512, 8), (1024, 4)):
        x = n.bottlenecks(n.conv(x, w(channels), 3, 2), n.depth(repeats), w(channels) // 2)
        stages.append(x)

    def narrow(x: Shape, out: int) -> Shape:
        return n.conv(n.conv(x, out // 2), out, 3)

    x = narrow(narrow(x, w(1024)), w(1024))
    to4 = n.conv(x, w(512))
    p5 = n.conv(to4, w(1024), 3)
    x = narrow(narrow(n.concat(n.upsample(n.conv(to4, w(256))), stages[2]), w(512)), w(512))
    to3 = n.conv(x, w(256))
    p4 = n.conv(to3, w(512), 3)
    x = n.concat(n.upsample(n.conv(to3, w(128))), stages[1])
    for _ in range(1 + n.depth(2)):
        x = narrow(x, w(256))
    n.head(x, p4, p5)


def _yolov4(n: _Recorder, image: Shape) -> None:
    w, repeats = n.width, n.depth(2)
    x = n.conv(n.conv(image, w(32), 3), w(64), 3, 2)
    x = n.bottlenecks(x, 1, w(64) // 2)
    stages = []
    for channels, count in ((128, 2), (256, 8), (512, 8), (1024, 4)):
        x = n.csp(n.conv(x, w(channels), 3, 2), w(channels), n.depth(count))
        stages.append(x)
    low = n.spp_csp(x, w(512), w(512))
    middle = n.csp2(n.concat(n.upsample(n.conv(low, w(256))), n.conv(stages[2], w(256))), w(256), repeats)
    high = n.csp2(n.concat(n.upsample(n.conv(middle, w(128))), n.conv(stages[1], w(128))), w(128), repeats)
    p3 = n.conv(high, w(256), 3)
    middle = n.csp2(n.concat(n.conv(high, w(256), 3, 2), middle), w(256), repeats)
    p4 = n.conv(middle, w(512), 3)
    low = n.csp2(n.concat(n.conv(middle, w(512), 3, 2), low), w(512), repeats)
    n.head(p3, p4, n.conv(low, w(1024), 3))


_FAMILIES = {"3": _yolov3, "4": _yolov4}
_STAGES = {"s": "rep", "m": "bepc3", "l": "csp"}  # what YOLOv6's sizes differ by


@lru_cache(4096)
def architecture(name: str) -> Architecture | None:
    """The network of a name at its space's largest image size; None for a family that is no space of this project."""
    number, kind, _, _, _ = _parsed(name)
    if number in _FAMILIES:
        return None
    depth, width = _scales(name)
    space = SPACES[f"yolov{number}"]
    values: dict[str, Value] = {"depth": depth, "width": width, "head": "decoupled", "image_size": 640}
    if number == "6":
        values["stages"] = _STAGES[kind]
    if number == "8":
        values["max_channels"] = {1.0: 512, 0.67: 768}.get(depth, 1024)  # YOLOv8's m and l cap their widths
    return space.architecture(**{c.name: values[c.name] for c in space.choices})


@lru_cache(4096)
def operations(name: str, image_size: int) -> tuple[Op, ...]:
    """Return the operations of ``yolo5d67w25`` or ``yolo8s`` at an image size in pixels, as a runtime fuses them.

    Raises InputError if the size is no multiple of 32.
    """
    if image_size % 32:
        raise InputError(f"image size {image_size}", "a multiple of 32")
    if point := architecture(name):
        return trace(space_of(point).graph(point), CLASSES, image_size).ops
    recorder = _Recorder(*_scales(name))
    _FAMILIES[_parsed(name)[0]](recorder, (3, image_size, image_size))
    return tuple(recorder.ops)


def family(name: str) -> str:
    """``yolo5``, ``yolo6m``: what is the same but for the multiples."""
    return "yolo" + "".join(_parsed(name)[:2])


def _scales(name: str) -> tuple[float, float]:
    """Depth and width multiple."""
    _, _, short, depth, width = _parsed(name)
    return _SHORT[short] if short else (_MULTIPLES[depth], _MULTIPLES[width])


def _parsed(name: str) -> tuple[str, str, str, str, str]:
    """Version, kind of version 6, letter of the size or depth and width as they are written; "" where a name has
    none."""
    match = _NAME.fullmatch(name)
    if not match or (match[1] == "6") != bool(match[2]):
        raise InputError(f"network {name!r}", "a name such as yolo5d67w25, yolo6m-d33w5 or yolo8s")
    number, kind, short, depth, width = (part or "" for part in match.groups())
    return number, kind, short, depth, width


def differences(rows: Sequence[tuple[str, int, int, float]]) -> tuple[float, float]:
    """Largest relative differences of parameters and of MACs, over rows of (name, image size, fused parameters, GMACs
    of convolutions)."""
    params, macs = [], []
    for name, size, want_params, want_gmacs in rows:
        ops = operations(name, size)
        anchors = sum((size // s) ** 2 for s in (8, 16, 32))
        dfl = (
            4 * BINS * anchors
        )  # the table counts the expectation over the bins as a convolution, with as many weights as bins
        params.append(abs(sum(op.params for op in ops) + BINS - want_params) / want_params)
        macs.append(abs(sum(op.macs for op in ops) + dfl - want_gmacs * 1e9) / (want_gmacs * 1e9))
    return max(params), max(macs)


def main() -> None:
    """Compare every network with the table."""
    import pandas

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="YOLOBench as parquet")
    table = pandas.read_parquet(parser.parse_args().table)
    columns = ("arch", "resolution", "params_fused", "conv_gmacs_fused")
    params, macs = differences(list(zip(*(table[c].tolist() for c in columns), strict=True)))
    print(
        f"{len(table)} networks: parameters differ by at most {params:.2%} (norms the table left unfolded), MACs by {macs:.1e}"
    )


if __name__ == "__main__":
    main()
