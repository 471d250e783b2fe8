"""Operations of ncnn on the CPU, by extracting the result of one layer after the other.

A layer's inputs are then computed already, so that each extraction takes the time of the layer alone. Results are left
in ncnn's own layout (type 1): converting them would take longer than some layers. pnnx renames all layers, so that the
parts of the network are found by the sequence of the convolutions, which is that of the ONNX file.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency_db.conversion.ncnn_file import convert
from latency_db.conversion.onnx_file import naming_nodes, random_input
from latency_db.operation_profile.node_costs import costs_of
from latency_db.operation_profile.onnxruntime_engine import mean_of_middle
from latency_db.operation_profile.self_timed import ProfiledRun
from latency_db.runtimes import ncnn as runtime

CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise", "Deconvolution", "DeconvolutionDepthWise")
OWN_LAYOUT = 1
"""Type of an extraction: the result as ncnn keeps it."""


def prepare() -> None:
    """Import what the engine needs."""
    runtime.prepare()


def engine(request: Mapping[str, Any]) -> tuple[ProfiledRun, dict[str, Any]]:
    """Convert and load ``request["model"]``.

    Raises:
        InputError: ncnn cannot convert or load the model.
    """
    return NcnnRun(request), {"runtime": "ncnn"}


@dataclass(frozen=True)
class Layer:
    """A layer of a converted network: kind, name, the blobs that it writes, and its output channels (0: no
    convolution)."""

    kind: str
    name: str
    blobs: tuple[str, ...]
    channels: int


class NcnnRun(ProfiledRun):
    """A network of ncnn, extracted at its outputs or at every layer."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        import numpy as np

        self._request, self.threads = dict(request), int(request["threads"])
        model = Path(request["model"])
        with tempfile.TemporaryDirectory() as folder, naming_nodes(str(model)):
            file = convert(model, Path(folder), 1, request["image_size"])
            self._network = runtime.NcnnNetwork(file, request["threads"])
            self._layers = layers_of(file.param.read_text())
        rng = np.random.default_rng(request["seed"])
        self._inputs = [random_input(name, "float32", shape, rng) for name, shape in file.inputs.items()]
        self._step = self._network.prepared(self._inputs)
        self._about = _rows(self._layers, model)
        self._samples: list[list[float]] = []

    def __call__(self) -> object:
        return self._step()

    def profiled(self) -> None:
        """Extract the result of every layer in turn."""
        extractor = self._network.extractor(self._inputs)
        clock = time.process_time_ns if self.threads == 1 else time.perf_counter_ns  # of plain runs, too
        times = []
        for layer in self._layers:
            start = clock()
            for blob in layer.blobs:
                extractor.extract(blob, OWN_LAYOUT)
            times.append((clock() - start) / 1e6)
        self._samples.append(times)

    def another(self, model: Path, image_size: int) -> ProfiledRun:
        """Load another model with the same settings, in float32."""
        return NcnnRun({**self._request, "model": str(model), "image_size": image_size, "precision": "fp32"})

    def operations(self, skip: int) -> list[dict[str, Any]]:
        """Return the layers."""
        columns: dict[int, list[float]] = defaultdict(list)
        for times in self._samples[skip:]:
            for i, ms in enumerate(times):
                columns[i].append(ms)
        return [{**about, "ms": mean_of_middle(columns[i])} for i, about in enumerate(self._about)]


def layers_of(param: str) -> list[Layer]:
    """Return the layers of a ``.param`` file, inputs left out.

    Each line is: kind, name, number of inputs and of outputs, input blobs, output blobs, ``key=value``.
    """
    found = []
    for line in param.splitlines()[2:]:
        kind, name, inputs, outputs, *rest = line.split()
        at = int(inputs)
        values = dict(word.split("=", 1) for word in rest if "=" in word)
        channels = int(values.get("0", 0)) if kind in CONVOLUTIONS else 0
        if kind not in ("Input", "MemoryData"):
            found.append(Layer(kind, name, tuple(rest[at : at + int(outputs)]), channels))
    return found


def _rows(layers: Sequence[Layer], model: Path) -> list[dict[str, Any]]:
    """Return name, kind, stage and cost of every layer.

    Costs and stages are those of the ONNX file's convolutions, if both have the same sequence of output channels; other
    layers belong to the part of the convolution before them. Else they are unknown.
    """
    costs = {id(cost): (name, cost) for name, cost in reversed(costs_of(model).items()) if cost.out_channels}
    convolutions = list(reversed(costs.values()))
    own = [layer.channels for layer in layers if layer.channels]
    if own != [cost.out_channels for _, cost in convolutions][: len(own)]:
        return [{"name": layer.name, "kind": layer.kind, "macs": 0, "bytes": 0} for layer in layers]
    rows: list[dict[str, Any]] = []
    waiting, stage = iter(convolutions), ""
    for layer in layers:
        about: dict[str, Any] = {"name": layer.name, "kind": layer.kind, "macs": 0, "bytes": 0}
        if layer.channels:
            name, cost = next(waiting)
            stage = name.partition("/")[0].split("_")[0] if "/" in name else ""
            about |= {"name": f"{name} ({layer.name})", "macs": cost.macs, "bytes": cost.bytes}
        rows.append({**about, "stage": stage} if stage else about)
    return rows
