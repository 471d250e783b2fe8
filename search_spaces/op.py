"""One operation as a runtime runs it, and what a list of them costs; torch-free, so that a board can read a table of
them."""

from __future__ import annotations

from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Op:
    """A fused operation at batch 1: a conv with the norm, activation and addition that follow it, a pooling, a
    concatenation, ….

    ``inputs`` and ``output`` are shapes without the batch axis; ``kernel``, ``stride`` and ``groups`` are 1 where
    they have no meaning.
    """

    kind: str
    inputs: tuple[Shape, ...]
    output: Shape
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    macs: int = 0
    params: int = 0
    fused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cost:
    """What a network or a part of it costs at batch 1, deployed (all branches and BatchNorms folded).

    ``macs`` counts multiply-accumulates of convolutions and matrix products (FLOPs, as most papers print them, are
    twice that). ``activations`` is the number of elements written by all operations; ``peak_activations`` the largest
    number alive at one time when buffers are freed after their last use, the weights and a runtime's scratch memory
    not counted.
    """

    params: int
    macs: int
    activations: int
    peak_activations: int
    ops: tuple[Op, ...]
