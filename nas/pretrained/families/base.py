"""The interface of name maps, and functions that several name maps use."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from nas.data.transforms import AREA
from search_spaces.detector import Detector
from search_spaces.layers import BN_EPS

Tensors = dict[str, Tensor]
Rules = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
"""Pairs (regular expression, replacement) that are applied to a name in their order."""


class WeightMap(ABC):
    """Maps the names of a family's published tensors to the names of a :class:`~search_spaces.detector.Detector`.

    Class attributes:

    - ``references``: Families of :data:`search_spaces.references.FAMILIES` whose networks the files contain.
    - ``licence``: Licence of the published weights, used if a file does not state one.
    - ``restricted``: Whether the licence forbids most uses, so that an import requires the user's acceptance.
    - ``interpolation``: How the published networks' images are shrunk (:data:`nas.data.transforms.INTERPOLATIONS`).
    - ``dropped``: Regular expressions of tensors without a counterpart (constants, parts used in training only).
    """

    references: ClassVar[tuple[str, ...]]
    licence: ClassVar[str]
    restricted: ClassVar[bool] = False
    dropped: ClassVar[tuple[str, ...]] = ()
    interpolation: ClassVar[str] = AREA

    @abstractmethod
    def num_classes(self, tensors: Mapping[str, Tensor]) -> int | None:
        """Return the number of classes, from the shape of a tensor; None if the tensors are not of this family."""

    @abstractmethod
    def renamed(self, tensors: Mapping[str, Tensor], detector: Detector) -> Tensors:
        """Return the tensors under the names of ``detector``, with channels in the order of its layouts.

        A tensor without a rule keeps its name; the caller reports it as unused.

        Args:
            tensors: Tensors of the file without the dropped ones, with the shapes of the published network.
            detector: A network of the family. It may be on the meta device.
        """

    def explain(self, unused: Sequence[str], misfits: Sequence[str]) -> str:
        """Return a likely reason why a file of the family does not fit; an empty string if none is known."""
        return ""

    def kept(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """Return the tensors, shapes unchanged, without the dropped ones and the batch counters of BatchNorm."""
        patterns = [re.compile(p) for p in (*self.dropped, r".*num_batches_tracked")]
        return {n: t for n, t in tensors.items() if not any(p.fullmatch(n) for p in patterns)}


def by_layer(tensors: Mapping[str, Tensor], pattern: re.Pattern[str]) -> tuple[dict[int, Tensors], Tensors]:
    """Group tensors by the number of their layer, shapes unchanged.

    Args:
        tensors: Name -> tensor.
        pattern: Matches a whole name; its groups are the number of the layer and the rest of the name.

    Returns:
        Number -> rest of the name -> tensor, in the order of ``tensors``, and the tensors whose names do not match.
    """
    layers: dict[int, Tensors] = {}
    others: Tensors = {}
    for name, tensor in tensors.items():
        match = pattern.fullmatch(name)
        if match is None:
            others[name] = tensor
        else:
            layers.setdefault(int(match[1]), {})[match[2]] = tensor
    return layers, others


def renamed(name: str, rules: Rules) -> str:
    """Apply all rules to a name, in their order."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def reordered(weight: Tensor, parts: Sequence[int], order: Sequence[int]) -> Tensor:
    """Return a weight (out, in, …) with the parts of its input channels in another order.

    ``parts`` are the numbers of channels of each part of ``weight``. Part ``order[i]`` of ``weight`` becomes part ``i``
    of the result.
    """
    pieces = weight.split(list(parts), 1)
    return torch.cat([pieces[i] for i in order], 1)


def with_identity_norms(tensors: Tensors, names: set[str]) -> Tensors:
    """Move the bias of each convolution before a BatchNorm into the BatchNorm, as detectors have no such bias.

    - If the file has the BatchNorm, the bias is subtracted from its running mean.
    - If an export folded the BatchNorm into the convolution, the bias b (C,) becomes a BatchNorm that only adds b, with
      scale sqrt(1 + eps), bias b, mean 0 and variance 1.

    ``names`` are those of the network.
    """
    out = dict(tensors)
    for name in [n for n in tensors if n.endswith(".bias") and n not in names]:
        stem = name.removesuffix("bias")
        norm = _norm_of(stem, names)
        if norm is None:
            continue
        bias = out.pop(name)
        if f"{norm}running_mean" in out:
            out[f"{norm}running_mean"] = out[f"{norm}running_mean"] - bias
        else:
            out[f"{norm}weight"] = torch.full_like(bias, (1 + BN_EPS) ** 0.5)
            out[f"{norm}bias"] = bias
            out[f"{norm}running_mean"], out[f"{norm}running_var"] = torch.zeros_like(bias), torch.ones_like(bias)
    return out


def _norm_of(stem: str, names: set[str]) -> str | None:
    """Return the prefix of the BatchNorm after a convolution: ``x.conv.`` -> ``x.norm.``, ``x.conv3.`` -> ``x.norm3.``;
    None if ``names`` has none."""
    head, _, last = stem.removesuffix(".").rpartition(".")
    norm = f"{head}.{last.replace('conv', 'norm')}."
    return norm if last.startswith("conv") and f"{norm}running_mean" in names else None


def input_parts(module: nn.Module) -> tuple[int, ...]:
    """Return the number of channels of each part of a convolution's input, from its layout."""
    layouts: tuple[tuple[int, ...], ...] = module.layouts  # type: ignore[assignment]
    return layouts[1]
