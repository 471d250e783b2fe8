"""Number formats and devices of training."""

from __future__ import annotations

import contextlib
import sys

import torch

from search_spaces.errors import InputError


def device_of(name: str = "auto") -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r}", "auto, cpu, cuda or cuda:<index>") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"device {name!r}",
            "a machine on which torch sees a GPU",
            "use --device cpu, or install a CUDA build of torch",
        )
    return device


def resolve(precision: str, device: torch.device) -> str:
    """``auto`` is bf16 where the hardware computes in it (a GPU that says so, a CPU with AVX512-BF16 or AMX), else
    fp32: emulated bf16 is slower."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Autocast in a resolved precision; nothing for fp32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16 if precision == "bf16" else torch.float16)


def peak_memory_mib(device: torch.device) -> float:
    """The most memory that was held so far: what torch held of the GPU, else this process's (0 where the system does
    not tell)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
