"""The base of what watches the operators of a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class OperatorMode(TorchDispatchMode):
    """A dispatch mode that does not import torch's compiler.

    A plain ``TorchDispatchMode`` imports ``torch._dynamo`` with its first operator, which delays the start of a command,
    in order to keep the compiler out of ``__torch_dispatch__``. No forward pass under such a mode is compiled here.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


def result_of(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call an operator; on the meta device without importing torch's compiler.

    For some operators torch computes the shapes of the meta device in Python, and that code imports the compiler and
    SymPy, which takes seconds. :data:`META` computes the shapes of those that the networks consist of. Shapes that do
    not fit together are left to torch, which raises RuntimeError.
    """
    name = func.overloadpacket.__name__
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    if not tensors or any(t.device.type != "meta" for t in tensors):
        return func(*args, **kwargs)
    meta = None if kwargs else META.get(name)
    result = meta(*args) if meta else None
    return func(*args, **kwargs) if result is None else result


def _empty(like: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
    return torch.empty(tuple(shape), device="meta", dtype=dtype or like.dtype)


def _pointwise(*args: Any) -> Tensor:
    tensors = [t for t in args if isinstance(t, Tensor)]
    return _empty(tensors[0], np.broadcast_shapes(*(t.shape for t in tensors)))


def _cat(parts: Sequence[Tensor], axis: int = 0) -> Tensor | None:
    first, axis = parts[0].shape, axis % parts[0].dim()
    if any((*p.shape[:axis], *p.shape[axis + 1 :]) != (*first[:axis], *first[axis + 1 :]) for p in parts):
        return None
    return _empty(parts[0], (*first[:axis], sum(part.shape[axis] for part in parts), *first[axis + 1 :]))


def _pair(value: Sequence[int]) -> tuple[int, int]:
    return value[0], value[-1]


def _sides(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> tuple[int, ...]:
    """Height and width after a window has passed over an image."""
    sides = []
    for side, k, s, p, d in zip(x.shape[-2:], *map(_pair, (kernel, stride, padding, dilation)), strict=True):
        free = side + 2 * p - d * (k - 1) - 1
        places = (-(-free // s) if ceil_mode else free // s) + 1
        if ceil_mode and (places - 1) * s >= side + p:  # the last window would begin in the padding
            places -= 1
        sides.append(places)
    return tuple(sides)


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor | None:
    if x.shape[-3] != (weight.shape[0] if transposed else weight.shape[1] * groups):
        return None
    if not transposed:
        return _empty(x, (*x.shape[:-3], weight.shape[0], *_sides(x, weight.shape[-2:], stride, padding, dilation)))
    windows = zip(
        x.shape[-2:], weight.shape[-2:], *map(_pair, (stride, padding, dilation, output_padding)), strict=True
    )
    sides = ((side - 1) * s - 2 * p + d * (k - 1) + 1 + more for side, k, s, p, d, more in windows)
    return _empty(x, (*x.shape[:-3], weight.shape[1] * groups, *sides))


def _max_pool(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    shape = (*x.shape[:-2], *_sides(x, kernel, stride or kernel, padding, dilation, ceil_mode))
    return _empty(x, shape), _empty(x, shape, torch.int64)


def _average_pool(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    *_: Any,
) -> Tensor:
    return _empty(x, (*x.shape[:-2], *_sides(x, kernel, stride or kernel, padding, ceil_mode=ceil_mode)))


def _upsample(x: Tensor, size: Sequence[int], *_: Any) -> Tensor:
    return _empty(x, (*x.shape[:-2], *size))


def _first(x: Tensor, *_: Any) -> Tensor:
    return x


def _same(x: Tensor, *_: Any) -> Tensor:
    return _empty(x, x.shape)


def _matmul(x: Tensor, y: Tensor) -> Tensor | None:
    if x.shape[0] != y.shape[0] or x.shape[-1] != y.shape[-2]:
        return None
    return _empty(x, (*x.shape[:-1], y.shape[-1]))


META: Mapping[str, Callable[..., Any]] = {
    "add": _pointwise,
    "mul": _pointwise,
    "add_": _first,
    "mul_": _first,
    "silu_": _first,
    "leaky_relu_": _first,
    "silu": _same,
    "_softmax": _same,
    "cat": _cat,
    "convolution": _convolution,
    "max_pool2d_with_indices": _max_pool,
    "avg_pool2d": _average_pool,
    "upsample_nearest2d": _upsample,
    "bmm": _matmul,
}
"""The result of an operator on the meta device."""
