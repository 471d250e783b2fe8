"""Lower precisions of an ONNX file: fp16, and int8 as Q/DQ nodes in the form that a runtime computes fast. Needs no torch.

The decode tail, all that comes after the heads' last convolutions (the softmax over box sides, products, concatenations), is never quantized: with it
quantized, a small trained detector fell from mAP 0.71 to 0.03.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from latency_db.device import DeviceFingerprint
from latency_db.profiler import Workload
from search_spaces.errors import InputError
from search_spaces.registry import unknown

if TYPE_CHECKING:
    import onnx

Pictures = npt.NDArray[np.float32]

KINDS = ("s8", "u8")
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
OLDEST_OPSET = 13
VNNI = ("avx512_vnni", "avx_vnni", "amx_int8")


@dataclass(frozen=True)
class Int8Form:
    """Where a runtime wants quantizing and dequantizing nodes, and of which kind.

    ``activation`` and ``weight``: ``s8`` or ``u8``. ``symmetric`` activations have their zero point in the middle (0, or 128 of ``u8``).
    ``op_types`` () means every operator the quantizer knows. ``bias``: int32 biases. ``outputs``: nodes also behind each operator, not only before it.
    ``last_convs``: the heads' last convolutions too; with ``outputs`` that would quantize what the decode tail reads, and is refused.
    ``weight_bits`` 7 halves the range of weights, for CPUs that add products of 8 bits in 16 (:meth:`on`).
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
            raise InputError("an int8 form with outputs and last_convs", "one of them: the decode tail reads the last convolutions' outputs")
        if self.weight_bits not in (7, 8):
            raise InputError(f"{self.weight_bits} bits of weights", "7 or 8")

    def on(self, cpu: DeviceFingerprint) -> Int8Form:
        """This form with as many bits as that CPU multiplies without overflow.

        x86 without VNNI saturates sums of two products of 8 bits: on a trained yolo-nano, OpenVINO's scores were off by 0.05 in the mean with 8 bits and
        by 0.005 with 7, as much as the rounding itself (AMD Zen 3).
        """
        saturates = cpu.machine.lower() in ("x86_64", "amd64") and not {*VNNI} & {*cpu.flags}
        return replace(self, weight_bits=7) if saturates else self


@contextmanager
def converted(workload: Workload, precision: str, form: Int8Form | None = None) -> Iterator[Workload]:
    """The workload with its file in this precision, for as long as the context lasts; a file that is in it already stays as it is.

    Of the precisions only fp16 and int8 are in the file; fp32 is the file itself, bf16 a setting of the runtime. ``form`` is needed for int8.
    """
    if precision not in ("fp16", "int8"):
        yield workload
        return
    model = workload.path()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / model.name
        if _has(model, precision):
            out = model
        elif precision == "fp16":
            fp16(model, out)
        elif workload.calibration is None:
            hint = "give a data set: --data digits, a COCO or YOLO folder, or a yaml"
            raise InputError(f"int8 of {workload.key} without pictures", "some to calibrate the ranges of activations with", hint)
        else:
            assert form is not None
            int8(model, out, form, workload.calibration())
        yield replace(workload, onnx=out)


def fp16(model: Path, out: Path) -> Path:
    """The file computed in float16. Inputs and outputs stay float32, and so does the decode tail: box sides are pixels, of which float16 knows few.

    The library converts the part before the tail alone: told to spare the tail's nodes, it would round to float16 between any two of them.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    proto = _read(model)
    body, tail = _cut(proto, decode_tail(proto))
    return _write(_join(convert_float_to_float16(body, keep_io_types=True), tail), out)


def int8(model: Path, out: Path, form: Int8Form, calibration: Sequence[Pictures]) -> Path:
    """The file with Q/DQ nodes; activation ranges are the extremes over ``calibration``, arrays (N, 3, S, S) float32 in 0..1.

    Raises InputError for pictures that do not fit the model's input, and for a model with nothing to quantize.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    kinds = {"s8": QuantType.QInt8, "u8": QuantType.QUInt8}
    proto = _read(model)
    batches = _batches(proto, calibration)
    tail = decode_tail(proto)
    spared = tail if form.last_convs else tail | last_convs(proto)
    if not any(n.op_type == "Conv" and n.name not in spared for n in proto.graph.node):
        raise InputError(f"{model.name} has no convolution to quantize", "a network with convolutions")
    options: dict[str, Any] = {
        "ActivationSymmetric": form.symmetric,
        "WeightSymmetric": True,
        "QuantizeBias": form.bias,
        "OpTypesToExcludeOutputQuantization": [] if form.outputs else sorted({n.op_type for n in proto.graph.node}),
    }
    # Says that shapes are known and BatchNorms folded, which is so; without it the quantizer warns and asks for its own pass.
    proto.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "int8.onnx"  # a failure must not leave half a file
        quantize_static(
            proto,
            draft,
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(form.op_types) or None,
            per_channel=form.per_channel,
            reduce_range=form.weight_bits == 7,
            activation_type=kinds[form.activation],
            weight_type=kinds[form.weight],
            nodes_to_exclude=sorted(spared),
            calibrate_method=CalibrationMethod.MinMax,
            extra_options=options,
        )
        out.write_bytes(draft.read_bytes())
    return out


class _Reader:
    """What ``quantize_static`` asks for its feeds."""

    def __init__(self, feeds: Iterable[Mapping[str, Pictures]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Mapping[str, Pictures] | None:
        return next(self._feeds, None)


def _has(model: Path, precision: str) -> bool:
    """Whether a file computes in this precision already."""
    import onnx

    graph = _parsed(model).graph
    if precision == "int8":
        return any(n.op_type in ("QuantizeLinear", "DequantizeLinear") for n in graph.node)
    return any(t.data_type == onnx.TensorProto.FLOAT16 for t in graph.initializer)


def decode_tail(proto: onnx.ModelProto) -> set[str]:
    """Names of the nodes that no layer comes after, layers themselves not counted."""
    return {n.name for n, layer, leads in _walk(proto) if not layer and not leads}


def last_convs(proto: onnx.ModelProto) -> set[str]:
    """Names of the layers that no layer comes after."""
    return {n.name for n, layer, leads in _walk(proto) if layer and not leads}


def _walk(proto: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, bool, bool]]:
    """Last node first: a node, whether it is a layer, and whether a layer comes after it.

    A layer is a convolution or matrix product with weights. Those of a box decoding count 0, 1, 2, …: they are part of the tail.
    """
    from onnx import numpy_helper

    weights = {t.name: t for t in proto.graph.initializer if len(t.dims) > 1}

    def is_layer(n: onnx.NodeProto) -> bool:
        given = [weights[i] for i in n.input[1:] if i in weights] if n.op_type in LAYERS else []
        if not given:
            return False
        values = numpy_helper.to_array(given[0]).ravel()
        return not (len(values) > 1 and np.array_equal(values, np.arange(len(values))))

    leads: set[str] = set()  # tensors with a layer after them
    for n in reversed(proto.graph.node):
        layer, ahead = is_layer(n), any(o in leads for o in n.output)
        if layer or ahead:
            leads.update(n.input)
        yield n, layer, ahead


def _cut(proto: onnx.ModelProto, names: set[str]) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The model without these last nodes, and the model of these alone; the first one's outputs are what the second reads of it."""
    import onnx

    head, tail = onnx.ModelProto(), onnx.ModelProto()
    for part, inside in ((head, False), (tail, True)):
        part.CopyFrom(proto)
        nodes = [n for n in proto.graph.node if (n.name in names) is inside]
        read = {i for n in nodes for i in n.input}
        _replace(part.graph.node, nodes)
        _replace(part.graph.initializer, [t for t in proto.graph.initializer if t.name in read])
    made = {o for n in head.graph.node for o in n.output}
    wanted = {i for n in tail.graph.node for i in n.input} | {o.name for o in proto.graph.output}
    _replace(head.graph.output, [onnx.helper.make_tensor_value_info(o, onnx.TensorProto.FLOAT, None) for o in sorted(made & wanted)])
    return head, tail


def _join(head: onnx.ModelProto, tail: onnx.ModelProto) -> onnx.ModelProto:
    """Inverse of :func:`_cut`, also when the first part was rewritten; an initializer that both have under one name gets a second name."""
    from onnxruntime.quantization.onnx_model import ONNXModel

    taken = {t.name for t in head.graph.initializer}
    for t in tail.graph.initializer:
        name = t.name + "/tail" if t.name in taken else t.name
        head.graph.initializer.add().CopyFrom(t)
        head.graph.initializer[-1].name = name
        for n in tail.graph.node:
            _replace(n.input, [name if i == t.name else i for i in n.input])
    head.graph.node.extend(tail.graph.node)
    _replace(head.graph.output, tail.graph.output)
    joined = ONNXModel(head)
    joined.topological_sort()
    model: onnx.ModelProto = joined.model
    return model


def _replace(field: Any, items: Iterable[Any]) -> None:
    kept = list(items)
    del field[:]
    field.extend(kept)


def _batches(proto: onnx.ModelProto, calibration: Sequence[Pictures]) -> list[dict[str, Pictures]]:
    """Feeds of the size that the model's only input takes."""
    weights = {t.name for t in proto.graph.initializer}
    inputs = [i for i in proto.graph.input if i.name not in weights]
    dims = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim] if inputs else []  # 0 where free
    if len(inputs) != 1 or len(dims) != 4:
        raise InputError(f"a model with the inputs {[i.name for i in inputs]}", "one input of pictures (N, 3, S, S) to calibrate int8 with")
    if not calibration or not sum(len(c) for c in calibration):
        raise InputError("no pictures to calibrate int8 with", "at least one")
    shape = calibration[0].shape
    if any(d and d != s for d, s in zip(dims[1:], shape[1:], strict=True)):
        raise InputError(f"calibration pictures of shape {shape[1:]} for a model of {tuple(dims[1:])}", "pictures of the model's size")
    if not dims[0]:
        return [{inputs[0].name: c} for c in calibration]
    pictures = np.concatenate(list(calibration))
    count = max(1, len(pictures) // dims[0])  # what does not fill a batch is left out; too few pictures are repeated
    return [{inputs[0].name: pictures[np.arange(i * dims[0], (i + 1) * dims[0]) % len(pictures)]} for i in range(count)]


def _parsed(path: Path) -> onnx.ModelProto:
    import onnx

    try:
        return onnx.load(str(path))
    except Exception as error:  # noqa: BLE001 (what a broken file raises is a class of protobuf's, which is no library of ours)
        raise InputError(f"cannot read {path.name}: {' '.join(str(error).split())}", "an ONNX file") from None


def _read(path: Path) -> onnx.ModelProto:
    """A model whose nodes all have names, whose BatchNorms are folded and whose weights are initializers."""
    proto = _parsed(path)
    opset = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        raise InputError(f"{path.name} has opset {opset}", f"{OLDEST_OPSET} or later, which can say per-channel int8", "export it again")
    weights = {t.name for t in proto.graph.initializer}
    if any(n.op_type == "BatchNormalization" or (n.op_type in LAYERS and n.input[1] not in weights) for n in proto.graph.node):
        proto = _folded(path)
    for i, n in enumerate(proto.graph.node):
        n.name = n.name or f"{n.op_type}_{i}"
    return proto


def _folded(path: Path) -> onnx.ModelProto:
    """The model after ONNX Runtime's basic rewriting: constants folded, BatchNorms merged into convolutions, standard operators only."""
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def _write(proto: onnx.ModelProto, out: Path) -> Path:
    out.write_bytes(proto.SerializeToString())
    return out
