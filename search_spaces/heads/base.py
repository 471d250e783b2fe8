"""What every head is: feature maps in, raw predictions per anchor out, and their decoding into boxes and scores."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from search_spaces.graph import Layout


class Predictions(NamedTuple):
    """Raw outputs of a head over A anchors of N images, levels concatenated finest first.

    ``logits`` (N, A, classes); ``boxes`` (N, A, D), box parameters as :func:`decode_boxes` reads them; ``points`` (A,
    2), centres x, y, pixels; ``strides`` (A, 1), pixels. Only of anchor-based heads: ``objectness`` (N, A, 1), a
    logit that multiplies every class, and ``priors`` (A, 2), widths and heights in pixels. Only of a head with an
    auxiliary head (training form; not deployed): ``auxiliary``, the predictions of that one.
    """

    logits: Tensor
    boxes: Tensor
    points: Tensor
    strides: Tensor
    objectness: Tensor | None = None
    priors: Tensor | None = None
    auxiliary: Predictions | None = None

    @property
    def log_odds(self) -> Tensor:
        """(N, A, classes): the logit of what :meth:`scores` gives; of objectness o and class c that is o + c - log(1
        + exp o + exp c)."""
        if self.objectness is None:
            return self.logits
        c, o = (t.float().clamp(max=30.0) for t in (self.logits, self.objectness))
        return o + c - (1 + o.exp() + c.exp()).log()

    @property
    def scores(self) -> Tensor:
        """(N, A, classes) in 0..1."""
        scores = self.logits.sigmoid()
        return scores if self.objectness is None else scores * self.objectness.sigmoid()


def decode_boxes(predictions: Predictions) -> Tensor:
    """(N, A, 4) xyxy in pixels, from any of three codings.

    Priors: offsets and sizes relative to them (YOLOv5 on). Four parameters: the sides l, t, r, b in strides. More: a
    distribution of each side over 0 .. bins - 1 strides (DFL, arXiv:2006.04388); the expectation is a product and a
    sum, not a conv: OpenVINO has miscompiled the conv form (super-gradients' own note).
    """
    if predictions.priors is not None:
        relative = 2 * predictions.boxes.sigmoid()
        centres = predictions.points + (relative[..., :2] - 1) * predictions.strides
        halves = relative[..., 2:] * relative[..., 2:] * (predictions.priors / 2)
        return torch.cat([centres - halves, centres + halves], -1)
    anchors, bins = int(predictions.boxes.shape[1]), int(predictions.boxes.shape[2]) // 4
    sides = predictions.boxes
    if bins > 1:
        distribution = sides.reshape(-1, anchors, 4, bins).softmax(-1)
        sides = (distribution * torch.arange(bins, dtype=distribution.dtype, device=distribution.device)).sum(-1)
    sides = sides * predictions.strides
    return torch.cat([predictions.points - sides[..., :2], predictions.points + sides[..., 2:]], -1)


Levels = tuple[tuple[Tensor, Tensor], ...]
"""Per resolution, finest first: the class map and the box map, as :meth:`Head.forward` gives them."""


class Head(nn.Module):
    """Feature maps (finest first) -> :class:`Predictions`.

    ``anchors``: per position, stacked along the height of a head's maps. ``end_to_end``: trained to give one box per
    object, so that no suppression follows.
    """

    family: ClassVar[str]
    anchors: ClassVar[int] = 1
    end_to_end: ClassVar[bool] = False

    def __init__(self, c_in: Layout, num_classes: int) -> None:
        super().__init__()
        self.c_in = c_in
        self.num_classes = num_classes

    def forward(self, *features: Tensor) -> Levels:
        """(N, c_in[i], H_i, W_i) -> per level the class map (N, classes, anchors * H_i, W_i) and the box map (N, D,
        anchors * H_i, W_i)."""
        raise NotImplementedError

    def flatten(self, levels: Levels, image_size: tuple[int, int]) -> Predictions:
        """What :meth:`forward` gave for images of this height and width, as one list of anchors."""
        return flatten(levels, image_size)

    def decode(self, predictions: Predictions) -> tuple[Tensor, Tensor]:
        """Boxes (N, A, 4), xyxy in pixels of the network's input, and scores (N, A, classes) in 0..1."""
        return decode_boxes(predictions), predictions.scores


def flatten(levels: Levels, image_size: tuple[int, int], anchors: int = 1) -> Predictions:
    """The level maps as one list of anchors, with the grid they stand on; ``anchors`` at each position, stacked along
    the height."""
    # Sizes as plain integers: traced into ONNX they are constants, and only the batch stays free.
    logits, boxes = (torch.cat([_rows(level[i]) for level in levels], 2).transpose(1, 2) for i in (0, 1))
    shapes = tuple((int(c.shape[2]) // anchors, int(c.shape[3])) for c, _ in levels for _ in range(anchors))
    points, strides = grid(shapes, image_size, str(logits.device))
    return Predictions(logits, boxes, points.to(logits.device), strides.to(logits.device))


def _rows(x: Tensor) -> Tensor:
    _, channels, height, width = (int(n) for n in x.shape)
    return x.reshape(-1, channels, height * width)


@lru_cache(64)
@torch.inference_mode(False)  # they are kept: made in inference mode, they could not take part in a later training
def grid(shapes: tuple[tuple[int, int], ...], image_size: tuple[int, int], device: str) -> tuple[Tensor, Tensor]:
    """Anchor centres (A, 2) and strides (A, 1) in pixels, cell centres at (i + 0.5) strides."""
    points, strides = [], []
    for height, width in shapes:
        stride = image_size[0] / height
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        points.append((torch.stack([x, y], 2).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((height * width, 1), stride))
    return torch.cat(points).to(device), torch.cat(strides).to(device)
