"""Fake quantization for fine-tuning: convolutions compute on rounded numbers, and gradients pass the rounding.

With scale s, zero point z and the limits l..u of the integers, an activation x becomes
``s (clamp(round(x / s) + z, l, u) − z)``. The gradient is that of the identity within the limits (straight-through
estimator, Bengio et al., arXiv:1308.3432).

Scales and zero points of activations are read from the int8 file of the network, so that training computes what the
runtime will compute; the scales of weights follow the weights. The rounding is torch's. docs/quantization.md says why
no library does the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from latency_db.core.quantization_scheme import QuantizationScheme
from search_spaces.detector import Detector
from search_spaces.errors import InputError

ROOT = "detector."
LIMITS = {"u8": (0, 255), "s8": (-128, 127)}
WEIGHT_LIMIT = {8: 127, 7: 64}
"""Number of bits -> largest integer of a weight, as in ONNX Runtime's quantizer."""


@dataclass(frozen=True)
class Rounding:
    """The rounding of a convolution's input: ``scale``, ``zero_point``, and the limits of the integers."""

    scale: float
    zero_point: int
    limits: tuple[int, int]


def roundings(float_model: onnx.ModelProto, int8_model: Path) -> dict[str, Rounding]:
    """Read the rounding of the input of every int8 convolution, by the name of the torch module."""
    proto = onnx.load(str(int8_model))
    constants = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    made = {o: n for n in proto.graph.node for o in n.output}
    modules = {
        n.name: n.input[1].removeprefix(ROOT).removesuffix(".weight")
        for n in float_model.graph.node
        if n.op_type == "Conv"
    }
    found = {}
    for n in proto.graph.node:
        given, weight = (made.get(i) for i in n.input[:2]) if n.op_type == "Conv" else (None, None)
        if given is not None and weight is not None and {given.op_type, weight.op_type} == {"DequantizeLinear"}:
            zero = constants[given.input[2]]
            kind = "u8" if zero.dtype == "uint8" else "s8"
            found[modules[n.name]] = Rounding(float(constants[given.input[1]]), int(zero), LIMITS[kind])
    return found


class FakeQuantConv2d(nn.Conv2d):
    """A convolution on rounded input and rounded weights; it shares the parameters of the one that it replaces."""

    def __init__(self, conv: nn.Conv2d, rounding: Rounding, weight_bits: int) -> None:
        super().__init__(**_geometry(conv), device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        self.limits, self.weight_limit = rounding.limits, WEIGHT_LIMIT[weight_bits]
        self.register_buffer("scale", torch.tensor(rounding.scale, dtype=torch.float32))
        self.register_buffer("zero_point", torch.tensor(rounding.zero_point, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H/s, W/s)."""
        assert isinstance(self.scale, Tensor) and isinstance(self.zero_point, Tensor)
        x = torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, *self.limits)
        scale = (
            self.weight.detach().abs().amax((1, 2, 3)).clamp_min(torch.finfo(torch.float32).tiny) / self.weight_limit
        )
        zero = torch.zeros_like(scale, dtype=torch.int32)
        weight = torch.fake_quantize_per_channel_affine(
            self.weight, scale, zero, 0, -self.weight_limit, self.weight_limit
        )
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def plain(self) -> nn.Conv2d:
        """Return the convolution without rounding, with the same parameters."""
        conv = nn.Conv2d(**_geometry(self), device="meta")
        conv.weight, conv.bias = self.weight, self.bias
        return conv


def _geometry(conv: nn.Conv2d) -> dict[str, Any]:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    return {**{name: getattr(conv, name) for name in names}, "bias": conv.bias is not None}


def fake_quantized(detector: Detector, rounds: dict[str, Rounding], scheme: QuantizationScheme) -> Detector:
    """Put fake quantization into the convolutions that are int8 in the file, in place; return the detector.

    Raises:
        InputError: if the detector lacks one of these convolutions.
    """
    convs = {name: m for name, m in detector.named_modules() if isinstance(m, nn.Conv2d)}
    if unknown := sorted(rounds.keys() - convs.keys()):
        raise InputError(
            f"int8 convolution {unknown[0]}, which the detector does not have", "the file of this detector"
        )
    for name, rounding in rounds.items():
        _put(detector, name, FakeQuantConv2d(convs[name], rounding, scheme.weight_bits))
    return detector


def plain(detector: Detector) -> Detector:
    """Remove fake quantization, in place; return the detector with its present weights."""
    for name, module in list(_fakes(detector)):
        _put(detector, name, module.plain())
    return detector


def _fakes(detector: Detector) -> Iterator[tuple[str, FakeQuantConv2d]]:
    return ((name, m) for name, m in detector.named_modules() if isinstance(m, FakeQuantConv2d))


def _put(detector: Detector, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(detector.get_submodule(parent), last, module)
