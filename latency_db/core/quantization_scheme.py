"""Quantization schemes: how a runtime expects an int8 network, and where its Q/DQ nodes are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from latency_db.core.device import DeviceFingerprint
from search_spaces.errors import InputError
from search_spaces.registry import unknown

KINDS = ("s8", "u8")
RESTS = ("fp32", "fp16")


LATER: dict[str, Any] = {"rest": "fp32", "shared_scales": False}
"""Fields with their defaults that files and keys of earlier versions do not have."""

VNNI = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Instruction sets of x86 that add products of 8 bits in 32."""


@dataclass(frozen=True)
class QuantizationScheme:
    """Placement and type of the quantizing and dequantizing (Q/DQ) nodes.

    Attributes:
        activation: ``s8`` or ``u8``.
        weight: ``s8`` or ``u8``.
        per_channel: One scale per output channel of a weight.
        symmetric: Activations have their zero point in the middle (0, or 128 of ``u8``).
        op_types: Operators to quantize; () are all that the quantizer supports.
        bias: Biases are int32.
        outputs: Q/DQ nodes also after each operator, not only before it.
        last_convs: The heads' last convolutions are quantized, too.
        weight_bits: 8, or 7 for CPUs that add products of 8 bits in 16 (:meth:`on`).
        rest: Precision of what is not int8, but for the decode tail: fp32, or fp16 on GPUs.
        shared_scales: Operators that only move numbers (pooling, resizing, splits) have one scale for inputs and
            outputs, concatenations where it costs at most one bit, and sigmoids the range 0..1.

    Raises:
        InputError: An unknown type or precision, weight bits other than 7 and 8, or ``outputs`` with ``last_convs``, which would
            quantize what the decode tail reads.
    """

    activation: str
    weight: str = "s8"
    per_channel: bool = True
    symmetric: bool = True
    op_types: tuple[str, ...] = ("Conv",)
    bias: bool = False
    outputs: bool = False
    last_convs: bool = True
    weight_bits: int = 8
    rest: str = "fp32"
    shared_scales: bool = False

    def __post_init__(self) -> None:
        for kind in (self.activation, self.weight):
            if kind not in KINDS:
                raise unknown("kind of 8-bit integer:", kind, KINDS)
        if self.outputs and self.last_convs:
            raise InputError(
                "a quantization scheme with outputs and last_convs",
                "one of them: the decode tail reads the last convolutions' outputs",
            )
        if self.rest not in RESTS:
            raise unknown("precision beside int8:", self.rest, RESTS)
        if self.weight_bits not in (7, 8):
            raise InputError(f"{self.weight_bits} bits of weights", "7 or 8")

    @property
    def id(self) -> str:
        """Six hex digits of the SHA-256 of all fields, a part of the database's keys."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:6]

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, JSON-ready; those of :data:`LATER` only if they are not their defaults."""
        return {name: value for name, value in asdict(self).items() if name not in LATER or value != LATER[name]}

    def on(self, cpu: DeviceFingerprint) -> QuantizationScheme:
        """Return the scheme with as many weight bits as that CPU multiplies without overflow.

        x86 without VNNI saturates sums of two products of 8 bits: on a trained yolo-nano, OpenVINO's scores were off
        by 0.05 in the mean with 8 bits and by 0.005 with 7, as much as the rounding itself (AMD Zen 3).
        """
        saturates = cpu.machine.lower() in ("x86_64", "amd64") and not {*VNNI} & {*cpu.flags}
        return replace(self, weight_bits=7) if saturates else self
