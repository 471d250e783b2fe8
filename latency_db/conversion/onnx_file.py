"""What the engines that read ONNX files share: the shapes and values to feed, and the node that an error is about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.errors import InputError

# How runtimes say that they lack an operator: ONNX Runtime, OpenVINO, TensorRT.
LACKS = re.compile(
    r"not (a )?(registered|support|implement)|unsupported|no conversion|could not find an implementation|importer",
    re.IGNORECASE,
)


def input_shape(name: str, dims: Sequence[int | str | None], batch: int, image_size: int | None) -> list[int]:
    """The shape to feed: a free first dimension takes the batch, a free height or width of a 4-D input the image size
    (pixels).

    A dimension that is fixed to something else, or free with nothing to set it, is an error: another network would be
    timed than was asked for.
    """
    wanted: list[int | None] = [batch] + [None] * (len(dims) - 1)
    if len(dims) == 4:
        wanted[2:] = [image_size, image_size]
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


def drawn(name: str, dtype: npt.DTypeLike, shape: Sequence[int], rng: np.random.Generator) -> npt.NDArray[Any]:
    """Normally distributed numbers for an input, bytes for one of bytes: all-zero input would be computed faster, or
    with less power."""
    kind = np.dtype(dtype)
    if kind == np.uint8:
        return rng.integers(0, 256, shape, np.uint8)
    if kind.kind != "f":
        raise InputError(f"input {name!r} of type {kind}", "float32, float16, float64 or uint8")
    return rng.standard_normal(shape).astype(kind)


@contextmanager
def naming_nodes(model: str) -> Iterator[None]:
    """Adds to an error that says an operator is unsupported which nodes of the file ``model`` those are, if the
    runtime did not."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        nodes = _nodes(model, said) if LACKS.search(said) else []
        raise InputError(f"{said[:350]}; node {', '.join(nodes[:3])}" if nodes else said) from error


def _nodes(model: str, said: str) -> list[str]:
    """``name (operator)`` of the nodes whose operator is a word of the text and whose name is not."""
    try:
        import onnx
    except ModuleNotFoundError:  # a board has the runtime only
        return []
    words = set(re.findall(r"\w+", said))
    nodes = onnx.load(model, load_external_data=False).graph.node
    return [f"{n.name!r} ({n.op_type})" for n in nodes if n.op_type in words and n.name and n.name not in said]
