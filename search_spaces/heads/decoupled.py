"""The decoupled heads of YOLOv8 and YOLO11: per level two branches of two convs and a 1x1, box sides as
distributions."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from search_spaces.graph import Layout
from search_spaces.heads.base import Head, Levels, Predictions, flatten
from search_spaces.heads.dfl import class_conv, side_bias
from search_spaces.layers import ConvNormAct, conv2d, divisible, fuse

CLASS_WIDTH = 100  # a class branch is at most so wide for the classes' sake


class Branch(nn.Module):
    """Two 3x3 to ``width`` channels and a 1x1; ``light``: each 3x3 as a depthwise 3x3 and a 1x1."""

    def __init__(self, c_in: int, width: int, last: nn.Conv2d, light: bool, act: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for c in (c_in, width):
            if light:
                layers += [ConvNormAct((c,), (c,), 3, act=act, depthwise=True), ConvNormAct((c,), (width,), act=act)]
            else:
                layers.append(ConvNormAct((c,), (width,), 3, act=act))
        self.convs = nn.Sequential(*layers)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        """(N, c_in, H, W) -> (N, out, H, W)."""
        y: Tensor = self.last(self.convs(x))
        return y


class Branches(nn.Module):
    """The box and the class branch of every level: feature maps -> :data:`Levels`."""

    def __init__(
        self, c_in: Layout, num_classes: int, bins: int, scale: float, light: bool, act: str, branch_classes: int = 0
    ) -> None:
        super().__init__()
        rounded = 1 if scale == 1 else 8
        box = divisible(scale * max(16, c_in[0] // 4, 4 * bins), rounded)
        label = divisible(scale * max(c_in[0], min(branch_classes or num_classes, CLASS_WIDTH)), rounded)
        self.box = nn.ModuleList(Branch(c, box, conv2d((box,), (4 * bins,), bias=True), False, act) for c in c_in)
        self.label = nn.ModuleList(Branch(c, label, class_conv(label, num_classes), light, act) for c in c_in)
        for branch in self.box:
            nn.init.constant_(side_bias(branch.last), 1.0)  # type: ignore[arg-type]

    def forward(self, *features: Tensor) -> Levels:
        """Return per level (N, classes, H, W) and (N, 4 * bins, H, W)."""
        return tuple((label(x), box(x)) for x, box, label in zip(features, self.box, self.label, strict=True))


class Decoupled(Head):
    """YOLOv8's. Widths follow from the finest level's channels and the classes (``branch_classes``: as for so many);
    ``scale`` multiplies them. ``bins`` of each side's distribution."""

    family: ClassVar[str] = "decoupled"
    light: ClassVar[bool] = False

    def __init__(
        self,
        c_in: Layout,
        *,
        num_classes: int,
        bins: int = 16,
        scale: float = 1.0,
        act: str = "relu",
        branch_classes: int = 0,
    ) -> None:
        super().__init__(c_in, num_classes)
        self.branches = Branches(c_in, num_classes, bins, scale, self.light, act, branch_classes)

    def forward(self, *features: Tensor) -> Levels:
        """Return per level (N, classes, H, W) and (N, 4 * bins, H, W)."""
        levels: Levels = self.branches(*features)
        return levels


class DecoupledLight(Decoupled):
    """YOLO11's, with depthwise convs in the class branch."""

    family, light = "decoupled-light", True


class DualLight(Head):
    """YOLO26's: sides predicted themselves, and two sets of branches (YOLOv10, arXiv:2405.14458).

    ``own`` is trained to give one box per object, on features that it does not change, so that nothing has to be
    suppressed; ``helper`` is the auxiliary head that trains the features, with many boxes per object. The deployed
    form lacks it.
    """

    family, end_to_end = "dual-light", True

    def __init__(self, c_in: Layout, *, num_classes: int, act: str = "relu", branch_classes: int = 0) -> None:
        super().__init__(c_in, num_classes)
        self.own = Branches(c_in, num_classes, 1, 1.0, True, act, branch_classes)
        self.helper: Branches | None = Branches(c_in, num_classes, 1, 1.0, True, act, branch_classes)

    def forward(self, *features: Tensor) -> Levels:
        """Return per level (N, classes, H, W) and (N, 4, H, W); in training form then those of the auxiliary head."""
        if self.helper is None:
            levels: Levels = self.own(*features)
            return levels
        return (*self.own(*(x.detach() for x in features)), *self.helper(*features))

    def flatten(self, levels: Levels, image_size: tuple[int, int]) -> Predictions:
        """Join the levels; in training form with the predictions of the auxiliary head."""
        own, auxiliary = levels[: len(self.c_in)], levels[len(self.c_in) :]
        return flatten(own, image_size)._replace(auxiliary=flatten(auxiliary, image_size) if auxiliary else None)

    def fused(self, full: bool) -> nn.Module:
        """Return the head with fused parts; the deployed form (``full``) has no auxiliary head."""
        if full:
            self.helper = None
        for name, child in self.named_children():
            setattr(self, name, fuse(child, full))
        return self
