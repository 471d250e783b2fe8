"""What every cell of a network is: a module from the outputs of earlier cells to one feature map."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from search_spaces.graph import Layout


class Block(nn.Module):
    """A cell: feature maps in, one feature map of ``out`` channels out, one part wide.

    Subclasses take ``c_in`` (the channels of each input) first and their options as keywords. Inputs of equal size
    are concatenated; a block that joins different sizes overrides :meth:`forward`. End a block with a layer of one
    output part (CSP and C2f end with a 1x1), so that whatever follows a choice of block sees one layout.

    ``family`` names the weights: blocks of one family share them in a supernet, blocks of different families do not.
    """

    family: ClassVar[str]

    def __init__(self, c_in: Layout, out: int) -> None:
        super().__init__()
        self.c_in = c_in
        self.out = out

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map inputs (N, c_in[i], H, W) to one output (N, out, H', W')."""
        return self.transform(torch.cat(inputs, 1) if len(inputs) > 1 else inputs[0])

    def transform(self, x: Tensor) -> Tensor:
        """Compute the block on the concatenation (N, C_in, H, W) of its inputs."""
        raise NotImplementedError
