"""Clocks, temperatures, throttling and power mode, read from recorded /sys trees of boards."""

from __future__ import annotations

from pathlib import Path

import pytest

from latency_db.core.system_state import SystemState, read_state, was_throttled

CPU = "sys/devices/system/cpu/cpu{}/cpufreq/{}"
RASPBERRY_PI_5 = {
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    **{CPU.format(n, "scaling_governor"): "ondemand\n" for n in range(4)},
    **{CPU.format(n, "scaling_cur_freq"): f"{1500000 + 100000 * n}\n" for n in range(4)},
    **{CPU.format(n, "scaling_max_freq"): "2400000\n" for n in range(4)},
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "61850\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "0\n",
}
JETSON_ORIN_NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    **{CPU.format(n, "scaling_governor"): "schedutil\n" for n in range(6)},
    **{CPU.format(n, "scaling_cur_freq"): "729600\n" for n in range(6)},
    **{CPU.format(n, "scaling_max_freq"): "1510400\n" for n in range(6)},
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "47062\n",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "-256000\n",
    "var/lib/nvpmodel/status": "pmode:0001 fmode:fanNull\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=7W >\n",
}


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_a_raspberry_pi(tmp_path: Path) -> None:
    state = read_state(root=tree(tmp_path, RASPBERRY_PI_5))
    assert state == SystemState(
        model="Raspberry Pi 5 Model B Rev 1.0",
        governor="ondemand",
        mhz=(1500, 1600, 1700, 1800),
        max_mhz=2400,
        celsius=(("cpu-thermal", 61.9),),
    ) or state.celsius == (("cpu-thermal", 61.8),)
    assert read_state([2], tmp_path).mhz == (1700,)
    assert len(state.advice()) == 1 and "governor is ondemand" in state.advice()[0]


@pytest.mark.parametrize(
    "bits, now, since_start",
    [
        ("50005", ("under-voltage", "throttled"), ("under-voltage", "throttled")),
        ("0x80008\n", ("soft temperature limit",), ("soft temperature limit",)),
        ("e0000", (), ("frequency capped", "throttled", "soft temperature limit")),
        ("not hex", (), ()),
        ("", (), ()),
    ],
)
def test_the_bits_of_get_throttled(
    bits: str, now: tuple[str, ...], since_start: tuple[str, ...], tmp_path: Path
) -> None:
    files = {**RASPBERRY_PI_5, "sys/devices/platform/soc/soc:firmware/get_throttled": bits}
    state = read_state(root=tree(tmp_path, files))
    assert (state.throttling, state.throttled_since_start) == (now, since_start)


def test_a_jetson(tmp_path: Path) -> None:
    state = read_state(root=tree(tmp_path, JETSON_ORIN_NANO))
    assert (state.power_mode, state.max_mhz, state.celsius) == ("7W (1)", 1510, (("cpu-thermal", 47.1),))


def test_a_machine_that_reports_nothing(tmp_path: Path) -> None:
    assert read_state(root=tmp_path) == SystemState() and not SystemState().advice()
    odd = {
        CPU.format(0, "scaling_cur_freq"): "fast",
        CPU.format(0, "scaling_governor"): "",
        "var/lib/nvpmodel/status": "?",
    }
    assert read_state(root=tree(tmp_path, odd)) == SystemState()


def test_throttling_between_two_readings() -> None:
    quiet, hot = SystemState(), SystemState(throttling=("throttled",), throttled_since_start=("throttled",))
    cooled = SystemState(throttled_since_start=("throttled",))
    assert not was_throttled(quiet, quiet) and not was_throttled(cooled, cooled)
    assert was_throttled(quiet, hot) and was_throttled(hot, cooled) and was_throttled(quiet, cooled)
    assert "cool it" in hot.advice()[0] and "power supply" in SystemState(throttling=("under-voltage",)).advice()[0]
    assert "80 °C" in SystemState(celsius=(("cpu", 80.0),)).advice()[0]
