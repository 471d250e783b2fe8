"""One set of weights for all architectures of a search space (a supernet).

The network is that of ``search_spaces.detector``; here its cells run with views of shared tensors. Notation: W, shared
tensor of a cell; a layout, the channel counts of the concatenated parts of an axis; a cut, the slices of W that an
architecture's tensor consists of. An architecture's tensor is the leading channels of EACH part of W, and the centre
of a kernel, not the first n channels of W.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, product
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from search_spaces.architecture import Architecture
from search_spaces.detector import Detector, cell, cell_name, channels, run
from search_spaces.graph import Graph, Layout, Node
from search_spaces.heads.base import Head, Predictions
from search_spaces.image_size import ImageSize
from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class Cut:
    """Place of an architecture's tensor in the shared one: along each axis, the slices to take and concatenate."""

    axes: tuple[tuple[slice, ...], ...]

    def __call__(self, shared: Tensor) -> Tensor:
        """Return the tensor: a view of ``shared`` if every axis is one slice, else a concatenation."""
        own = shared[tuple(slices[0] if len(slices) == 1 else slice(None) for slices in self.axes)]
        for axis, slices in enumerate(self.axes):
            if len(slices) > 1:
                own = torch.cat([own.narrow(axis, s.start, s.stop - s.start) for s in slices], axis)
        return own

    def add(self, own: Tensor, shared: Tensor) -> None:
        """Add a tensor of the architecture's shape (a gradient) to its place in ``shared``, in place."""
        for target, source in self._blocks():
            shared[target] += own[source]

    def put(self, own: Tensor, shared: Tensor) -> None:
        """Write a tensor of the architecture's shape to its place in ``shared``, in place."""
        for target, source in self._blocks():
            shared[target] = own[source].to(shared)

    def _blocks(self) -> Iterable[tuple[tuple[slice, ...], tuple[slice, ...]]]:
        """(place in the shared tensor, place in the architecture's) of every block that the slices cross to."""
        ends = [list(accumulate(s.stop - s.start for s in slices)) for slices in self.axes]
        sources = [
            [slice(end - (s.stop - s.start), end) for s, end in zip(slices, stops, strict=True)]
            for slices, stops in zip(self.axes, ends, strict=True)
        ]
        return zip(product(*self.axes), product(*sources), strict=True)


class _Take(torch.autograd.Function):
    """A :class:`Cut` of a shared parameter whose gradient is added in place to the cut part of ``parameter.grad``.

    With ordinary slicing, every slice has a gradient of the whole shared tensor, mostly zeros; on ``yolo-nas``, steps
    were clearly slower than those of the extracted network (``benchmarks/supernet_overhead.py``). As a consequence,
    ``torch.autograd.grad`` with respect to shared weights does not work; ``backward()`` does.
    """

    @staticmethod
    def forward(ctx: Any, shared: Tensor, where: Cut) -> Tensor:
        ctx.shared, ctx.where = shared, where
        return where(shared.detach())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None]:
        (grad,), shared, where = grads, ctx.shared, ctx.where
        if shared.grad is None:
            shared.grad = torch.zeros_like(shared)
        where.add(grad, shared.grad)
        return None, None


def cut(shared: tuple[Layout, ...], own: tuple[Layout, ...], shape: torch.Size, shared_shape: torch.Size) -> Cut:
    """Return the cut of a tensor of ``shape`` out of one of ``shared_shape``: the leading channels of each part of
    every axis with a layout, and the centre of the other axes (kernels)."""
    axes: list[tuple[slice, ...]] = []
    for axis, (size, shared_size) in enumerate(zip(shape, shared_shape, strict=True)):
        if axis < len(own):
            axes.append(_parts(shared[axis], own[axis]))
        else:
            start = (shared_size - size) // 2
            axes.append((slice(start, start + size),))
    return Cut(tuple(axes))


def _parts(shared: Layout, own: Layout) -> tuple[slice, ...]:
    """Return the slices of the leading channels of each part; adjacent slices are merged."""
    slices: list[slice] = []
    start = 0
    for width, wanted in zip(shared, own, strict=False):  # a shallower concatenation is a prefix of the parts
        if wanted:
            if slices and slices[-1].stop == start:
                slices[-1] = slice(slices[-1].start, start + wanted)
            else:
                slices.append(slice(start, start + wanted))
        start += width
    return tuple(slices)


def layouts(module: nn.Module) -> dict[str, tuple[Layout, ...]]:
    """Return the layouts of the leading axes of every parameter and buffer that has some, by name."""
    found: dict[str, tuple[Layout, ...]] = {}
    for prefix, layer in module.named_modules():
        axes: tuple[Layout, ...] = getattr(layer, "layouts", ())
        for name, tensor in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
            if axes and tensor.dim():
                # a bias has the layout of the output axis: the first, of a transposed conv the second
                own = axes if tensor.dim() > 1 else (axes[1] if isinstance(layer, nn.ConvTranspose2d) else axes[0],)
                found[f"{prefix}.{name}" if prefix else name] = own
    return found


@dataclass(frozen=True)
class _Cell:
    """A cell on the meta device, and the cuts of its parameters out of the shared ones."""

    module: nn.Module
    cuts: tuple[tuple[str, str, Cut], ...]  # (name in the module, name of the shared tensor, cut)


class Supernet(nn.Module):
    """A supernet: ``supernet(images, architecture)`` is the forward of that architecture with shared weights.

    It owns the parameters of ``space.corners()`` and stores no active architecture. BatchNorm always uses the
    statistics of the batch: running statistics differ between architectures, so they belong to an extracted network
    (:func:`nas.supernet.batchnorm.recalibrate`).

    Convolutions are shared by all image sizes. The weights and biases of BatchNorm are private to each, as in Resolution
    Switchable Networks (arXiv:2007.09558): ``weights`` has those of the largest size, ``private`` those of the others.
    An image size that the space does not have uses those of the nearest one.
    """

    def __init__(self, space: SearchSpace, num_classes: int) -> None:
        super().__init__()
        self.space = space
        self.num_classes = num_classes
        shared: dict[str, nn.Parameter] = {}
        normalized: set[str] = set()
        self._layouts: dict[str, tuple[Layout, ...]] = {}
        seen: set[tuple[Node, Layout]] = set()
        for corner in space.corners():
            for node, c_in, is_head in _cells(space.graph(corner)):
                if (node, c_in) in seen:  # most cells of a corner occur in another one
                    continue
                seen.add((node, c_in))
                module = cell(node, c_in, num_classes if is_head else None)
                prefix, laid_out = cell_name(node, module), layouts(module)
                normalized |= {f"{prefix}.{own}" for own in _of_batchnorm(module)}
                for own, parameter in module.named_parameters():
                    name = f"{prefix}.{own}"
                    if name not in shared or parameter.numel() > shared[name].numel():
                        shared[name], self._layouts[name] = parameter, laid_out.get(own, ())
        self.weights = nn.ParameterDict({_key(name): parameter for name, parameter in shared.items()})
        self.private = nn.ParameterDict(
            {
                _private(_key(name), size): nn.Parameter(parameter.detach().clone())
                for name, parameter in shared.items()
                if name in normalized
                for size in space.image_sizes[:-1]
            }
        )
        # Cells recur between architectures: skeletons and cuts are planned once. The cache is bounded; spaces are not.
        self._plan = lru_cache(20_000)(self._plan_cell)

    def _at(self, architecture: Architecture) -> Callable[[str], Tensor]:
        """Return the function from keys to shared tensors at the image size of an architecture."""
        own = architecture.image_size
        nearest = min(self.space.image_sizes, key=lambda size: (size != own, abs(size.side - own.side)))

        def weight(key: str) -> Tensor:
            private = _private(key, nearest)
            return self.private[private] if private in self.private else self.weights[key]

        return weight

    def forward(self, images: Tensor, architecture: Architecture) -> Predictions:
        """Return the raw predictions of ``architecture`` for ``images`` (N, 3, H, W) in 0..1, differentiable in the
        shared weights."""
        graph, weight = self.space.graph(architecture), self._at(architecture)
        c_in = channels(graph)

        def call(node: Node, inputs: tuple[Tensor, ...]) -> object:
            plan = self._plan(node, c_in[node.name], node is graph.head)
            return functional_call(
                plan.module, {own: _Take.apply(weight(name), where) for own, name, where in plan.cuts}, inputs
            )

        return run(graph, images, call, self._head(graph, c_in))

    def head_of(self, architecture: Architecture) -> Head:
        """Return the head without weights, for its decoding."""
        graph = self.space.graph(architecture)
        return self._head(graph, channels(graph))

    def _head(self, graph: Graph, c_in: Mapping[str, Layout]) -> Head:
        head = self._plan(graph.head, c_in[graph.head.name], True).module
        assert isinstance(head, Head)
        return head

    def parameters_of(self, architecture: Architecture) -> dict[str, Tensor]:
        """Return the weights of ``architecture`` under the names, and with the shapes, of its detector.

        They are views of the shared weights, or copies where parts are concatenated.
        """
        graph, weight = self.space.graph(architecture), self._at(architecture)
        found: dict[str, Tensor] = {}
        for node, c_in, is_head in _cells(graph):
            plan = self._plan(node, c_in, is_head)
            prefix = f"cells.{cell_name(node, plan.module)}"
            found |= {f"{prefix}.{own}": where(weight(name)) for own, name, where in plan.cuts}
        return found

    @torch.no_grad()
    def fill(self, architecture: Architecture, detector: Detector) -> None:
        """Set the shared weights of an architecture to those of its detector, at all image sizes; all others stay.

        ``detector``: of ``architecture`` and this supernet's number of classes. Its BatchNorm statistics find no place
        here: a supernet has none.
        """
        parameters = dict(detector.named_parameters())
        for node, c_in, is_head in _cells(self.space.graph(self.space.check(architecture))):
            plan = self._plan(node, c_in, is_head)
            prefix = f"cells.{cell_name(node, plan.module)}"
            for own, name, where in plan.cuts:
                for tensor in self._copies(name):
                    where.put(parameters[f"{prefix}.{own}"], tensor)

    def _copies(self, key: str) -> list[Tensor]:
        """Return a shared tensor and its private copies."""
        keys = (_private(key, size) for size in self.space.image_sizes)
        return [self.weights[key], *(self.private[k] for k in keys if k in self.private)]

    def extract(self, architecture: Architecture) -> Detector:
        """Return the detector of ``architecture`` with a copy of its weights; BatchNorm must be recalibrated.

        The image size may differ from that of the supernet's training. Raises InputError for any other choice outside
        its space.
        """
        self.space.check(architecture.replace(**{c.name: c.values[0] for c in self.space.choices if not c.weights}))
        detector = Detector(self.space.graph(architecture), self.num_classes)
        with torch.no_grad():
            own = self.parameters_of(architecture)
            for name, parameter in detector.named_parameters():
                parameter.copy_(own[name])
        return detector.to(next(iter(own.values())).device)

    def _plan_cell(self, node: Node, c_in: Layout, is_head: bool) -> _Cell:
        with torch.device("meta"):
            module = cell(node, c_in, self.num_classes if is_head else None)
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.track_running_stats = False
                layer.running_mean = layer.running_var = layer.num_batches_tracked = None
        prefix, laid_out, cuts = cell_name(node, module), layouts(module), []
        for own, parameter in module.named_parameters():
            name = f"{prefix}.{own}"
            whole = self.weights[_key(name)].shape
            cuts.append((own, _key(name), cut(self._layouts[name], laid_out.get(own, ()), parameter.shape, whole)))
        return _Cell(module, tuple(cuts))


def _cells(graph: Graph) -> Iterable[tuple[Node, Layout, bool]]:
    c_in = channels(graph)
    return ((n, c_in[n.name], n is graph.head) for n in (*graph.nodes, graph.head))


def _of_batchnorm(module: nn.Module) -> Iterable[str]:
    """Names of the weights and biases of the BatchNorm layers of a module."""
    for prefix, layer in module.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            yield from (f"{prefix}.{own}" if prefix else own for own, _ in layer.named_parameters(recurse=False))


def _private(key: str, size: ImageSize) -> str:
    return f"{key}@{size}"


def _key(name: str) -> str:
    return name.replace(".", "/")  # a ParameterDict takes no dots


Forward = Callable[[Tensor, Architecture], Predictions]
