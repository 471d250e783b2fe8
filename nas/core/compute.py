"""Devices and number formats of trainings."""

from __future__ import annotations

import contextlib
import sys

import torch

from search_spaces.errors import InputError


def device_of(name: str = "auto") -> torch.device:
    """Return the device that ``--device`` names; ``auto`` is CUDA where torch sees a GPU, else the CPU.

    Raises InputError, with the devices of this machine, for every other device than ``cpu``, ``cuda`` and
    ``cuda:<index>``.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if gpus else "cpu")
    usable = ", ".join(["auto", "cpu", *(["cuda"] if gpus else []), *(f"cuda:{i}" for i in range(gpus))])
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r}", f"one of {usable}") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device {name!r}", f"one of {usable}", "networks run on CPUs and on CUDA GPUs")
    if device.type == "cuda" and (device.index or 0) >= gpus:
        hint = "torch sees fewer GPUs" if gpus else "use --device cpu, or install a CUDA build of torch"
        raise InputError(f"device {name!r}", f"one of {usable}", hint)
    return device


def resolve(precision: str, device: torch.device) -> str:
    """Return the number format of a training on ``device``: fp32, bf16 or fp16.

    ``auto`` is bf16 where the hardware computes in it (a GPU that reports it, a CPU with AVX512-BF16 or AMX). Else it
    is fp16 on GPUs and fp32 on CPUs: emulated bf16 is slower.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return an autocast context for a resolved precision; for fp32 it does nothing."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16 if precision == "bf16" else torch.float16)


def peak_memory_mib(device: torch.device) -> float:
    """Return the peak memory in MiB: of torch's tensors on a GPU, else of this process (0 where the system does not
    report it)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
