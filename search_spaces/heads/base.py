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
        """Return the logits (N, A, classes) of :attr:`scores`.

        With an objectness o and a class logit c they are ``o + c - log(1 + exp(o) + exp(c))``.
        """
        if self.objectness is None:
            return self.logits
        c, o = (t.float().clamp(max=30.0) for t in (self.logits, self.objectness))
        return o + c - (1 + o.exp() + c.exp()).log()

    @property
    def scores(self) -> Tensor:
        """Return the scores (N, A, classes), 0..1."""
        scores = self.logits.sigmoid()
        return scores if self.objectness is None else scores * self.objectness.sigmoid()


def decode_boxes(predictions: Predictions) -> Tensor:
    """Decode boxes (N, A, 4) xyxy in pixels from any of three codings.

    - With priors: offsets and sizes relative to anchors, ``(2 sigma(t) - 1) stride`` around the point and
      ``(2 sigma(t))^2 prior`` (YOLOv5 on).
    - Four parameters: the sides l, t, r, b in strides.
    - More parameters: a distribution of each side over 0 .. bins - 1 strides (DFL, arXiv:2006.04388). The expectation
    is a
      product and a sum and not a conv, because OpenVINO has miscompiled the conv (super-gradients' own note).
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
        """Return per level the class map (N, classes, anchors * H_i, W_i) and the box map (N, D, anchors * H_i, W_i).

        ``features`` are (N, c_in[i], H_i, W_i), finest first.
        """
        raise NotImplementedError

    def flatten(self, levels: Levels, image_size: tuple[int, int]) -> Predictions:
        """Join what :meth:`forward` returned for images of this (height, width) to one list of anchors."""
        return flatten(levels, image_size)

    def decode(self, predictions: Predictions) -> tuple[Tensor, Tensor]:
        """Return boxes (N, A, 4) xyxy in pixels of the network's input, and scores (N, A, classes), 0..1."""
        return decode_boxes(predictions), predictions.scores


def flatten(levels: Levels, image_size: tuple[int, int], anchors: int = 1) -> Predictions:
    """Join the maps of all levels to one list of anchors, with the grid of their positions.

    ``anchors``: at each position, stacked along the height of the maps.
    """
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
    """Return anchor centres (A, 2) and strides (A, 1) in pixels. The centre of cell i is at (i + 0.5) strides."""
    points, strides = [], []
    for height, width in shapes:
        stride = image_size[0] / height
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        points.append((torch.stack([x, y], 2).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((height * width, 1), stride))
    return torch.cat(points).to(device), torch.cat(strides).to(device)
