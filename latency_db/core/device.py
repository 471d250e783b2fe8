"""The fingerprint of a machine: the part of a measurement's key that no target string expresses."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from search_spaces.errors import InputError
from search_spaces.text import brief

# Instruction sets that change which kernels a runtime picks, as the Linux kernel names them (x86, then Arm).
# fmt: off
FLAGS = (
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "avx_vnni", "amx_tile", "amx_int8", "amx_bf16",
    "asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2",
)
# fmt: on

COMPUTES = {"bf16": ("avx512_bf16", "amx_bf16", "bf16"), "fp16": ("avx512_fp16", "asimdhp")}
"""Any of these makes a CPU compute in the precision."""


@dataclass(frozen=True)
class DeviceFingerprint:
    """Machine type, CPU model, logical cores, relevant instruction sets, memory in GiB, accelerator and its driver.

    Runtimes of accelerators set the last two fields.
    """

    machine: str
    cpu: str
    cores: int
    flags: tuple[str, ...]
    memory_gib: int
    accelerator: str = ""
    driver: str = ""

    @cached_property
    def id(self) -> str:
        """12 hex digits of the SHA-256 of all fields."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, JSON-ready."""
        return {**asdict(self), "flags": list(self.flags)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DeviceFingerprint:
        """Return the fingerprint of :meth:`to_dict`'s result. Raises InputError for missing fields or other types."""
        try:
            values = {f.name: data[f.name] for f in fields(cls)}
        except (KeyError, TypeError) as error:
            raise InputError(
                f"not a device fingerprint ({type(error).__name__}: {error})",
                f"an object with {[f.name for f in fields(cls)]}",
            ) from None
        flags = values["flags"]
        typed = isinstance(flags, (list, tuple)) and all(isinstance(flag, str) for flag in flags)
        typed = typed and all(isinstance(values[n], int) for n in ("cores", "memory_gib"))
        if not typed or not all(isinstance(values[n], str) for n in ("machine", "cpu", "accelerator", "driver")):
            raise InputError(f"device fingerprint {brief(dict(data))}", "text and whole numbers in its fields")
        return cls(**{**values, "flags": tuple(flags)})

    @classmethod
    def read(cls) -> DeviceFingerprint:
        """Read the fingerprint of this machine; what the system does not report is empty or 0."""
        info = cpu_info(Path("/proc/cpuinfo"))
        present = set(f"{info.get('flags', '')} {info.get('Features', '')}".split())
        return cls(
            platform.machine(),
            cpu_name(info),
            os.cpu_count() or 1,
            tuple(f for f in FLAGS if f in present),
            memory_gib(),
        )


def unsupported_precision(precision: str, device: DeviceFingerprint) -> str | None:
    """Return why the CPU does not compute in a precision (a runtime would emulate it); None if it does."""
    wanted = COMPUTES.get(precision, ())
    return (
        f"this CPU does not compute in {precision} ({', '.join(wanted)})"
        if wanted and not {*wanted} & {*device.flags}
        else None
    )


def cpu_info(path: Path) -> dict[str, str]:
    """Return the fields of /proc/cpuinfo (of its first CPU); empty if there is no such file."""
    info: dict[str, str] = {}
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return info
    for line in lines:
        name, _, value = line.partition(":")
        info.setdefault(name.strip(), value.strip())
    return info


def cpu_name(info: Mapping[str, str]) -> str:
    """Return the CPU's model name with family, model and stepping; of an Arm board the fields that name it.

    Virtual machines shorten the name and leave the numbers.
    """
    if "model name" in info and "cpu family" in info:
        model, stepping = info.get("model", "?"), info.get("stepping", "?")
        return f"{info['model name']} (family {info['cpu family']} model {model} stepping {stepping})"
    arm = " ".join(info[k] for k in ("Model", "Hardware", "model name", "CPU implementer", "CPU part") if k in info)
    return arm or platform.processor() or platform.machine()


def memory_gib() -> int:
    """Return physical memory in GiB, rounded so that the kernel's share does not matter; 0 if not reported."""
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
    except (AttributeError, ValueError, OSError):
        return 0
