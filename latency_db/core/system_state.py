"""Clocks, governor, temperatures, throttling and power mode of a machine, read from ``/proc`` and ``/sys``.

Everything is read and nothing is set. What a machine does not report is None or empty. Sources:

- CPU clocks and governor: ``/sys/devices/system/cpu/cpu*/cpufreq`` (kernel documentation, admin-guide/pm/cpufreq.rst).
- Temperatures: ``/sys/class/thermal/thermal_zone*`` (driver-api/thermal/sysfs-api.rst).
- Raspberry Pi: ``soc:firmware/get_throttled``, the bits that ``vcgencmd get_throttled`` prints.
- NVIDIA Jetson: the power mode that ``nvpmodel -q`` prints, from ``/var/lib/nvpmodel/status`` and its configuration.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path("/")
_FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
_THROTTLING = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
"""Bits of the Raspberry Pi's get_throttled that are set now; 16 more: set since the start."""
_SINCE_START = 16
_TEXT_BYTES = 4096


@dataclass(frozen=True)
class SystemState:
    """State of a machine at one moment.

    Attributes:
        model: Name of the board, empty if it has none (a PC).
        governor: Governors of the CPUs, joined by commas; empty if there is no frequency scaling.
        mhz: Current clock of each CPU, MHz.
        max_mhz: Highest clock that the settings allow, MHz; None if not reported.
        celsius: Temperatures by name of the zone, °C.
        throttling: What slows the machine down now.
        throttled_since_start: What slowed it down since it was started.
        power_mode: Power mode of a Jetson, empty elsewhere.
    """

    model: str = ""
    governor: str = ""
    mhz: tuple[int, ...] = ()
    max_mhz: int | None = None
    celsius: tuple[tuple[str, float], ...] = ()
    throttling: tuple[str, ...] = ()
    throttled_since_start: tuple[str, ...] = ()
    power_mode: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, JSON-ready."""
        lists = {name: list(getattr(self, name)) for name in ("mhz", "throttling", "throttled_since_start")}
        return {**asdict(self), **lists, "celsius": dict(self.celsius)}

    def advice(self) -> list[str]:
        """Return what a user should change before measuring, one sentence each."""
        found = []
        if self.governor and self.governor != "performance":
            found.append(
                f"the governor is {self.governor}, so clocks change while measuring; "
                "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
            )
        if "under-voltage" in (*self.throttling, *self.throttled_since_start):
            found.append("the power supply is too weak (under-voltage); use the maker's")
        elif self.throttling:
            found.append(f"the board is slowed down ({', '.join(self.throttling)}); cool it")
        if hot := [f"{name} {celsius:.0f} °C" for name, celsius in self.celsius if celsius >= 80]:
            found.append(f"the board is hot ({', '.join(hot)}); cool it")
        return found


def read_state(cpus: Sequence[int] = (), root: Path = ROOT) -> SystemState:
    """Read the state of the machine; ``cpus`` () are all, ``root`` is the folder that holds ``sys`` and ``proc``."""
    folders = [root / f"sys/devices/system/cpu/cpu{n}/cpufreq" for n in cpus] or sorted(
        (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"), key=lambda p: int(p.parent.name[3:])
    )
    clocks = [mhz for folder in folders if (mhz := _mhz(folder / "scaling_cur_freq")) is not None]
    limits = [mhz for folder in folders if (mhz := _mhz(folder / "scaling_max_freq")) is not None]
    bits = _throttled_bits(root)
    return SystemState(
        model=_text(root / "proc/device-tree/model"),
        governor=",".join(sorted({text for folder in folders if (text := _text(folder / "scaling_governor"))})),
        mhz=tuple(clocks),
        max_mhz=max(limits, default=None),
        celsius=_temperatures(root),
        throttling=tuple(name for bit, name in _THROTTLING.items() if bits >> bit & 1),
        throttled_since_start=tuple(name for bit, name in _THROTTLING.items() if bits >> (bit + _SINCE_START) & 1),
        power_mode=_power_mode(root),
    )


def was_throttled(before: SystemState, after: SystemState) -> bool:
    """Return whether the machine was slowed down between two readings, as far as it reports that."""
    new = {*after.throttled_since_start} - {*before.throttled_since_start}
    return bool(before.throttling or after.throttling or new)


def _temperatures(root: Path) -> tuple[tuple[str, float], ...]:
    found: dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        value = _integer(zone / "temp")
        if value is not None and -50_000 < value < 200_000:  # sensors that are off report other numbers
            found.setdefault(_text(zone / "type") or zone.name, round(value / 1000, 1))
    return tuple(found.items())


def _throttled_bits(root: Path) -> int:
    text = _text(root / _FIRMWARE)
    return int(text, 16) if re.fullmatch(r"(0x)?[0-9a-fA-F]{1,8}", text) else 0


def _power_mode(root: Path) -> str:
    """Return ``MAXN (0)``: name and number of a Jetson's power mode."""
    status = re.search(r"pmode:(\d{1,4})", _text(root / "var/lib/nvpmodel/status"))
    if status is None:
        return ""
    number = int(status[1])
    try:
        configuration = (root / "etc/nvpmodel.conf").read_text(errors="replace")[: 1 << 20]
    except OSError:
        configuration = ""
    name = re.search(rf"<\s*POWER_MODEL\s+ID={number}\s+NAME=(\S+)", configuration)
    return f"{name[1]} ({number})" if name else str(number)


def _mhz(path: Path) -> int | None:
    khz = _integer(path)
    return None if khz is None else round(khz / 1000)


def _integer(path: Path) -> int | None:
    text = _text(path)
    return int(text) if re.fullmatch(r"-?\d{1,12}", text) else None


def _text(path: Path) -> str:
    """Return the first line of a file without zero bytes; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(_TEXT_BYTES)
    except OSError:
        return ""
    return content.decode(errors="replace").replace("\0", "").strip().partition("\n")[0]
