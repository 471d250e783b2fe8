"""Order the channels of a trained detector by importance without changing the function of the network.

A narrower architecture uses the leading channels of each part of a layout. After the reordering, these are the most
important channels. Once-for-all (Cai et al., arXiv:1908.09791) sorts by the L1 norm in the same way.

- A *part* is a sequence of consecutive output channels of one convolution, as given by its layout.
- A *group* is a set of parts whose channels correspond one to one, since a residual adds them. All parts of a group are
  permuted alike.

============  ======================================================================================
symbol        meaning
============  ======================================================================================
``i``         a channel of a group
``p``         a convolution that produces the group's channels, with weight ``W_p``; ``g_p`` and ``v_p``
              are scale and running variance of the BatchNorm behind it (factor 1 without one)
``c``         a convolution that consumes the group's channels, with weight ``W_c``
``m_p, m_c``  means of the terms below over the channels of a part, so that all layers count equally
============  ======================================================================================

Importance::

    importance(i) = sum_p |g_p,i| / sqrt(v_p,i + eps) * |W_p[i]|_1 / m_p  +  sum_c |W_c[:, i]|_1 / m_c

Groups whose channels enter an operation that mixes them in another way (attention), and the outputs of the network,
are not permuted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.detector import Detector
from search_spaces.graph import Layout
from search_spaces.image_size import STRIDE
from search_spaces.operator_mode import OperatorMode

Label = tuple[int, int]
"""A channel as a pair: number of its part, and its index in the part."""
Labels = list[Label | None]
"""Labels of the channels along one axis of a tensor; None for a channel that belongs to no part, as those of an
image."""

_KEPT = (
    "silu",
    "relu",
    "sigmoid",
    "hardtanh",
    "leaky_relu",
    "max_pool2d",
    "avg_pool2d",
    "upsample",
    "clone",
    "alias",
    "detach",
    "contiguous",
)
"""Operations that process each channel independently."""
_TESTED_SIDE = 2 * STRIDE
"""Side in pixels of the image of the forward pass."""


@dataclass
class _Use:
    """A tensor of the network and the labels of the channels along one of its axes."""

    tensor: Tensor
    axis: int
    labels: Labels
    role: str  # "producer", "consumer", "beside" (vectors and depthwise kernels, which follow their channels)
    scale: Tensor | None = None


@dataclass
class ChannelGroups:
    """Groups of parts, and the tensors that contain their channels.

    Args:
        widths: Number of channels of each part.
        parent: Parent of each part in a union-find forest, whose trees are the groups.
        fixed: Parts that must not be permuted.
        uses: Tensors of the network that contain channels.
    """

    widths: list[int] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    fixed: set[int] = field(default_factory=set)
    uses: list[_Use] = field(default_factory=list)

    def part(self, width: int) -> int:
        """Add a part of ``width`` channels and return its number."""
        self.widths.append(width)
        self.parent.append(len(self.parent))
        return len(self.parent) - 1

    def root(self, part: int) -> int:
        """Return the part that represents the group of a part."""
        while self.parent[part] != part:
            part = self.parent[part]
        return part

    def tie(self, one: Labels, other: Labels) -> None:
        """Merge the groups of channels that are added. Parts with different widths or indices are fixed instead."""
        for a, b in zip(one, other, strict=True):
            if a is None or b is None or a[1] != b[1] or self.widths[a[0]] != self.widths[b[0]]:
                self.fix([a, b])
            elif self.root(a[0]) != self.root(b[0]):
                self.parent[self.root(a[0])] = self.root(b[0])

    def fix(self, labels: Sequence[Label | None]) -> None:
        """Exclude the parts of channels from permutation."""
        self.fixed |= {label[0] for label in labels if label is not None}

    def permutable(self) -> list[int]:
        """Return the roots of the groups that may be permuted."""
        fixed = {self.root(part) for part in self.fixed}
        return sorted({self.root(p) for p in range(len(self.parent))} - fixed)


class _Watcher(OperatorMode):
    """Tracks channels through the operations of a forward pass."""

    def __init__(self, detector: Detector, images: Tensor) -> None:
        super().__init__()
        self.groups = ChannelGroups()
        self._layouts: dict[int, Layout] = {}
        for module in detector.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                axes: tuple[Layout, ...] = module.layouts  # type: ignore[assignment]
                self._layouts[module.weight.data_ptr()] = axes[1 if isinstance(module, nn.ConvTranspose2d) else 0]
        self._known: dict[int, Labels] = {id(images): [None] * images.shape[1]}
        self._alive: list[Tensor] = [images]
        self._produced: dict[int, _Use] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func).removeprefix("aten.").partition(".")[0]
        known = [t for t in _tensors(args) if id(t) in self._known]
        if known:
            self._follow(name, args, known, out)
        return out

    def _follow(self, name: str, args: Any, known: list[Tensor], out: Any) -> None:
        if name in ("convolution", "_convolution", "conv2d", "mkldnn_convolution"):
            self._convolution(args, out)
        elif "batch_norm" in name:
            self._batch_norm(args, out)
        elif name == "cat" and (len(args) < 2 or args[1] % 4 == 1) and len(known) == len(args[0]):
            self._set(out, [label for t in args[0] for label in self._labels(t)])
        elif name in ("split", "split_with_sizes", "chunk") and len(args) > 2 and args[2] == 1:
            start = 0
            for piece in out:
                self._set(piece, self._labels(args[0])[start : start + piece.shape[1]])
                start += piece.shape[1]
        elif name in ("add", "add_") and len(known) == 2 and known[0].shape == known[1].shape:
            self.groups.tie(self._labels(known[0]), self._labels(known[1]))
            self._set(out, self._labels(known[0]))
        elif name.startswith(_KEPT) and isinstance(first := out[0] if isinstance(out, tuple) else out, Tensor):
            self._set(first, self._labels(known[0]))
        elif name == "mul" and len(known) == 2 and known[0].shape == known[1].shape:  # SiLU written as x * sigmoid(x)
            self.groups.tie(self._labels(known[0]), self._labels(known[1]))
            self._set(out, self._labels(known[0]))
        elif name == "mul" and len(known) == 1 and all(t is known[0] or t.numel() == 1 for t in _tensors(args)):
            self._set(out, self._labels(known[0]))
        else:
            for tensor in known:
                self.groups.fix(self._labels(tensor))
            for tensor in _tensors(out if isinstance(out, list | tuple) else [out]):
                if tensor.dim() > 1:  # new channels, which are never permuted
                    self._known[id(tensor)] = [None] * tensor.shape[1]
                    self._alive.append(tensor)

    def _convolution(self, args: Any, out: Tensor) -> None:
        images, weight, bias = args[0], args[1], args[2]
        transposed, count = bool(args[6]), int(args[8])
        labels = self._labels(images)
        if count == images.shape[1] == out.shape[1] and count > 1:  # depthwise
            produced = labels
            use = _Use(weight, 0, labels, "beside")
        elif count > 1:
            self.groups.fix(labels)
            produced = self._new(weight, out)
            self.groups.fix(produced)
            use = _Use(weight, 0, produced, "beside")
        else:
            self.groups.uses.append(_Use(weight, 0 if transposed else 1, labels, "consumer"))
            produced = self._new(weight, out)
            use = _Use(weight, 1 if transposed else 0, produced, "producer")
        self.groups.uses.append(use)
        if bias is not None:
            self.groups.uses.append(_Use(bias, 0, produced, "beside"))
        self._set(out, produced)
        self._produced[id(out)] = use

    def _batch_norm(self, args: Any, out: Any) -> None:
        found, weight, bias, mean, variance = args[:5]
        labels = self._labels(found)
        if (use := self._produced.get(id(found))) is not None:
            use.scale = weight / (variance + args[-1 if isinstance(args[-1], float) else 7]).sqrt()
        self.groups.uses += [_Use(t, 0, labels, "beside") for t in (weight, bias, mean, variance)]
        self._set(out[0] if isinstance(out, tuple) else out, labels)

    def _new(self, weight: Tensor, out: Tensor) -> Labels:
        layout = self._layouts.get(weight.data_ptr(), (out.shape[1],))
        return [(part, i) for width in layout if width for part in [self.groups.part(width)] for i in range(width)]

    def _labels(self, tensor: Tensor) -> Labels:
        return self._known[id(tensor)]

    def _set(self, tensor: Tensor, labels: Labels) -> None:
        if tensor.dim() == 4 and tensor.shape[1] == len(labels):
            self._known[id(tensor)] = labels
            self._alive.append(tensor)  # an id is unique among living tensors only
        else:
            self.groups.fix(labels)


def _tensors(args: Any) -> Iterator[Tensor]:
    for arg in args:
        if isinstance(arg, Tensor):
            yield arg
        elif isinstance(arg, list | tuple):
            yield from (t for t in arg if isinstance(t, Tensor))


def channel_groups(detector: Detector) -> ChannelGroups:
    """Find the channel groups of a detector in training form by one forward pass in evaluation mode."""
    mode = detector.training
    detector.eval()
    images = next(detector.parameters()).new_zeros(1, 3, _TESTED_SIDE, _TESTED_SIDE)
    with torch.no_grad(), _Watcher(detector, images) as watcher:
        predictions = detector(images)
    detector.train(mode)
    del predictions
    groups = watcher.groups
    # Channels that no convolution reads are outputs of the network.
    read = {groups.root(label[0]) for use in groups.uses if use.role == "consumer" for label in use.labels if label}
    groups.fixed |= {part for part in range(len(groups.parent)) if groups.root(part) not in read}
    return groups


@torch.no_grad()
def order_channels(detector: Detector) -> int:
    """Order the channels of each group by falling importance, in place, and return the number of groups.

    The function of the network does not change.
    """
    groups = channel_groups(detector)
    importance = {root: torch.zeros(groups.widths[root], dtype=torch.float64) for root in groups.permutable()}
    for use in groups.uses:
        if use.role == "beside":
            continue
        norms = use.tensor.abs().flatten(2).sum(2).sum(1 - use.axis).cpu()
        if use.scale is not None:
            norms = norms * use.scale.abs().cpu()
        for part, rows, numbers in _parts(use.labels):
            root = groups.root(part)
            if root in importance:
                values = norms[rows].double()
                importance[root].index_add_(0, numbers, values / values.mean().clamp(min=1e-12))
    orders = {root: values.argsort(descending=True, stable=True) for root, values in importance.items()}
    for use in groups.uses:
        index = torch.arange(use.tensor.shape[use.axis])
        places: dict[Label, list[int]] = {}  # a channel has several rows where pooled copies are concatenated
        for row, label in enumerate(use.labels):
            if label is not None:
                places.setdefault(label, []).append(row)
        for label, own in places.items():
            if (order := orders.get(groups.root(label[0]))) is not None:
                index[own] = torch.tensor(places[label[0], int(order[label[1]])])
        use.tensor.copy_(use.tensor.index_select(use.axis, index.to(use.tensor.device)))
    return len(orders)


def _parts(labels: Labels) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield (part, rows of the tensor (k,), indices in the part (k,)) for each part in ``labels``."""
    found: dict[int, list[tuple[int, int]]] = {}
    for row, label in enumerate(labels):
        if label is not None:
            found.setdefault(label[0], []).append((row, label[1]))
    for part, pairs in found.items():
        yield part, torch.tensor([row for row, _ in pairs]), torch.tensor([number for _, number in pairs])
