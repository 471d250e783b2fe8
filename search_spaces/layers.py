"""Leaf layers: ordinary torch modules that also remember the channel :data:`Layout` of their axes.

The layouts are what lets a supernet cut an architecture's weights out of shared ones (``nas.supernet.supernet``);
nothing else reads them. Conv weights are tagged ``(out, in)``, transposed convs ``(in, out)``, vectors ``(out,)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from search_spaces.errors import InputError
from search_spaces.graph import Layout

# Momentum 0.03 and eps 1e-3 on every BatchNorm, as YOLO-NAS sets them.
BN_EPS, BN_MOMENTUM = 1e-3, 0.03

LEAKY_SLOPE = 0.1
"""Slope below 0 of ``leaky``, as in YOLOv7-tiny and darknet."""

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "silu": lambda: nn.SiLU(inplace=True),
    "leaky": lambda: nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
    "identity": nn.Identity,
}


def activation(name: str) -> nn.Module:
    """Make an activation module, in-place where torch can. Raises InputError for an unknown name."""
    if name not in ACTIVATIONS:
        raise InputError(f"activation {name!r}", f"one of {list(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def divisible(channels: float, by: int = 8) -> int:
    """Round up to a multiple of ``by``, as YOLOs round scaled widths."""
    return math.ceil(channels / by) * by


class Conv2d(nn.Conv2d):
    """Torch's, except that a module of shapes only (on the meta device) draws no first weights: drawing there takes
    longer than all the rest."""

    def reset_parameters(self) -> None:
        """Initialise the weights, unless the module has shapes only."""
        if not self.weight.is_meta:
            super().reset_parameters()


def conv2d(c_in: Layout, c_out: Layout, kernel: int = 1, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """Make a Conv2d with "same" padding (of an even kernel: with stride 2), tagged with its layouts."""
    conv = Conv2d(sum(c_in), sum(c_out), kernel, stride, (kernel - 1) // 2, bias=bias)
    conv.layouts = (c_out, c_in)  # type: ignore[assignment]
    return conv


def depthwise2d(channels: Layout, kernel: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """Make a Conv2d of each channel by itself with "same" padding (kernel odd).

    The second axis of its weight is one channel, whatever the width.
    """
    width = sum(channels)
    conv = Conv2d(width, width, kernel, stride, kernel // 2, groups=width, bias=bias)
    conv.layouts = (channels, (1,))  # type: ignore[assignment]
    return conv


def grouped2d(c_in: Layout, c_out: Layout, kernel: int = 1, bias: bool = False) -> nn.Conv2d:
    """Make a Conv2d with a group for each part: part i of the output reads part i of the input, all parts of an axis
    equally wide. "Same" padding (kernel odd).

    The second axis of its weight is one part of the input.
    """
    conv = Conv2d(sum(c_in), sum(c_out), kernel, 1, kernel // 2, groups=len(c_in), bias=bias)
    conv.layouts = (c_out, c_in[:1])  # type: ignore[assignment]
    return conv


def conv_transpose2d(c_in: Layout, c_out: Layout, kernel: int, stride: int) -> nn.ConvTranspose2d:
    """Make a transposed conv with bias, tagged with its layouts."""
    conv = nn.ConvTranspose2d(sum(c_in), sum(c_out), kernel, stride)
    conv.layouts = (c_in, c_out)  # type: ignore[assignment]
    return conv


def batch_norm(channels: Layout) -> nn.BatchNorm2d:
    """Make a BatchNorm2d tagged with its layout."""
    norm = nn.BatchNorm2d(sum(channels), eps=BN_EPS, momentum=BN_MOMENTUM)
    norm.layouts = (channels,)  # type: ignore[assignment]
    return norm


def norm_scale(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return ``(scale, shift)`` per channel such that ``norm(x) == scale * x + shift`` in evaluation mode.

    Raises ValueError if the BatchNorm has no running statistics.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a BatchNorm without running statistics cannot be folded")
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


class FusedConv(nn.Module):
    """A re-parameterised conv: conv with bias, a BatchNorm when only partially fused, activation."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, act: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H/s, W/s)."""
        x = self.conv(x)
        return self.act(x if self.norm is None else self.norm(x))

    def fused(self, full: bool) -> nn.Module:
        """Return the layer with its BatchNorm folded, if there is one and ``full`` asks for it."""
        if self.norm is None or not full:
            return self
        return FusedConv(_conv_like(self.conv, self._merged), None, self.act)

    def _merged(self) -> tuple[Tensor, Tensor]:
        assert self.norm is not None
        scale, shift = norm_scale(self.norm)
        bias = 0.0 if self.conv.bias is None else self.conv.bias
        return self.conv.weight * scale[:, None, None, None], bias * scale + shift


def _conv_like(conv: nn.Conv2d, merged: Callable[[], tuple[Tensor, Tensor]]) -> nn.Conv2d:
    """A conv of the same geometry with the weight and bias that ``merged`` computes (not called for a module of
    shapes only)."""
    assert isinstance(conv.padding, tuple)  # torch's type has the names of paddings too
    kernel, stride, padding = conv.kernel_size[0], conv.stride[0], conv.padding[0]
    new = Conv2d(conv.in_channels, conv.out_channels, kernel, stride, padding, groups=conv.groups, device="meta")
    if not conv.weight.is_meta:
        with torch.no_grad():
            weight, bias = merged()
        new.weight, new.bias = nn.Parameter(weight), nn.Parameter(bias)
    return new


class ConvNormAct(nn.Module):
    """Conv without bias, BatchNorm, activation: (N, sum(c_in), H, W) -> (N, sum(c_out), ceil(H/s), ceil(W/s)).

    Args:
        c_in: channels of each part of the input.
        c_out: channels of each part of the output.
        kernel: side of the kernel.
        stride: of the conv.
        act: name of the activation.
        depthwise: each channel by itself (``c_in`` and ``c_out`` are one).
        grouped: each part by itself, at stride 1.
    """

    def __init__(
        self,
        c_in: Layout,
        c_out: Layout,
        kernel: int = 1,
        stride: int = 1,
        act: str = "relu",
        depthwise: bool = False,
        grouped: bool = False,
    ) -> None:
        super().__init__()
        if depthwise:
            self.conv = depthwise2d(c_out, kernel, stride)
        elif grouped:
            self.conv = grouped2d(c_in, c_out, kernel)
        else:
            self.conv = conv2d(c_in, c_out, kernel, stride)
        self.norm = batch_norm(c_out)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """Compute conv, norm, activation: (N, C_in, H, W) -> (N, C_out, ceil(H/s), ceil(W/s))."""
        return self.act(self.norm(self.conv(x)))

    def fused(self, full: bool) -> nn.Module:
        """Return one conv with bias. A partial fusion keeps the layer: engines fold a trailing BatchNorm themselves."""
        return FusedConv(self.conv, self.norm, self.act).fused(full) if full else self


class RepVGG(nn.Module):
    """RepVGG block: ``act(norm3(conv3x3(x)) + norm1(conv1x1(x)) [+ norm(x)])``, one 3x3 conv when deployed (Ding et
    al., arXiv:2101.03697).

    The identity branch is there where shapes allow and ``identity`` asks for it. A partial fusion is a full one: no
    BatchNorm follows the sum.

    An input of several equal parts has an identity branch only with ``joined``. Its channels are interleaved: output
    channel ``parts * j + p`` receives channel j of part p. The leading channels of the output are thus the leading
    channels of every part, so that a narrower network is a slice of a wider one. YOLOv6 adds the parts one after the
    other, which is the same network with its output channels in another order.

    Args:
        c_in: channels of each part of the input.
        c_out: channels of the output, one part.
        stride: of both convs.
        identity: whether there is an identity branch where shapes allow.
        act: name of the activation.
        joined: whether the parts of an input may form an identity branch together.
    """

    def __init__(
        self,
        c_in: Layout,
        c_out: Layout,
        stride: int = 1,
        identity: bool = True,
        act: str = "relu",
        joined: bool = False,
    ) -> None:
        super().__init__()
        self.conv3 = conv2d(c_in, c_out, 3, stride)
        self.norm3 = batch_norm(c_out)
        self.conv1 = conv2d(c_in, c_out, 1, stride)
        self.norm1 = batch_norm(c_out)
        self.parts = len(c_in)
        equal = c_in == c_out or (joined and len(set(c_in)) == 1 and (sum(c_in),) == c_out)
        self.norm = batch_norm(c_out) if identity and stride == 1 and equal else None
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H/s), ceil(W/s))."""
        y = self.norm3(self.conv3(x)) + self.norm1(self.conv1(x))
        return self.act(y if self.norm is None else y + self.norm(_interleaved(x, self.parts)))

    def fused(self, full: bool) -> nn.Module:
        """Return the branches as one 3x3 conv."""
        return FusedConv(_conv_like(self.conv3, self._merged), None, self.act)

    def _merged(self) -> tuple[Tensor, Tensor]:
        scale3, shift3 = norm_scale(self.norm3)
        scale1, shift1 = norm_scale(self.norm1)
        weight = self.conv3.weight * scale3[:, None, None, None] + _padded(
            self.conv1.weight * scale1[:, None, None, None]
        )
        if self.norm is None:
            return weight, shift3 + shift1
        scale, shift = norm_scale(self.norm)
        identity = _interleaved(_identity(weight).transpose(0, 1), self.parts).transpose(0, 1)
        return weight + identity * scale[:, None, None, None], shift3 + shift1 + shift


def _padded(weight: Tensor) -> Tensor:
    """A 1x1 kernel as the centre of a 3x3 one."""
    return nn.functional.pad(weight, (1, 1, 1, 1))


def _interleaved(x: Tensor, parts: int) -> Tensor:
    """(N, parts * C, H, W), part after part -> the same channels with the parts interleaved."""
    if parts == 1:
        return x
    n, channels, height, width = (int(side) for side in x.shape)
    return x.reshape(n, parts, channels // parts, height, width).transpose(1, 2).reshape(n, channels, height, width)


def _identity(like: Tensor) -> Tensor:
    """The 3x3 kernel (C, C, 3, 3) that changes nothing."""
    channel = torch.arange(like.shape[0], device=like.device)
    kernel = torch.zeros_like(like)
    kernel[channel, channel, 1, 1] = 1.0
    return kernel


class QARepVGG(nn.Module):
    """Quantization-aware RepVGG block: three branches summed, a BatchNorm after the sum, activation.

    ``act(norm(norm3(conv3x3(x)) + conv1x1(x) [+ x]))``: the 3x3 has a BatchNorm and no bias, the 1x1 a bias and no
    BatchNorm, and the identity (only where shapes allow and ``identity`` asks for it) neither. Chu et al., "Make
    RepVGG Greater Again", arXiv:2212.01593, as YOLO-NAS uses it.
    """

    def __init__(self, c_in: Layout, c_out: Layout, stride: int = 1, identity: bool = True, act: str = "relu") -> None:
        super().__init__()
        self.conv3 = conv2d(c_in, c_out, 3, stride)
        self.norm3 = batch_norm(c_out)
        self.conv1 = conv2d(c_in, c_out, 1, stride, bias=True)
        self.norm = batch_norm(c_out)
        self.act = activation(act)
        self.identity = identity and stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H/s), ceil(W/s))."""
        y = self.norm3(self.conv3(x)) + self.conv1(x)
        return self.act(self.norm(y + x if self.identity else y))

    def fused(self, full: bool) -> nn.Module:
        """Return the branches as one 3x3 conv.

        ``full`` folds the BatchNorm after the sum as well; a partial fusion keeps it and stays trainable.
        """
        return FusedConv(_conv_like(self.conv3, self._merged), self.norm, self.act).fused(full)

    def _merged(self) -> tuple[Tensor, Tensor]:
        scale, shift = norm_scale(self.norm3)
        weight = self.conv3.weight * scale[:, None, None, None] + _padded(self.conv1.weight)
        if self.identity:
            weight = weight + _identity(weight)
        assert self.conv1.bias is not None
        return weight, shift + self.conv1.bias


def fuse(module: nn.Module, full: bool) -> nn.Module:
    """Re-parameterise every layer inside ``module`` in place and return it, or its replacement: the deployed form.

    ``full=False`` merges branches and keeps the last BatchNorm, as post-training quantization needs it; ``full=True``
    leaves convs only.
    """
    fused = getattr(module, "fused", None)
    if fused is not None:
        replacement: nn.Module = fused(full)
        return replacement.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, fuse(child, full))
    return module
