"""How a runtime wants a network quantized to int8: where quantizing nodes stand, and of which kind."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from latency_db.core.device import DeviceFingerprint
from search_spaces.errors import InputError
from search_spaces.registry import unknown

if TYPE_CHECKING:
    pass


KINDS = ("s8", "u8")


VNNI = ("avx512_vnni", "avx_vnni", "amx_int8")


@dataclass(frozen=True)
class QuantizationScheme:
    """Where a runtime wants quantizing and dequantizing nodes, and of which kind.

    ``activation`` and ``weight``: ``s8`` or ``u8``. ``symmetric`` activations have their zero point in the middle (0,
    or 128 of ``u8``). ``op_types`` () means every operator the quantizer knows. ``bias``: int32 biases. ``outputs``:
    nodes also behind each operator, not only before it. ``last_convs``: the heads' last convolutions too; with
    ``outputs`` that would quantize what the decode tail reads, and is refused. ``weight_bits`` 7 halves the range of
    weights, for CPUs that add products of 8 bits in 16 (:meth:`on`).
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

    def __post_init__(self) -> None:
        for kind in (self.activation, self.weight):
            if kind not in KINDS:
                raise unknown("kind of 8-bit integer:", kind, KINDS)
        if self.outputs and self.last_convs:
            raise InputError(
                "an int8 form with outputs and last_convs",
                "one of them: the decode tail reads the last convolutions' outputs",
            )
        if self.weight_bits not in (7, 8):
            raise InputError(f"{self.weight_bits} bits of weights", "7 or 8")

    @property
    def id(self) -> str:
        """Six hex digits that stand for all of it: part of the database's keys, since another form is another network
        to a runtime."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:6]

    def on(self, cpu: DeviceFingerprint) -> QuantizationScheme:
        """This form with as many bits as that CPU multiplies without overflow.

        x86 without VNNI saturates sums of two products of 8 bits: on a trained yolo-nano, OpenVINO's scores were off
        by 0.05 in the mean with 8 bits and by 0.005 with 7, as much as the rounding itself (AMD Zen 3).
        """
        saturates = cpu.machine.lower() in ("x86_64", "amd64") and not {*VNNI} & {*cpu.flags}
        return replace(self, weight_bits=7) if saturates else self
