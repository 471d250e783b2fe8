"""int8 ONNX files with Q/DQ nodes: ranges of activations by calibration, and nodes kept in floating point."""

from __future__ import annotations

import contextlib
import copy
import io
import math
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from latency_db.conversion.half import half
from latency_db.conversion.onnx_parts import decode_tail, last_convs, read
from latency_db.conversion.shared_ranges import shared_ranges
from latency_db.core.quantization_scheme import QuantizationScheme
from search_spaces.errors import InputError
from search_spaces.registry import unknown

if TYPE_CHECKING:
    import onnx

Images = npt.NDArray[np.float32]
Ranges = Mapping[str, tuple[float, float]]
"""Tensor -> lowest and highest value that its int8 represents."""

CALIBRATORS = {"max": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
"""How a range follows from the observed values: their extremes, the smallest Kullback-Leibler divergence between the
histograms before and after quantization, or the percentile :data:`PERCENTILE`."""
PERCENTILE = 99.99
BINS = 512
"""Bins of the histogram of the entropy calibrator. The library's own 128, as many as levels, leave no choice."""


def int8(model: Path, out: Path, form: QuantizationScheme, calibration: Sequence[Images]) -> Path:
    """Write a model in int8; ranges are the extremes over ``calibration``, arrays (N, 3, H, W) float32 in 0..1.

    Raises:
        InputError: Images do not fit the model's input, or the model has nothing to quantize.
    """
    return Calibrated.of(model, form, calibration).write(out)


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A float model with the ranges of its activations, to be written in int8 with any nodes kept in floating point."""

    name: str
    proto: onnx.ModelProto
    form: QuantizationScheme
    ranges: Ranges

    @classmethod
    def of(
        cls, model: Path, form: QuantizationScheme, calibration: Sequence[Images], calibrator: str = "max"
    ) -> Calibrated:
        """Calibrate a model.

        Args:
            model: The float ONNX file.
            form: The quantization scheme.
            calibration: Images, arrays (N, 3, H, W) float32 in 0..1.
            calibrator: One of :data:`CALIBRATORS`.

        Raises:
            InputError: Images do not fit the model's input, the model has nothing to quantize, or activations are
                not finite.
        """
        if calibrator not in CALIBRATORS:
            raise unknown("calibrator", calibrator, tuple(CALIBRATORS))
        proto = read(model)
        # Says that shapes are known and BatchNorms folded, which is so; without it the quantizer warns and asks for
        # its own pass.
        proto.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
        batches = _batches(proto, calibration)
        if not _convs(proto, form, ()):
            raise InputError(f"{model.name} has no convolution to quantize", "a network with convolutions")
        ranges = _ranges(proto, _op_types(form), batches, calibrator)
        if odd := sorted(name for name, ends in ranges.items() if not all(map(math.isfinite, ends))):
            raise InputError(
                f"activation {odd[0]} of {model.name} is {ranges[odd[0]]} on these images",
                "finite numbers",
                "the network has diverged",
            )
        if form.shared_scales:
            ranges = shared_ranges(proto, ranges)
        return cls(model.name, proto, form, ranges)

    @property
    def constant(self) -> list[str]:
        """Names of activations with one value everywhere on every image: dead layers, or images that are all equal."""
        tail, reached = decode_tail(self.proto), {i.name for i in self.proto.graph.input}
        for n in self.proto.graph.node:  # in an order in which what is read was made before
            if n.name not in tail and reached & {*n.input}:
                reached.update(n.output)
        return sorted(name for name, (low, high) in self.ranges.items() if low == high and name in reached)

    def convs(self, spared: Collection[str] = ()) -> list[str]:
        """Return the names of the convolutions that :meth:`write` would quantize.

        ``spared`` are kept in floating point.
        """
        return _convs(self.proto, self.form, spared)

    def write(self, out: Path, spared: Collection[str] = ()) -> Path:
        """Write the model in int8; nodes named in ``spared`` are kept in floating point.

        Raises:
            InputError: No convolution is left to quantize.
        """
        from onnxruntime.quantization import CalibrationMethod, QuantType
        from onnxruntime.quantization.calibrate import TensorData, TensorsData
        from onnxruntime.quantization.qdq_quantizer import (
            QDQQuantizer,
        )  # quantize_static would calibrate anew at every call
        from onnxruntime.quantization.quant_utils import save_and_reload_model_with_shape_infer

        form = self.form
        if not self.convs(spared):
            raise InputError(
                f"{self.name} with every convolution kept in floating point",
                "at least one to quantize",
                "use the float model",
            )
        kinds = {"s8": QuantType.QInt8, "u8": QuantType.QUInt8}
        model = save_and_reload_model_with_shape_infer(self.proto)
        data = {
            name: TensorData(lowest=np.float32(low), highest=np.float32(high))
            for name, (low, high) in self.ranges.items()
        }
        options: dict[str, Any] = {
            "ActivationSymmetric": form.symmetric,
            "WeightSymmetric": True,
            "QuantizeBias": form.bias,
            "OpTypesToExcludeOutputQuantization": [] if form.outputs else sorted({n.op_type for n in model.graph.node}),
        }
        excluded = sorted(_left_float(self.proto, form) | {*spared})
        ranges = TensorsData(CalibrationMethod.MinMax, data)
        types = (kinds[form.weight], kinds[form.activation])
        quantizer = QDQQuantizer(
            model, form.per_channel, form.weight_bits == 7, *types, ranges, [], excluded, _op_types(form), options
        )
        quantizer.quantize_model()
        quantized: onnx.ModelProto = quantizer.model.model
        if not form.outputs:
            _reconnect(quantized, {*spared})
        quantizer.model.topological_sort()
        if form.rest == "fp16":
            quantized = half(quantized, decode_tail(self.proto))
        out.write_bytes(quantized.SerializeToString())
        return out


def _left_float(proto: onnx.ModelProto, form: QuantizationScheme) -> set[str]:
    """Return the names of the nodes that the scheme never quantizes."""
    tail = decode_tail(proto)
    return tail if form.last_convs else tail | last_convs(proto)


def _convs(proto: onnx.ModelProto, form: QuantizationScheme, spared: Collection[str]) -> list[str]:
    left = _left_float(proto, form) | {*spared}
    return [n.name for n in proto.graph.node if n.op_type == "Conv" and n.name not in left]


def _op_types(form: QuantizationScheme) -> list[str]:
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return list(form.op_types) or sorted({*QDQRegistry, *QLinearOpsRegistry})


def _reconnect(proto: onnx.ModelProto, spared: set[str]) -> None:
    """Let nodes kept in floating point read the tensors before quantization.

    The quantizer gives all the rounded one.
    """
    made = {o: n for n in proto.graph.node for o in n.output}
    for n in proto.graph.node:
        if n.name in spared:
            for i, name in enumerate(n.input):
                if (
                    (dq := made.get(name)) is not None
                    and dq.op_type == "DequantizeLinear"
                    and (q := made.get(dq.input[0])) is not None
                ):
                    n.input[i] = q.input[0]


class _Reader:
    """Gives feeds to a calibrator, one at a time."""

    def __init__(self, feeds: Iterable[Mapping[str, Images]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Mapping[str, Images] | None:
        return next(self._feeds, None)


def _ranges(
    proto: onnx.ModelProto, op_types: list[str], batches: Iterable[Mapping[str, Images]], calibrator: str
) -> dict[str, tuple[float, float]]:
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator
    from onnxruntime.quantization.quant_utils import save_and_reload_model_with_shape_infer

    method = CalibrationMethod[CALIBRATORS[calibrator]]
    options = {"percentile": {"percentile": PERCENTILE}, "entropy": {"num_bins": BINS}}.get(calibrator, {})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "float.onnx"
        file.write_bytes(save_and_reload_model_with_shape_infer(copy.deepcopy(proto)).SerializeToString())
        augmented = str(Path(folder) / "augmented.onnx")
        collecting = create_calibrator(file, op_types, augmented, method, extra_options=options)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints how many bins it has
            for (
                batch
            ) in batches:  # one at a time: histograms of all activations of all images at once would fill the memory
                collecting.collect_data(_Reader([batch]))
            found = collecting.compute_data()
    return {
        name: (float(np.min(data.range_value[0])), float(np.max(data.range_value[1]))) for name, data in found.items()
    }


def _batches(proto: onnx.ModelProto, calibration: Sequence[Images]) -> list[dict[str, Images]]:
    """Return feeds of the model's batch size. Raises InputError for images that do not fit its only input."""
    weights = {t.name for t in proto.graph.initializer}
    inputs = [i for i in proto.graph.input if i.name not in weights]
    dims = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim] if inputs else []  # 0 where free
    if len(inputs) != 1 or len(dims) != 4:
        raise InputError(
            f"a model with the inputs {[i.name for i in inputs]}",
            "one input of images (N, 3, H, W) to calibrate int8 with",
        )
    if not calibration or not sum(len(c) for c in calibration):
        raise InputError("no images to calibrate int8 with", "at least one")
    shape = calibration[0].shape
    if any(d and d != s for d, s in zip(dims[1:], shape[1:], strict=True)):
        raise InputError(
            f"calibration images of shape {shape[1:]} for a model of {tuple(dims[1:])}",
            "images of the model's size",
        )
    if not dims[0]:
        return [{inputs[0].name: c} for c in calibration]
    images = np.concatenate(list(calibration))
    count = max(1, len(images) // dims[0])  # what does not fill a batch is left out; too few images are repeated
    return [{inputs[0].name: images[np.arange(i * dims[0], (i + 1) * dims[0]) % len(images)]} for i in range(count)]
