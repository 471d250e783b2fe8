"""Which executor a search has: one task after the other unless the settings name workers or a board."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nas.search.open_executor import apart, concurrent, worker_devices
from nas.search.plan import SearchPlan
from nas.search.settings import SearchSettings
from search_spaces.errors import InputError

CPU = SearchSettings(accuracy="nwot", num_classes=3, device="cpu")


def plan_of(**changes: object) -> SearchPlan:
    return SearchPlan.parse(replace(CPU, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"latency": "predicted"}, False),
        ({"target": "recorded:fp32"}, False),
        ({"workers": "1"}, False),  # the target's own hardware
        ({"workers": "auto"}, False),
        ({"workers": "1", "latency": "predicted"}, True),
        ({"workers": "1", "target": "tensorrt:fp16"}, True),
        ({"workers": "2"}, True),
        ({"on": "ssh:pi@host"}, True),
        ({"on": "ssh:pi@host", "others": ("openvino:fp32",)}, False),  # one of two is measured here
        ({"on": "ssh:pi@host", "others": ("openvino:fp32 on ssh:jetson",)}, True),
    ],
)
def test_what_runs_concurrently(changes: dict[str, object], expected: bool) -> None:
    plan = plan_of(**changes)
    assert concurrent(plan, worker_devices(plan)) is expected


def test_one_worker_per_gpu_and_the_targets_own_is_left_to_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    plan = plan_of(device="auto", workers="auto", target="tensorrt:fp16/cuda:1")
    assert worker_devices(plan) == ("cuda:0", "cuda:2") and apart(plan, "cuda:0") and not apart(plan, "cuda:1")
    assert worker_devices(plan_of(device="auto", workers="auto")) == ("cuda:0", "cuda:1", "cuda:2")
    assert worker_devices(plan_of(device="auto", workers="4")) == ("cuda:0", "cuda:1", "cuda:2", "cuda:0")
    assert worker_devices(plan_of(device="cuda:1", workers="2")) == ("cuda:1", "cuda:1")
    assert worker_devices(plan_of(workers="2")) == ("cpu", "cpu")


@pytest.mark.parametrize("workers", ["0", "-1", "two", "1.5", ""])
def test_another_number_of_workers_is_one_line(workers: str) -> None:
    with pytest.raises(InputError, match="1 or more, or auto"):
        plan_of(workers=workers).check()
