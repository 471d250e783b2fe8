"""Several devices from one supernet: every candidate is evaluated once, measured on each, and each device gets a run."""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.cli import main, parsed
from nas.core.estimate import Candidate, Estimate
from nas.estimators import ESTIMATORS
from nas.estimators.base import Context
from nas.search.devices import Device
from nas.search.report.front_files import read_front
from nas.search.settings import SearchSettings
from nas.search.study_reader import read_candidates
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from tests._fakes import FakeScore, HashLatency, numbers_of, tiny_space

FIXED = [part for c in tiny_space().choices for part in ("--fix", f"{c.name}={','.join(map(str, c.values))}")]
SEARCH = ["search", "--accuracy", "score", "--num-classes", "3", "--sampler", "random", *FIXED]
DEVICES = ["--target", "onnxruntime", "--target", "onnxruntime:fp32/t2"]
evaluated: list[str] = []


class TwoDevices(HashLatency):
    """What is fast on one device is slow on the other."""

    def __call__(self, architecture: Architecture) -> Estimate:
        ms = numbers_of(architecture)[0]
        assert self.context.target is not None
        value = ms if self.context.target.threads == 1 else 3 - ms
        return Estimate(self.name, value, self.unit, source="measured", target=str(self.context.target))


class Counted(FakeScore):
    role = "compute"

    def __init__(self, context: Context) -> None:
        super().__init__(context, lambda a: evaluated.append(a.id))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A search for two devices; the tests of this module use it in their order."""
    folder = tmp_path_factory.mktemp("devices")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setenv("NAS_CACHE", str(folder / "cache"))
        patch.setitem(ESTIMATORS._targets, "latency", f"{__name__}:TwoDevices")
        patch.setitem(ESTIMATORS._targets, "score", f"{__name__}:Counted")
        evaluated.clear()
        assert main([*SEARCH, *DEVICES, "--trials", "20", "--out", str(folder / "run")]) == 0
        yield folder / "run"


def test_each_device_gets_a_run_and_every_candidate_is_evaluated_once(two: Path) -> None:
    assert len(evaluated) == len(set(evaluated)) == 20
    first, second = (two / name for name in ("1-onnxruntime-fp32", "2-onnxruntime-fp32-t2"))
    fronts = [read_front(folder / "front.json") for folder in (first, second)]
    assert {c.id for c in fronts[0].candidates} != {c.id for c in fronts[1].candidates}
    known = [c.architecture for c in candidates(first)]
    for front, sign in zip(fronts, (1, -1), strict=True):
        points = {c.id: (sign * numbers_of(c.architecture)[0], numbers_of(c.architecture)[1]) for c in front.candidates}
        every = [(sign * numbers_of(a)[0], numbers_of(a)[1]) for a in known]
        assert all(not any(o[0] <= p[0] and o[1] >= p[1] and o != p for o in every) for p in points.values())
    for folder in (first, second):
        assert {p.name for p in folder.iterdir()} >= {
            "S.json",
            "front.csv",
            "frontier.html",
            "frontier.png",
            "run.json",
        }
        assert len(candidates(folder)) == 20
    header, *rows = csv.reader((two / "devices.csv").read_text().splitlines())
    assert header[-2:] == ["on onnxruntime:fp32", "on onnxruntime:fp32/t2"]
    assert {row[0] for row in rows} == {"onnxruntime:fp32", "onnxruntime:fp32/t2"}
    assert [row[1:3] for row in rows] == [list(chosen) for front in fronts for chosen in front.chosen]
    assert main(["plot", str(second), "--out", str(two / "again")]) == 0


def candidates(folder: Path) -> list[Candidate]:
    settings = SearchSettings.read(folder)
    return list(read_candidates(settings.storage_of(folder), settings.study_name(folder)))


def test_it_is_resumed_and_finished_devices_are_left_as_they_are(two: Path) -> None:
    settings = SearchSettings.read(two)
    assert (settings.target, settings.others) == ("onnxruntime:fp32", ("onnxruntime:fp32/t2",))
    before = (two / "1-onnxruntime-fp32" / "S.json").stat().st_mtime_ns
    assert main(["search", "--resume", str(two)]) == 0
    assert (two / "1-onnxruntime-fp32" / "S.json").stat().st_mtime_ns == before and len(evaluated) == 20
    assert main(["search", "--resume", str(two), "--total-trials", "24"]) == 0
    assert len(evaluated) == len(set(evaluated)) == 24
    assert len(candidates(two / "2-onnxruntime-fp32-t2")) == 24
    assert main(["search", "--resume", str(two / "2-onnxruntime-fp32-t2"), "--total-trials", "26"]) == 0  # one alone


REFUSED = {
    "twice": (["--target", "onnxruntime", "--target", "onnxruntime"], "each once"),
    "precisions": ([*DEVICES, "--precision", "fp32,int8"], "one precision per target"),
    "predicted": ([*DEVICES, "--latency", "predicted"], "--latency measured"),
    "another cost": ([*DEVICES, "--minimize", "params"], "no --minimize"),
    "too many": ([*DEVICES, *(f"--target=onnxruntime:fp32/t{n}" for n in (3, 4, 5))], "4 objectives in all"),
    "two boards of one": (["--target", "onnxruntime", "--on", "ssh:a", "--on", "ssh:b"], "one board per --target"),
    "no target": ([*DEVICES[:2], "--target", "nonsense:fp32"], "nonsense"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_one_line(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, expected = REFUSED[case]
    assert main(["search", "--accuracy", "nwot", "--num-classes", "3", *options, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "targets", "boards"),
    [
        (["--on", "ssh:pi"], None, ["ssh:pi"]),
        (["--on", "ssh:pi", "--target", "a"], ["a"], ["ssh:pi"]),
        (["--target", "a", "--on", "ssh:pi", "--target", "b"], ["a", "b"], ["ssh:pi"]),
        (["--target", "a", "--target", "b", "--on", "ssh:pi"], ["a", "b"], [None, "ssh:pi"]),
    ],
)
def test_a_board_belongs_to_the_target_before_it(
    options: list[str], targets: list[str] | None, boards: list[str | None]
) -> None:
    args: argparse.Namespace = parsed(["search", *options])
    assert getattr(args, "target", None) == targets and args.on == boards


@pytest.mark.parametrize(
    "text", ["onnxruntime:fp32@320", "openvino:int8 on ssh:pi@raspberrypi:22?python=~/nas/bin/python"]
)
def test_the_text_of_a_device(text: str) -> None:
    device = Device.parse(text, 2)
    assert str(device) == text and Device.parse(str(device), 2) == device
    assert "/" not in device.name and device.name.startswith("2-") and device.estimate == "latency_ms_2"
    with pytest.raises(InputError):
        Device.parse("", 1)
