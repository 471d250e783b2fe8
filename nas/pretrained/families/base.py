"""What a family's name map is, and the tools that the maps share."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from search_spaces.detector import Detector
from search_spaces.layers import BN_EPS

Tensors = dict[str, Tensor]
Rules = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
"""(regular expression, replacement) pairs, applied one after the other to a name."""


class WeightMap(ABC):
    """The names of a family's published tensors, and what they are called here.

    A new family is one file with a subclass, and one line in :data:`nas.pretrained.families.WEIGHT_MAPS`.

    ``references``: families of :data:`search_spaces.references.FAMILIES` whose networks a file may hold. ``licence``:
    that of the published weights, where the file does not state one. ``restricted``: whether that licence forbids most
    uses, so that an import needs a word of the user. ``dropped``: regular expressions of tensors without a counterpart
    (constants, training aids).
    """

    references: ClassVar[tuple[str, ...]]
    licence: ClassVar[str]
    restricted: ClassVar[bool] = False
    dropped: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def num_classes(self, tensors: Mapping[str, Tensor]) -> int | None:
        """The number of classes of a network of this family; None where the tensors are not of this family."""

    @abstractmethod
    def renamed(self, tensors: Mapping[str, Tensor], detector: Detector) -> Tensors:
        """The tensors under the names of ``detector`` (one of the family, perhaps of shapes only), in its layouts.

        A name that the map does not know keeps its own, and is named as unused by whoever called.
        """

    def explain(self, unused: Sequence[str], misfits: Sequence[str]) -> str:
        """Why a file of the family may not fit; empty where nothing is known."""
        return ""

    def kept(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """The tensors without the dropped ones and the counters of BatchNorm."""
        patterns = [re.compile(p) for p in (*self.dropped, r".*num_batches_tracked")]
        return {n: t for n, t in tensors.items() if not any(p.fullmatch(n) for p in patterns)}


def renamed(name: str, rules: Rules) -> str:
    """A name with all rules applied, in their order."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def reordered(weight: Tensor, parts: Sequence[int], order: Sequence[int]) -> Tensor:
    """A weight (out, in, …) whose input channels are ``parts`` (channels each), in another order of the parts.

    ``order[i]`` is the part of ``weight`` that comes to place ``i``.
    """
    pieces = weight.split(list(parts), 1)
    return torch.cat([pieces[i] for i in order], 1)


def with_identity_norms(tensors: Tensors, names: set[str]) -> Tensors:
    """Tensors in which each convolution before a BatchNorm has no bias, as the networks here are built.

    A bias beside a BatchNorm is subtracted from its running mean. A bias in the place of a BatchNorm (folded by an
    export) becomes one that changes nothing but adds it: scale sqrt(1 + eps), bias b, mean 0, variance 1.
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
    """The BatchNorm behind a convolution: ``x.conv.`` -> ``x.norm.``, ``x.conv3.`` -> ``x.norm3.``."""
    head, _, last = stem.removesuffix(".").rpartition(".")
    norm = f"{head}.{last.replace('conv', 'norm')}."
    return norm if last.startswith("conv") and f"{norm}running_mean" in names else None


def input_parts(module: nn.Module) -> tuple[int, ...]:
    """Channels of each part of a convolution's input, as its layout has them."""
    layouts: tuple[tuple[int, ...], ...] = module.layouts  # type: ignore[assignment]
    return layouts[1]
