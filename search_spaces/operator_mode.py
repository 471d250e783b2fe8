"""The base of what watches the operators of a forward pass."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class OperatorMode(TorchDispatchMode):
    """A dispatch mode that does not import torch's compiler.

    A plain ``TorchDispatchMode`` imports ``torch._dynamo`` with its first operator, which delays the start of a command,
    in order to keep the compiler out of ``__torch_dispatch__``. No forward pass under such a mode is compiled here.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
