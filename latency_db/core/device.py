"""What machine this is: the part of a measurement's key that no target string can say."""

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

# Instruction sets that change which kernels a runtime picks, as the Linux kernel names them (x86, then Arm).
# fmt: off
FLAGS = (
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16",
    "asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2",
)
# fmt: on

COMPUTES = {"bf16": ("avx512_bf16", "amx_bf16", "bf16"), "fp16": ("avx512_fp16", "asimdhp")}
"""Any of these makes a CPU compute in the precision."""


@dataclass(frozen=True)
class DeviceFingerprint:
    """CPU model, logical cores, relevant instruction sets and memory in GiB; runtimes of accelerators fill in the
    last two fields."""

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
        """JSON-ready."""
        return {**asdict(self), "flags": list(self.flags)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DeviceFingerprint:
        """Inverse of :meth:`to_dict`."""
        try:
            values = {f.name: data[f.name] for f in fields(cls)}
        except (KeyError, TypeError) as error:
            raise InputError(
                f"not a device fingerprint ({type(error).__name__}: {error})",
                f"an object with {[f.name for f in fields(cls)]}",
            ) from None
        return cls(**{**values, "flags": tuple(values["flags"])})

    @classmethod
    def read(cls) -> DeviceFingerprint:
        """This machine's; what the system does not tell is empty or 0."""
        info = cpu_info(Path("/proc/cpuinfo"))
        present = set(f"{info.get('flags', '')} {info.get('Features', '')}".split())
        return cls(
            platform.machine(),
            cpu_name(info),
            os.cpu_count() or 1,
            tuple(f for f in FLAGS if f in present),
            memory_gib(),
        )


def lacks(precision: str, device: DeviceFingerprint) -> str | None:
    """Why the CPU does not compute in a precision, in which a runtime would only emulate it; None where it does."""
    wanted = COMPUTES.get(precision, ())
    return (
        f"this CPU does not compute in {precision} ({', '.join(wanted)})"
        if wanted and not {*wanted} & {*device.flags}
        else None
    )


def cpu_info(path: Path) -> dict[str, str]:
    """The fields of /proc/cpuinfo, of the first CPU where each has its own; empty where there is no such file."""
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
    """Model name with the numbers that virtual machines leave true when they shorten the name; an Arm board's name is
    in other fields."""
    if "model name" in info and "cpu family" in info:
        return f"{info['model name']} (family {info['cpu family']} model {info.get('model', '?')} stepping {info.get('stepping', '?')})"
    arm = " ".join(info[k] for k in ("Model", "Hardware", "model name", "CPU implementer", "CPU part") if k in info)
    return arm or platform.processor() or platform.machine()


def memory_gib() -> int:
    """Physical memory, rounded so that a kernel's own share does not change it; 0 where the system does not say."""
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
    except (AttributeError, ValueError, OSError):
        return 0
