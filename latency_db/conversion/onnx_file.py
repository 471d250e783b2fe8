"""Inputs of ONNX models (shapes and random values), and errors that name the node they are about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.errors import InputError
from search_spaces.image_size import AnySize, ImageSize

# Messages of ONNX Runtime, OpenVINO and TensorRT about an operator that they lack.
UNSUPPORTED_OPERATOR = re.compile(
    r"not (a )?(registered|support|implement)|unsupported|no conversion|could not find an implementation|importer",
    re.IGNORECASE,
)


def input_shape(name: str, dims: Sequence[int | str | None], batch: int, image_size: AnySize | None) -> list[int]:
    """Return the shape to feed to one input.

    A free first dimension becomes the batch, a free height or width of a 4-D input that of the image size.

    Raises:
        InputError: A dimension is fixed to another number, or is free and nothing sets it: another network would be
            timed than was asked for.
    """
    wanted: list[int | None] = [batch] + [None] * (len(dims) - 1)
    if len(dims) == 4 and image_size is not None:
        wanted[2:] = ImageSize.of(image_size).shape
    shape = []
    for i, (dim, want) in enumerate(zip(dims, wanted, strict=False)):
        if isinstance(dim, int) and want is not None and dim != want:
            raise InputError(
                f"input {name!r} has dimension {i} fixed to {dim}",
                f"{want} or a free dimension",
                "export it for this target",
            )
        size = dim if isinstance(dim, int) else want
        if size is None:
            raise InputError(
                f"input {name!r} has the free dimension {i} ({dim})",
                "a fixed one",
                "give the image size in the target: …@640",
            )
        shape.append(size)
    return shape


def random_input(name: str, dtype: npt.DTypeLike, shape: Sequence[int], rng: np.random.Generator) -> npt.NDArray[Any]:
    """Return an array of the given shape: normally distributed values, or uniform bytes for an input of bytes.

    All-zero input would be computed faster, or with less power.

    Raises:
        InputError: The type is none of float32, float16, float64 and uint8.
    """
    kind = np.dtype(dtype)
    if kind == np.uint8:
        return rng.integers(0, 256, shape, np.uint8)
    if kind.kind != "f":
        raise InputError(f"input {name!r} of type {kind}", "float32, float16, float64 or uint8")
    return rng.standard_normal(shape).astype(kind)


@contextmanager
def naming_nodes(model: str) -> Iterator[None]:
    """Turn errors into InputError; one about an unsupported operator names its nodes in the file ``model``."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        nodes = _nodes(model, message) if UNSUPPORTED_OPERATOR.search(message) else []
        raise InputError(f"{message[:350]}; node {', '.join(nodes[:3])}" if nodes else message) from error


def _nodes(model: str, message: str) -> list[str]:
    """Return ``name (operator)`` of the nodes whose operator is a word of the message and whose name is not."""
    try:
        import onnx
    except ModuleNotFoundError:  # a board has the runtime only
        return []
    words = set(re.findall(r"\w+", message))
    nodes = onnx.load(model, load_external_data=False).graph.node
    return [f"{n.name!r} ({n.op_type})" for n in nodes if n.op_type in words and n.name and n.name not in message]
