"""``nas device``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

EXAMPLES = """\
  nas device check ssh:pi@raspberrypi.local
  nas device check ssh:jetson:2222?python=~/nas/bin/python
  nas measure runs/digits/S.onnx --on ssh:pi@raspberrypi.local --target onnxruntime:fp32"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "print what a board has for measuring, and what is missing; nothing is installed there"
    check = actions.add_parser("check", help=text, description=text)
    check.add_argument("board", help="ssh:user@host[:port][?python=PATH] (docs/boards.md)")


def run(args: argparse.Namespace) -> int:
    """Check a board; status 1 if no runtime can measure there."""
    from latency_db.core.device import DeviceFingerprint
    from latency_db.remote.board import Board
    from search_spaces.text import printable

    with Board(args.board) as board:
        facts = board.facts()
        found = board.ask("check", {})
    device = DeviceFingerprint.from_dict(found["fingerprint"])
    state: Mapping[str, Any] = found["state"]
    lines = {
        "board": state["model"] or facts["machine"],
        "CPU": f"{device.cpu}, {device.cores} cores ({' '.join(device.flags) or 'no listed instruction sets'})",
        "memory": f"{device.memory_gib} GiB, {found['free_mib']} MiB of free disk",
        "Python": f"{facts['python']}, numpy {facts['numpy']} ({facts['executable']})",
        "clocks": _clocks(state),
        "temperature": ", ".join(f"{name} {value:g} °C" for name, value in state["celsius"].items()) or "not reported",
        "throttling": _throttling(state),
    }
    if state["power_mode"]:
        lines["power mode"] = state["power_mode"]
    for name, text in lines.items():
        print(f"{name:<12} {printable(text)}")
    usable = 0
    for name, runtime in found["runtimes"].items():
        usable += "version" in runtime
        print(f"{printable(name):<22} {printable(runtime.get('version') or runtime.get('reason'))}")
    for advice in found["advice"]:
        print(f"advice: {printable(advice)}")
    if not usable:
        print("no runtime can measure there; for a CPU: pip install onnxruntime")
    return 0 if usable else 1


def _clocks(state: Mapping[str, Any]) -> str:
    if not state["mhz"]:
        return "not reported"
    limit = f" of at most {state['max_mhz']} MHz" if state["max_mhz"] else ""
    return f"{'/'.join(map(str, state['mhz']))} MHz{limit}, governor {state['governor'] or 'not reported'}"


def _throttling(state: Mapping[str, Any]) -> str:
    now = ", ".join(state["throttling"]) or "none now"
    since = ", ".join(state["throttled_since_start"])
    return f"{now}; since its start: {since}" if since else now
