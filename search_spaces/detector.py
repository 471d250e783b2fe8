"""The only definition of the network: a graph of registered cells and a head."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from search_spaces.blocks import BLOCKS
from search_spaces.errors import InputError
from search_spaces.graph import IMAGE, Graph, Layout, Node
from search_spaces.heads import HEADS
from search_spaces.heads.base import Head, Predictions
from search_spaces.image_size import STRIDE
from search_spaces.layers import fuse


def cell(node: Node, c_in: Layout, num_classes: int | None = None) -> nn.Module:
    """Make the module of a node, freshly initialised. ``num_classes`` is needed for a head."""
    if num_classes is None:
        return BLOCKS[node.kind](c_in, **dict(node.options))  # type: ignore[arg-type]
    return HEADS[node.kind](c_in, num_classes=num_classes, **dict(node.options))


def cell_name(node: Node, module: nn.Module) -> str:
    """Return the name that a cell's weights go by: node and family.

    Blocks of one family share their weights in a supernet; those of different families do not.
    """
    return f"{node.name}-{module.family}"


def channels(graph: Graph) -> dict[str, Layout]:
    """Return the input channels of every node, the head included, by name."""
    out = {IMAGE: 3}
    c_in: dict[str, Layout] = {}
    for n in (*graph.nodes, graph.head):
        c_in[n.name] = tuple(out[i] for i in n.inputs)
        out[n.name] = int(dict(n.options).get("out", 0))  # type: ignore[arg-type]
    return c_in


def run(graph: Graph, images: Tensor, call: Callable[[Node, tuple[Tensor, ...]], object], head: Head) -> Predictions:
    """Execute a graph on images (N, 3, H, W): ``call(node, inputs)`` runs one cell, ``head`` decodes its maps.

    :class:`Detector` and the supernet share this function, so that there is one forward. Raises InputError if a side
    of the images is not a multiple of the largest stride.
    """
    height, width = int(images.shape[2]), int(images.shape[3])
    if height % STRIDE or width % STRIDE:
        raise InputError(
            f"image of {width} x {height} pixels", f"sides that are multiples of {STRIDE}", "letterbox it first"
        )
    values: dict[str, Tensor] = {IMAGE: images}
    for n in graph.nodes:
        values[n.name] = call(n, tuple(values[i] for i in n.inputs))  # type: ignore[assignment]
    levels = call(graph.head, tuple(values[i] for i in graph.head.inputs))
    return head.flatten(levels, (height, width))  # type: ignore[arg-type]


class Detector(nn.Module):
    """A detector network: images (N, 3, H, W), RGB in 0..1, to :class:`Predictions`.

    In training form as built; :meth:`deploy` turns it into what an engine runs. ``cells`` holds one module per node
    under ``<node>-<family>``.
    """

    def __init__(self, graph: Graph, num_classes: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise InputError(f"{num_classes} classes", "at least 1")
        self.graph = graph
        self.num_classes = num_classes
        c_in = channels(graph)
        self.cells = nn.ModuleDict()
        self._cell_of: dict[str, str] = {}
        for n in (*graph.nodes, graph.head):
            module = cell(n, c_in[n.name], num_classes if n is graph.head else None)
            self._cell_of[n.name] = cell_name(n, module)
            self.cells[self._cell_of[n.name]] = module

    def cell(self, node: Node) -> nn.Module:
        """Return the module of a node or of the head."""
        return self.cells[self._cell_of[node.name]]

    @property
    def head(self) -> Head:
        """Return the module of the head."""
        head = self.cell(self.graph.head)
        assert isinstance(head, Head)
        return head

    def forward(self, images: Tensor) -> Predictions:
        """Compute raw predictions of images (N, 3, H, W), values 0..1."""
        return run(self.graph, images, lambda n, inputs: self.cell(n)(*inputs), self.head)

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (N, A, 4) xyxy in pixels and scores (N, A, classes), without non-maximum suppression."""
        return self.head.decode(self(images))

    def deploy(self, full: bool = True) -> Detector:
        """Re-parameterise in place, switch to evaluation mode and return the detector.

        Branches are merged; with ``full`` every BatchNorm is folded too.
        """
        self.eval()
        fuse(self, full)
        return self
