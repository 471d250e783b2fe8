"""Small cells of every registered kind, and the channel arithmetic of a subnet written a second time, as plain lists
of positions.

A new block or head needs an entry here: the contract suites fail without one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from search_spaces.detector import cell
from search_spaces.graph import Layout, Node, Option, node

CLASSES = 3
Axes = tuple[Layout, ...]


@dataclass(frozen=True)
class Case:
    """How to make cells of one kind: input widths and options, smallest value first; sides of the inputs and of the
    output in pixels."""

    c_in: tuple[tuple[int, ...], ...]
    options: Mapping[str, tuple[Option, ...]]
    sizes: tuple[int, ...]
    out_size: int
    fixed: Mapping[str, Option] = field(default_factory=dict)

    def inputs(self, c_in: Layout, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, ...]:
        rng = torch.Generator().manual_seed(seed)
        return tuple(torch.randn(2, c, s, s, generator=rng, dtype=dtype) for c, s in zip(c_in, self.sizes, strict=True))


DEEP = {"out": (8, 16, 24), "hidden": (4, 8, 12), "depth": (1, 2, 3)}
BLOCK_CASES = {
    "conv": Case(((8, 16), (4, 8)), {"out": (8, 16)}, (8, 8), 4, {"kernel": 3, "stride": 2}),
    "dwconv": Case(((8, 16),), {"out": (8, 16)}, (8,), 4, {"stride": 2}),
    "qarepvgg": Case(((8, 16), (4, 8)), {"out": (8, 16)}, (8, 8), 4),
    "qsp": Case(((8, 16), (4, 8)), DEEP, (8, 8), 8),
    "qci": Case(((8, 16), (4, 8)), DEEP, (8, 8), 8),
    "csp": Case(((8, 16), (4, 8)), DEEP, (8, 8), 8),
    "c2f": Case(((8, 16, 24), (8, 16)), DEEP, (8, 8), 8),
    "c3": Case(((8, 16), (4, 8)), DEEP, (8, 8), 8),
    "c3-light": Case(((8, 16), (4, 8)), DEEP, (8, 8), 8),
    "repvgg": Case(((8, 16), (4, 8)), {"out": (8, 16)}, (8, 8), 4),
    "rep": Case(((8, 16), (4, 8)), {"out": (8, 16), "depth": (1, 2, 3)}, (8, 8), 8),
    "upsample": Case(((8,),), {"out": (8,)}, (4,), 8),
    "pool": Case(((8,),), {"out": (8,)}, (8,), 4),
    "bepc3": Case(((8, 16), (4, 8)), DEEP, (8, 8), 8),
    "c3k2": Case(((8, 16, 24), (8, 16)), DEEP, (8, 8), 8),
    "c3k2-deep": Case(((8, 16, 24), (8, 16)), DEEP, (8, 8), 8),
    "c3k2-attention": Case(((8, 16),), {"out": (8, 16), "hidden": (16, 64, 128), "depth": (1, 2)}, (4,), 4),
    "c2psa": Case(((8, 16),), {"out": (8, 16), "hidden": (16, 64, 128), "depth": (1, 2)}, (4,), 4),
    "a2c2f": Case(((8, 16),), {"out": (8, 16), "hidden": (32, 64, 96), "depth": (1, 2)}, (4,), 4, {"strips": 4}),
    "a2c2f-large": Case(((16,),), {"out": (16,), "hidden": (32, 64), "depth": (1, 2)}, (4,), 4),
    "r2c2f": Case(((8, 16, 24), (8, 16)), DEEP, (8, 8), 8),
    "elan": Case(((8, 16), (4, 8)), {**DEEP, "inner": (4, 8)}, (8, 8), 8),
    "gelan": Case(((8, 16), (4, 8)), DEEP, (8, 8), 8),
    "aconv": Case(((8, 16), (4, 8)), {"out": (8, 16)}, (8, 8), 4),
    "adown": Case(((8, 16),), {"out": (8, 16)}, (8,), 4, {"pooled": True}),
    "spp": Case(((8, 16, 24),), {"out": (8, 16)}, (8,), 8),
    "sppf": Case(((8, 16, 24),), {"out": (8, 16)}, (8,), 8),
    "sppcsp": Case(((8, 16, 24),), {"out": (8, 16), "hidden": (4, 8)}, (8,), 8),
    "bifusion": Case(((8, 16), (4, 8), (8, 12)), {"out": (8, 16)}, (4, 8, 16), 8),
}
PYRAMID = ((8, 16), (4, 8), (8, 16))
HEAD_CASES = {
    "dfl": Case(((8, 16), (4, 8)), {"widths": ((8, 8), (8, 16), (16, 24))}, (8, 4), 8),
    "sides": Case(((8, 16), (4, 8)), {"widths": ((8, 8), (8, 16), (16, 24))}, (8, 4), 8),
    "decoupled": Case(PYRAMID, {"bins": (8,), "scale": (0.5, 1.0, 1.5)}, (8, 4, 2), 8),
    "decoupled-light": Case(PYRAMID, {"bins": (8,), "scale": (0.5, 1.0, 1.5)}, (8, 4, 2), 8),
    "decoupled-grouped": Case(PYRAMID, {"bins": (4,)}, (8, 4, 2), 8),
    "dual-light": Case(PYRAMID, {}, (8, 4, 2), 8),
    "sides-objectness": Case(PYRAMID, {"width": (8, 16)}, (8, 4, 2), 8),
    "sides-objectness-light": Case(PYRAMID, {"width": (8, 16)}, (8, 4, 2), 8),
    "anchors": Case(PYRAMID, {"priors": ("yolov5",)}, (8, 4, 2), 8),
}


def case(kind: str) -> Case:
    """The entry of a kind; its absence is the failure of whoever registered it."""
    table = HEAD_CASES if kind in HEAD_CASES else BLOCK_CASES
    assert kind in table, (
        f"no test case for {kind!r}: add one to tests/_networks.py, so that the contract suites cover it"
    )
    return table[kind]


def draw(kind: str, rng: random.Random | None) -> tuple[Node, Layout]:
    """A node of this kind and its input channels: the largest, or a random one."""
    c = case(kind)
    pick = (lambda values: values[-1]) if rng is None else rng.choice
    options = {name: pick(values) for name, values in c.options.items()}
    c_in = tuple(pick(widths) for widths in c.c_in)
    return node("cell", kind, tuple(f"x{i}" for i in range(len(c_in))), **c.fixed, **options), c_in


def make(kind: str, n: Node, c_in: Layout) -> nn.Module:
    return cell(n, c_in, CLASSES if kind in HEAD_CASES else None)


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random affine parameters, statistics, biases and scalars, in place: a fresh network's zeros and ones hide
    mistakes."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if p.dim() <= 1 and not p.is_meta:
                low, width = (0.5, 1.0) if name.endswith(("weight", "alpha")) else (-0.5, 1.0)
                p.copy_(low + width * torch.rand(p.shape, generator=rng, dtype=p.dtype))
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
                layer.running_mean.copy_(torch.randn(layer.running_mean.shape, generator=rng) * 0.5)
                layer.running_var.copy_(0.5 + torch.rand(layer.running_var.shape, generator=rng))
    return module


def axes_of(layer: nn.Module) -> tuple[Layout, Layout | None]:
    """(output layout, input layout) of a laid-out layer, whatever the order in which its weight stores them."""
    axes: Axes = layer.layouts  # type: ignore[assignment]
    if len(axes) == 1:
        return axes[0], axes[0]
    return (axes[1], axes[0]) if isinstance(layer, nn.ConvTranspose2d) else (axes[0], axes[1])


def positions(whole: Layout, own: Layout) -> list[int]:
    """Channels of ``whole`` that a smaller network has: the leading ones of each of its parts.

    Where the largest network does not concatenate intermediate results (it has empty parts itself), the parts that
    are not empty correspond: its last part is the end of the chain, however deep the chain is.
    """
    if 0 in whole:
        whole, own = tuple(w for w in whole if w), tuple(w for w in own if w)
    assert len(own) <= len(whole)
    kept: list[int] = []
    start = 0
    for i, width in enumerate(whole):
        kept += range(start, start + (own[i] if i < len(own) else 0))
        start += width
    return kept


def naive_positions(whole: Layout, own: Layout) -> list[int]:
    """The mistake that layouts exist to avoid: the first n channels of an axis, whatever is concatenated along it."""
    return list(range(sum(own)))


def laid_out(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, layer) for name, layer in module.named_modules() if hasattr(layer, "layouts"))


def _mask(x: Tensor, kept: list[int]) -> Tensor:
    mask = torch.zeros(x.shape[1], dtype=x.dtype)
    mask[kept] = 1
    return x * mask[:, None, None]


def mask_like(largest: nn.Module, small: nn.Module, rule=positions) -> None:  # type: ignore[no-untyped-def]
    """Hooks on ``largest`` that zero every channel ``small`` lacks, before and after every layer; links of a chain
    that it lacks are passed by."""
    own = dict(laid_out(small))
    theirs_all = dict(small.named_modules())
    for name, chain in largest.named_modules():
        if isinstance(chain, nn.Sequential) and name in theirs_all:
            for i, link in enumerate(chain):
                if f"{name}.{i}" not in theirs_all:
                    link.register_forward_hook(lambda _, args, y: args[0])
    for name, layer in laid_out(largest):
        out, into = axes_of(layer)
        out_own, into_own = axes_of(own[name]) if name in own else ((), ())
        assert into is not None and into_own is not None
        keep_in, keep_out = (rule(into, into_own), rule(out, out_own)) if name in own else ([], [])
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:  # each channel, or each part, by itself
            wide = layer.in_channels // layer.groups
            keep_in = keep_out if wide == 1 else [g * wide + i for g in range(layer.groups) for i in keep_in]
        layer.register_forward_pre_hook(lambda _, args, kept=keep_in: (_mask(args[0], kept),))
        layer.register_forward_hook(lambda _, args, y, kept=keep_out: _mask(y, kept))
    theirs = dict(small.named_parameters())
    with torch.no_grad():
        for name, p in largest.named_parameters():
            if name.endswith("alpha") and name not in theirs:
                p.fill_(1.0)  # the scale of a skip around nothing


def scatter(own: Tensor, axes: list[list[int]], whole: torch.Size) -> Tensor:
    """``own`` laid into zeros of the shape ``whole`` at these positions of its leading axes."""
    out = torch.zeros(whole, dtype=own.dtype)
    index = (
        torch.meshgrid(*(torch.tensor(a) for a in axes), indexing="ij") if len(axes) > 1 else (torch.tensor(axes[0]),)
    )
    out[index] = own
    return out


def without_statistics(module: nn.Module) -> nn.Module:
    """BatchNorms that use the batch only, in place."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return module
