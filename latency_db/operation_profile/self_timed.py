"""What the engines of operation profiles share: an engine that times itself, plain and profiled runs in turn.

A profile slows each operation by some microseconds, as much as a small operation takes. This overhead c is measured on
n small operations, once per process: those of the same network at a small image size, which have
the same inputs and outputs, or, without such a model, those of a chain::

    c = (sum_i t_i - T) / n,    t_i: times of the small operations by the profile, T: time of a run without it

and is subtracted from every operation of the network, of which at least :data:`LEAST_SHARE` is left.
"""

from __future__ import annotations

import math
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latency_db.operation_profile.profile import quartiles

BLOCK = 5
"""Consecutive runs of one form."""
CHAIN, CHAIN_SIZE = 40, 32
"""Pairs of operations of the chain, and the side of its images in pixels."""
LEAST_SHARE = 0.1


class ProfiledRun(ABC):
    """A loaded network; a call runs it once without the profile, :meth:`time` measures both forms.

    Attributes:
        threads: Threads that run it.
        means: Whether the profile gives means over all runs, interruptions included; those of plain runs then count,
            too.
    """

    threads = 1
    means = False

    @abstractmethod
    def __call__(self) -> object:
        """Run the network once."""

    @abstractmethod
    def profiled(self) -> None:
        """Run the network once with the profile."""

    @abstractmethod
    def operations(self, skip: int) -> list[dict[str, Any]]:
        """Return name, kind and median ms of every operation over the profiled runs, without the first ``skip``."""

    @abstractmethod
    def another(self, model: Path, image_size: int) -> ProfiledRun:
        """Load another model with the same settings, in float32."""

    def time(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the operations, the quartiles of plain runs in ms, and the overhead of the profile per operation, ms.

        ``request["runs"]``: runs of either form; ``request["small"]``: path and image size of the same network at a
        small image size, None to take a chain; ``request["overhead_ms"]``: the overhead where it is known, else None.
        """
        (low, middle, high), operations = self._measured(int(request["runs"]))
        overhead = request.get("overhead_ms")
        if overhead is None:
            small = request.get("small")
            overhead = self._overhead(int(request["runs"]), None if small is None else (Path(small[0]), int(small[1])))
        for row in operations:
            row["ms"] = max(row["ms"] - overhead, LEAST_SHARE * row["ms"])
        return {
            "operations": operations,
            "run_ms": middle,
            "run_low_ms": low,
            "run_high_ms": high,
            "overhead_ms": overhead,
        }

    def _measured(self, runs: int) -> tuple[tuple[float, float, float], list[dict[str, Any]]]:
        plain: list[float] = []
        for _ in range(2 * BLOCK):
            self()
            self.profiled()
        for _ in range(max(1, -(-runs // BLOCK))):
            self()
            plain += [self._run_ms() for _ in range(BLOCK)]
            for _ in range(BLOCK):
                self.profiled()
        low, middle, high = quartiles(plain)
        return (low, math.fsum(plain) / len(plain) if self.means else middle, high), self.operations(2 * BLOCK)

    def _run_ms(self) -> float:
        """Return the time of a plain run, ms: of one thread the CPU's, so that preemption does not count."""
        start, cpu = time.perf_counter_ns(), time.process_time_ns()
        self()
        wall, cpu = time.perf_counter_ns() - start, time.process_time_ns() - cpu
        return (min(wall, cpu) if cpu and self.threads == 1 and not self.means else wall) / 1e6

    def _overhead(self, runs: int, small: tuple[Path, int] | None) -> float:
        with tempfile.TemporaryDirectory(prefix="nas-chain-") as folder:
            model, size = small or (write_chain(Path(folder) / "chain.onnx"), CHAIN_SIZE)
            (_, plain, _), operations = self.another(model, size)._measured(runs)
        return max(0.0, (sum(row["ms"] for row in operations) - plain) / max(1, len(operations)))


def write_chain(path: Path) -> Path:
    """Write a chain of :data:`CHAIN` small convolutions and poolings, which no runtime fuses, and return its path."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save_model

    rng = np.random.default_rng(0)
    nodes, weights, last, channels = [], [], "images", 3
    for i in range(CHAIN):
        weight = rng.standard_normal((8, channels, 1, 1)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{i}"))
        weights.append(numpy_helper.from_array(np.zeros(8, np.float32), f"b{i}"))
        nodes.append(helper.make_node("Conv", [last, f"w{i}", f"b{i}"], [f"c{i}"], f"chain/Conv_{i}"))
        pooled = "boxes" if i == CHAIN - 1 else f"p{i}"
        nodes.append(
            helper.make_node(
                "MaxPool", [f"c{i}"], [pooled], f"chain/MaxPool_{i}", kernel_shape=[3, 3], pads=[1, 1, 1, 1]
            )
        )
        last, channels = pooled, 8
    shape = [1, 3, CHAIN_SIZE, CHAIN_SIZE]
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)
    boxes = helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 8, CHAIN_SIZE, CHAIN_SIZE])
    graph = helper.make_graph(nodes, "chain", [image], [boxes], weights)
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path
