"""A TensorRT library that runs nothing but keeps the rules of the real ones: what happens in which order, and what
must stay alive."""

from __future__ import annotations

import weakref
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np

IN, OUT = "images", "scores"


class ILogger:
    def __init__(self) -> None:
        self.log: Any


class TensorIOMode(Enum):
    INPUT = 0
    OUTPUT = 1


class Library(SimpleNamespace):
    """``rtx`` has runtime configurations and graphs of its own; ``fails`` names the step that refuses, with ``says``
    in the log."""

    def __init__(self, rtx: bool = False, fails: str = "", says: str = "it broke") -> None:
        super().__init__(
            ILogger=ILogger, TensorIOMode=TensorIOMode, __name__="fake_trt", __version__="0.1", nptype=lambda kind: kind
        )
        self.fails, self.says, self.calls = fails, says, list[str]()
        self.Runtime = lambda listener: _Runtime(self, listener)
        if rtx:
            self.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")

    def does(self, step: str, listener: Any) -> bool:
        """Notes a step; False, and an error in the log, for the one that fails."""
        self.calls.append(step)
        if step == self.fails:
            listener.log("Severity.ERROR", self.says)
        return step != self.fails


class _Runtime:
    def __init__(self, library: Library, listener: Any) -> None:
        self.library, self.listener = library, listener

    def deserialize_cuda_engine(self, content: bytes) -> Any:
        return _Engine(self) if self.library.does("load", self.listener) else None


class _Engine:
    num_io_tensors = 2

    def __init__(self, runtime: _Runtime) -> None:
        self._runtime = weakref.ref(runtime)
        self.library, self.listener = runtime.library, runtime.listener

    def create_runtime_config(self) -> Any:
        return _Config()

    def create_execution_context(self, config: Any = None) -> Any:
        return _Context(self, config) if self.library.does("context", self.listener) else None

    def get_tensor_name(self, i: int) -> str:
        return (IN, OUT)[i]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == IN else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return np.float32

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 3, 8, 8) if name == IN else (-1, 10)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(4, 3, 8, 8)] * 3


class _Cache:
    content = b""

    def serialize(self) -> bytes:
        return b"kernels"

    def deserialize(self, blob: bytes) -> bool:
        return blob == b"kernels"


class _Config:
    cuda_graph_strategy = "none"
    cache: Any = None

    def create_runtime_cache(self) -> Any:
        return _Cache()

    def set_runtime_cache(self, cache: Any) -> None:
        self.cache = weakref.ref(
            cache
        )  # the library keeps no reference of its own: dropping the cache crashes the process


class _Context:
    def __init__(self, engine: _Engine, config: Any) -> None:
        self._engine, self._config = weakref.ref(engine), config
        self.library, self.listener = engine.library, engine.listener
        self.batch, self.bound = -1, dict[str, int]()

    def set_input_shape(self, name: str, shape: list[int]) -> None:
        self.batch = shape[0]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.batch, 3, 8, 8) if name == IN else (self.batch, 10)

    def set_tensor_address(self, name: str, address: int) -> None:
        self.bound[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        alive = self._engine() is not None and (self._config is None or self._config.cache() is not None)
        assert alive and set(self.bound) == {IN, OUT} and stream == 7
        strategy = "" if self._config is None else f" {self._config.cuda_graph_strategy}"
        return self.library.does(f"run{strategy}", self.listener)
