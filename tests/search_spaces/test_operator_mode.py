"""Shapes on the meta device are those of torch, and computing them does not import torch's compiler."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from search_spaces.operator_mode import META, OperatorMode, result_of
from search_spaces.references import references


class Seen(OperatorMode):
    """Runs every operator by ``result_of`` and notes which ones ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return result_of(func, args, kwargs or {})


X = (2, 4, 13, 9)
CALLS: dict[str, Callable[[Tensor], Any]] = {
    "add": lambda x: x + torch.zeros(2, 1, 1, 9, device=x.device),
    "add of a number": lambda x: x + 1.0,
    "add scaled": lambda x: torch.add(x, x, alpha=2),
    "mul": lambda x: torch.zeros(4, 1, 1, device=x.device) * x,
    "silu": F.silu,
    "silu in place": lambda x: F.silu(x + 0, inplace=True),
    "add in place": lambda x: (x + 0).add_(1.0),
    "mul in place": lambda x: (x + 0).mul_(x),
    "leaky ReLU in place": lambda x: F.leaky_relu(x + 0, 0.1, inplace=True),
    "softmax": lambda x: x.softmax(1),
    "cat": lambda x: torch.cat([x, x[:, :1]], 1),
    "cat of the last axis": lambda x: torch.cat([x, x], -1),
    "convolution": lambda x: F.conv2d(x, torch.zeros(6, 2, 3, 5, device=x.device), None, 2, (1, 2), (1, 2), 2),
    "transposed": lambda x: F.conv_transpose2d(x, torch.zeros(4, 3, 3, 2, device=x.device), None, 2, 1, 1, 2, (1, 2)),
    "max pool": lambda x: F.max_pool2d(x, 5, 1, 2),
    "max pool without stride": lambda x: F.max_pool2d(x, 2),
    "max pool that rounds up": lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "average pool": lambda x: F.avg_pool2d(x, 2, 1, 0, False, True),
    "average pool that rounds up": lambda x: F.avg_pool2d(x, (2, 3), 2, ceil_mode=True),
    "upsample": lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"),
    "upsample to a size": lambda x: F.interpolate(x, size=(20, 30), mode="nearest"),
    "bmm": lambda x: torch.bmm(x.flatten(2), x.flatten(2).transpose(1, 2)),
}


def described(out: Any) -> Any:
    return tree_map(lambda t: (tuple(t.shape), t.dtype), out)


@pytest.mark.parametrize("name", CALLS)
def test_shapes_are_those_of_torch(name: str) -> None:
    call = CALLS[name]
    expected = described(call(torch.zeros(X)))
    with torch.no_grad(), Seen():
        assert described(call(torch.zeros(X, device="meta"))) == expected


WRONG: dict[str, Callable[[Tensor], Any]] = {
    "channels": lambda x: F.conv2d(x, torch.zeros(6, 3, 3, 3, device=x.device)),
    "cat": lambda x: torch.cat([x, x[..., :4]], 1),
    "bmm": lambda x: torch.bmm(x.flatten(2), x.flatten(2)),
}


@pytest.mark.parametrize("name", WRONG)
def test_shapes_that_do_not_fit_are_refused(name: str) -> None:
    with torch.no_grad(), Seen(), pytest.raises(RuntimeError):
        WRONG[name](torch.zeros(X, device="meta"))


def test_every_operator_is_compared() -> None:
    with torch.no_grad(), Seen() as seen:
        for call in CALLS.values():
            call(torch.zeros(X, device="meta"))
    assert set(META) <= seen.names


def test_elsewhere_the_operator_itself_runs() -> None:
    x = torch.randn(X)
    with torch.no_grad(), Seen():
        out = F.silu(x)
    assert torch.equal(out, F.silu(x))


def test_no_network_needs_the_compiler() -> None:
    """One reference per space, traced and written as ONNX, in a process of its own."""
    of_space = {r.architecture.space: name for name, r in references().items()}
    code = """
import sys
from search_spaces.onnx import build_onnx
from search_spaces.references import reference
from search_spaces.spaces import space_of
from search_spaces.trace import trace
for name in sys.argv[1:]:
    a = reference(name).architecture
    graph = space_of(a).graph(a)
    trace(graph, 3, 64)
    build_onnx(graph, 3, 64)
    found = {"torch._dynamo", "sympy"} & set(sys.modules)
    assert not found, (name, found)
"""
    subprocess.run([sys.executable, "-c", code, *of_space.values()], check=True, timeout=600)
