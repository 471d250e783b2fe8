"""A bench: who takes part, rounds, resuming, failures, what the rounds say together; no hardware anywhere."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from latency_db.core.measurement import LatencyKey, Measurement
from latency_db.core.profiler import Network, Profiler, Protocol, RuntimeFailure, Workload
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.database.table_io import Row, write_table
from nas.bench import run as benching
from nas.bench.journal import JOURNAL
from nas.bench.models import resolve_models
from nas.bench.results import BenchModel, BenchResult, BenchSettings
from nas.bench.run import BenchRequest, measurement_plan, run_bench
from nas.cli import main
from nas.core.architecture_file import Artifact, DataRecord, StudyRecord, write_artifact
from nas.core.console_reporter import ConsoleReporter
from nas.core.estimate import Estimate, Objective
from nas.core.references import reference_artifact
from nas.profiling import interleaved as rounds_module
from nas.profiling.interleaved import combine_rounds
from nas.search.report.front_files import Front, write_front
from nas.supernet.weights import save_detector
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.references import FAMILIES, references
from search_spaces.spaces import SPACES, space_of
from tests._bench import FP32, INT8, OWN, measured, ms_of
from tests._measured import DEVICE, measurement
from tests._progress import Recording

NANO = SPACES["yolo-nano"]
TINY = NANO.smallest
FAMILY = next(f for f in FAMILIES if sum(other.startswith(f) for other in FAMILIES) == 1)
"""The first whose name begins no other: a pattern of it means no other family."""
MEMBERS = list(FAMILIES[FAMILY])
SMALLEST = MEMBERS[0]
TARGETS = [Target.parse(FP32), Target.parse(INT8)]
DATA = DataRecord("shop", "00112233445566ff")


# who takes part


def artifact(name: str, architecture: Architecture = TINY, *estimates: Estimate, data: DataRecord = DATA) -> Artifact:
    return Artifact(name, architecture, estimates, StudyRecord("s", 0, 1, 9), ("a", "b", "c"), data)


def weights(path: Path, a: Artifact, percent: float, fingerprint: str = DATA.fingerprint) -> Path:
    torch.manual_seed(0)
    detector = space_of(a.architecture).build(a.architecture, a.num_classes)
    metrics = {"map": percent / 100, "map_interval": [percent / 100 - 0.04, percent / 100 + 0.03]}
    return save_detector(path, detector, a, {"metrics": metrics, "data": fingerprint})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a search that chose S and L; S has been trained."""
    folder = tmp_path / "shop"
    other = TINY.replace(width=NANO["width"].values[1])
    chosen = {
        "S": artifact("S", TINY, Estimate("map", 0.5, source="predicted")),
        "L": artifact("L", other, Estimate("map", 0.6, source="predicted")),
    }
    for name, a in chosen.items():
        write_artifact(folder / f"{name}.json", a)
    weights(folder / "S.safetensors", chosen["S"], 71.5)
    objectives = (Objective("latency_ms", "min", "ms"), Objective("map", "max"))
    write_front(folder, Front(objectives, (), tuple((name, a.architecture.id) for name, a in chosen.items())))
    return folder


def test_words_for_references() -> None:
    assert [m.name for m in resolve_models([SMALLEST])] == [SMALLEST]
    assert (
        [m.name for m in resolve_models([FAMILY])]
        == [m.name for m in resolve_models([FAMILY.lower() + "*", SMALLEST])]
        == MEMBERS
    )
    model = resolve_models([SMALLEST])[0]
    r = references()[SMALLEST]
    assert (model.family, model.network) == (FAMILY, Network(r.architecture, 80, 640))
    assert model.accuracy is not None and r.published is not None
    assert (model.accuracy.percent, model.accuracy.kind, model.accuracy.source) == (
        r.published.map50_95,
        "published",
        r.published.source,
    )
    assert model.params > 1e6 and model.macs > 1e8


@pytest.mark.parametrize("how", [{"image_size": 320}, {"num_classes": 3}])
def test_what_is_published_is_of_640_px_and_80_classes(how: dict[str, Any]) -> None:
    model = resolve_models([SMALLEST], **how)[0]
    assert model.accuracy is None and model.macs < resolve_models([SMALLEST])[0].macs


def test_a_run_takes_part_with_its_trained_weights_where_it_has_them(run: Path) -> None:
    small, large = resolve_models([str(run)])
    assert (small.name, small.family, large.name) == ("S", "shop", "L")
    assert small.accuracy is not None and large.accuracy is not None
    assert (small.accuracy.kind, small.accuracy.data) == (
        "trained",
        "shop",
    ) and small.accuracy.percent == pytest.approx(71.5)
    assert small.accuracy.share_interval == pytest.approx((0.675, 0.745))
    assert small.accuracy.text == "0.715 (0.675–0.745)"
    assert large.accuracy.kind == "supernet" and large.accuracy.percent == pytest.approx(60)
    assert small.accuracy.scale != large.accuracy.scale
    assert resolve_models([str(run)], image_size=128)[0].accuracy is None
    assert small.network == Network(TINY, 3, int(TINY["image_size"]))


def test_names_that_are_not_unique_get_their_folders(run: Path, tmp_path: Path) -> None:
    write_artifact(tmp_path / "night" / "S.json", artifact("S"))
    assert [m.name for m in resolve_models([str(run), str(tmp_path / "night" / "S.json")])] == [
        "shop/S",
        "L",
        "night/S",
    ]
    models = resolve_models([str(run / "S.json"), str(run / "S.safetensors"), str(run / "S.json")])
    assert [Path(m.name).name for m in models] == ["S.json", "S.safetensors"]


def test_a_reference_that_was_trained_belongs_to_its_family_and_has_its_own_map(tmp_path: Path) -> None:
    a = reference_artifact(SMALLEST, 3, 96)
    own = resolve_models([str(weights(tmp_path / "mine.safetensors", a, 33, "abcdefabcdef0123"))])[0]
    assert own.family == FAMILY and own.accuracy is not None
    assert (own.accuracy.kind, own.accuracy.data) == ("trained", "data set abcdefab")
    untrained = resolve_models([str(write_artifact(tmp_path / "plain.json", reference_artifact(SMALLEST)))])[0]
    assert untrained.accuracy is not None and untrained.accuracy.kind == "published"


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("yolov8q", ("'yolov8q'", "did you mean 'yolov8")),
        ("yolo99*", ("'yolo99*'", FAMILY)),
        ("none/S.json", ("none/S.json", "check the path")),
        ("none.safetensors", ("none.safetensors", "check the path")),
        ("{tmp}", ("has no chosen architectures", "nas search")),
        ("{tmp}/model.onnx", ("model.onnx", "nas measure")),
        ("{tmp}/text.json", ("text.json", "JSON")),
    ],
)
def test_words_that_mean_no_model(word: str, words: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    (tmp_path / "text.json").write_text("no")
    with pytest.raises(InputError) as error:
        resolve_models([word.format(tmp=tmp_path)])
    assert all(part in str(error.value) for part in words), str(error.value)


# rounds


class Bureau(Profiler):
    """A machine of changing speed: the anchor tells how fast it is. ``asked`` are all that was measured, ``broken``
    fail, ``stop_after`` pulls the plug."""

    runtime = "onnxruntime"
    precisions = ("fp32", "int8")
    asked: ClassVar[list[tuple[str, str]]] = []
    opened: ClassVar[list[Protocol]] = []
    broken: ClassVar[set[str]] = set()
    stop_after = 10**6
    release = "1"

    def __init__(self, target: Target, protocol: Protocol | None = None) -> None:
        super().__init__(target, protocol or Protocol())
        if protocol is not None:
            self.opened.append(protocol)

    @classmethod
    def available(cls) -> str | None:
        return None

    @classmethod
    def version(cls) -> str:
        return cls.release

    def measure(self, workload: Workload) -> Measurement:
        model = next(m for m in OWN if m.network.key == workload.key)
        if len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked.append((model.name, str(self.target)))
        if model.name in self.broken:
            raise RuntimeFailure("out of memory")
        slow = 1 + 0.1 * (len(self.asked) % 3)
        return measured(model, str(self.target), ms_of(model, str(self.target)) * slow, 2 * slow)


@pytest.fixture
def bureau(monkeypatch: pytest.MonkeyPatch) -> type[Bureau]:
    made = type("Made", (Bureau,), {"asked": [], "opened": [], "broken": set()})
    monkeypatch.setattr(benching, "open_profiler", made)
    monkeypatch.setattr(rounds_module, "open_profiler", made)
    return made


def start(
    folder: Path,
    models: Sequence[BenchModel] = OWN,
    targets: Sequence[Target] = TARGETS[:1],
    rounds: int = 3,
    seed: int = 0,
) -> BenchResult:
    return run_bench(BenchRequest(models, targets, folder, rounds, seed), ConsoleReporter())


def test_every_round_takes_everyone_once_in_an_order_of_its_own() -> None:
    settings = BenchSettings((FP32, INT8), {m.name: m.network.key for m in OWN}, 4, 7)
    jobs = measurement_plan(settings)
    rounds = [[(j.model, j.target) for j in jobs if j.round == number] for number in range(4)]
    assert [j.round for j in jobs] == sorted(j.round for j in jobs)
    assert all(Counter(r) == Counter(rounds[0]) and len(set(r)) == 2 * len(OWN) for r in rounds)
    assert len({tuple(r) for r in rounds}) == 4 and measurement_plan(settings) == jobs


def test_a_whole_bench(bureau: type[Bureau], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = start(tmp_path / "out")
    assert Counter(bureau.asked) == {(m.name, FP32): 3 for m in OWN}
    assert done.reference_ms == pytest.approx(2.2)
    for model in OWN:
        entry = done.main[model.name]
        assert entry.latency is not None and len(entry.measured) == 3 and not entry.failure
        assert entry.latency.value == pytest.approx(
            1.1 * ms_of(model, FP32)
        )  # the machine's speed is taken out, and its usual one put in
        assert entry.verdict == "clean" and entry.latency.target == FP32
    assert len({p.seed for p in bureau.opened}) == 3 and {p.processes for p in bureau.opened} == {1}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("bench 0/")  # the first measurement is announced before it is made
    lines = [line for line in lines if not line.startswith("bench ")]
    assert (
        len(lines) == 3 * len(OWN)
        and "ETA" in lines[0]
        and lines[-1].startswith(f"{len(lines)}/{len(lines)} (round 3 of 3, ETA 0 s)")
    )
    json.dumps(done.to_dict())


def test_what_an_interrupted_bench_has_can_be_read_without_measuring(bureau: type[Bureau], tmp_path: Path) -> None:
    bureau.stop_after = len(OWN) + 1
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "out")
    bureau.release = "another machine's"
    done = benching.partial_result(OWN, tmp_path / "out")
    assert len(bureau.asked) == len(OWN) + 1
    assert sum(len(e.measured) for e in done.entries) == len(OWN) + 1 and done.settings.rounds == 2
    with pytest.raises(InputError, match="measured other networks as"):
        benching.partial_result([replace(OWN[0], network=replace(OWN[0].network, classes=7))], tmp_path / "out")
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match="no bench in"):
            benching.partial_result(OWN, folder)


def test_figures_are_kept_in_the_database_too(bureau: type[Bureau], tmp_path: Path) -> None:
    with LatencyDB(tmp_path / "l.sqlite") as database:
        reporter = Recording()
        run_bench(BenchRequest(OWN, TARGETS[:1], tmp_path / "out", rounds=1), reporter, database)
        reporter.check("bench")
        assert {m.workload for m in database.all()} == {m.network.key for m in OWN}


@pytest.mark.parametrize("stop", [0, 1, 7, 17])
def test_an_interrupted_bench_goes_on(stop: int, bureau: type[Bureau], tmp_path: Path) -> None:
    """A kill leaves half a line; what was whole is not measured again, and the order is that of a bench that was left
    alone."""
    start(tmp_path / "calm")
    alone = list(bureau.asked)
    bureau.asked.clear()
    bureau.stop_after = stop
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "out")
    journal = tmp_path / "out" / JOURNAL
    assert len(journal.read_bytes().splitlines()) == 1 + stop
    with journal.open("ab") as file:
        file.write(b'{"round": 0, "model": "S", "measure')
    bureau.stop_after = 10**6
    done = start(tmp_path / "out")
    assert bureau.asked == alone
    assert all(len(e.measured) == 3 for e in done.main.values())
    assert all(json.loads(line) for line in journal.read_bytes().splitlines())
    start(tmp_path / "out")
    assert bureau.asked == alone  # a finished one measures nothing


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"rounds": 2}, ("rounds 3, now 2",)),
        ({"seed": 1}, ("seed 0, now 1",)),
        ({"models": OWN[1:]}, ("models (S)",)),
        ({"targets": TARGETS}, (f"targets {FP32}, now {FP32}, {INT8}",)),
    ],
)
def test_a_folder_of_other_settings_is_refused(
    how: dict[str, object], words: Sequence[str], bureau: type[Bureau], tmp_path: Path
) -> None:
    start(tmp_path)
    with pytest.raises(InputError) as error:
        start(tmp_path, **how)  # type: ignore[arg-type]
    assert all(word in str(error.value) for word in ("other settings", "--out", *words)), str(error.value)


def test_another_version_of_the_runtime_is_another_bench(bureau: type[Bureau], tmp_path: Path) -> None:
    start(tmp_path)
    bureau.release = "2"
    with pytest.raises(InputError, match="versions 1, now 2"):
        start(tmp_path)


@pytest.mark.parametrize(
    ("content", "word"), [(b"text", "damaged"), (b"{}\n", "not the journal"), (b'[1]\n{"bench": 1}\n', "line 1")]
)
def test_a_file_that_is_no_journal(content: bytes, word: str, bureau: type[Bureau], tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(content)
    with pytest.raises(InputError, match=word):
        start(tmp_path)
    assert (tmp_path / JOURNAL).read_bytes() == content


def test_a_damaged_line_is_named(bureau: type[Bureau], tmp_path: Path) -> None:
    start(tmp_path)
    lines = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_bytes(b"".join([*lines[:3], b'{"round": 1}\n', *lines[4:]]))
    with pytest.raises(InputError, match=r"line 4 of .*no turn"):
        start(tmp_path)


def test_who_fails_is_named_left_out_and_tried_again_later(
    bureau: type[Bureau], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bureau.broken.add("M")
    done = start(tmp_path)
    assert Counter(name for name, _ in bureau.asked) == {m.name: 1 if m.name == "M" else 3 for m in OWN}
    assert "M failed: out of memory" in capsys.readouterr().out
    assert [(e.model.name, e.failure, e.latency) for e in done.failures] == [("M", "out of memory", None)]
    bureau.broken.clear()
    again = start(tmp_path)
    assert not again.failures and len(again.main["M"].measured) == 3
    assert Counter(name for name, _ in bureau.asked)["S"] == 3


def test_nothing_measured_is_an_error(bureau: type[Bureau], tmp_path: Path) -> None:
    bureau.broken |= {m.name for m in OWN}
    with pytest.raises(InputError, match=rf"none of {len(OWN)} models.*out of memory"):
        start(tmp_path)
    assert len(bureau.asked) == len(OWN)


def test_int8_beside_fp32(bureau: type[Bureau], tmp_path: Path) -> None:
    done = start(tmp_path, targets=TARGETS)
    ratios = done.speed_ups()
    assert list(ratios) == [m.name for m in OWN]
    for model in OWN:
        assert ratios[model.name].value == pytest.approx(ms_of(model, FP32) / ms_of(model, INT8))
    shop = [ratios[name].value for name in "SML"]
    assert done.family_speed_ups()["shop"] == pytest.approx((shop[0] * shop[1] * shop[2]) ** (1 / 3))


# what the rounds say together


def rounds_of(*medians: float) -> list[Measurement]:
    return [measured(OWN[0], FP32, ms) for ms in medians]


def test_an_interval_covers_what_rounds_differ_by() -> None:
    same = combine_rounds(rounds_of(10, 10, 10))
    assert (
        same.value == 10 and same.low == pytest.approx(9.9) and same.high == pytest.approx(10.1)
    )  # a round's own, 1 %
    apart = combine_rounds(rounds_of(9, 10, 12))
    assert apart.value == 10 and apart.high == pytest.approx(10 + 4.30 * 1.5275 / 3**0.5, abs=0.01)
    assert apart.low == pytest.approx(20 - (apart.high or 0))
    assert combine_rounds(rounds_of(10)).high == pytest.approx(10.1)
    assert combine_rounds(rounds_of(1, 10)).low == 0


def test_rounds_at_different_speeds_of_the_machine_agree_at_its_usual_one() -> None:
    slow = [measured(OWN[0], FP32, 10 * s, 2 * s) for s in (0.8, 1.0, 1.3)]
    found = combine_rounds(slow, reference_ms=2.0)
    assert found.value == pytest.approx(10) and found.high == pytest.approx(10.1)


# the command


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """``nas bench`` on a recorded table with the smallest reference and a searched architecture, at fp32 and int8."""

    def row(network: Network, ms: float, precision: str) -> Row:
        m = measured(OWN[0], f"onnxruntime:{precision}", ms)
        m = Measurement.from_dict(
            {**m.to_dict(), "workload": network.key, "environment": measurement(network, ms).environment}
        )
        return LatencyKey(network.key, str(m.target), "1.0", DEVICE.id), m

    networks = [Network(references()[SMALLEST].architecture, 80, 640), Network(TINY, 3, int(TINY["image_size"]))]
    rows = [
        row(n, ms, p)
        for p, factor in (("fp32", 1), ("int8", 0.5))
        for n, ms in zip(networks, (20 * factor, 2 * factor), strict=True)
    ]
    write_table(tmp_path / "desk.csv", rows, "me")
    for name, value in {
        "NAS_TABLES": str(tmp_path / "desk.csv"),
        "NAS_CACHE": str(tmp_path / "cache"),
        "COLUMNS": "250",
    }.items():
        monkeypatch.setenv(name, value)
    write_artifact(tmp_path / "S.json", artifact("S", TINY, Estimate("map", 0.5, source="predicted")))
    monkeypatch.chdir(tmp_path)
    return lambda *more: main(["bench", "--target", "recorded:fp32/desk", "--out", "out", *more])


def test_a_whole_bench_from_a_table(
    desk: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk(SMALLEST, "S.json", "--int8", "--budgets", f"S=5ms,M=ref:{SMALLEST}") == 0
    said = capsys.readouterr().out
    assert "20.0" in said and "2.00" in said and "supernet's, shop" in said
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        JOURNAL,
        *(f"bench.{suffix}" for suffix in ("json", "csv", "md", "html", "png")),
    }
    data = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert [e["latency"]["value"] for e in data["entries"]] == [20, 2, 10, 1]
    assert {name: ratio["value"] for name, ratio in data["speed_up"].items()} == {SMALLEST: 2, "S": 2}
    assert data["settings"]["rounds"] == 3 and data["machine"]["device"]["cpu"] == DEVICE.cpu
    assert len(data["entries"][0]["rounds"]) == 3
    before = (tmp_path / "out" / JOURNAL).stat().st_mtime_ns
    assert desk(SMALLEST, "S.json", "--int8", "--linear") == 0  # drawn again
    assert (tmp_path / "out" / JOURNAL).stat().st_mtime_ns == before


def test_a_model_that_is_not_in_the_table_is_named_and_the_status_says_so(
    desk: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk(SMALLEST, MEMBERS[1], "--rounds", "1") == 1
    said = capsys.readouterr().out
    assert f"failed: {MEMBERS[1]} on recorded:fp32/desk: no latency of" in said
    assert f"| {MEMBERS[1]}" in (tmp_path / "out" / "bench.md").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("{name} --rounds 0", ("0 rounds", "1 or more")),
        ("{name} --num-classes 0", ("0 classes", "1 or more")),
        ("{name} --target abacus:fp32", ("'abacus'", "onnxruntime")),
        ("{name} --target onnxruntime:fp32 --int8", ("int8 without --data", "a data set")),
        ("{name} --target onnxruntime:int8 --int8 --data digits", ("--int8 with --target", "another precision")),
        ("{name} --target recorded:fp16/desk", ("nothing for recorded:fp16/desk",)),
        ("{name} --budgets S=2km", ("km", "ms")),
        ("{name} --budgets S=ref:{other}", (f"ref:{MEMBERS[1]}", "does not take part", SMALLEST)),
        ("{name} --budgets S=ref:{name}@320", ("@320", "does not take part")),
        ("nothing", ("'nothing'",)),
        ("", ("model", "--help")),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    options: str, words: Sequence[str], desk: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk(*options.format(name=SMALLEST, other=MEMBERS[1]).split()) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("nas bench: ") and all(word in lines[0] for word in words), lines
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(bureau: type[Bureau], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(InputError, match="cannot write"):
        start(tmp_path / "out")


@pytest.mark.parametrize("columns", ["40", "80"])
def test_the_list_of_models_shows_every_name_in_a_pipe(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert "…" not in printed and all(f" {name} " in printed for name in references())


@pytest.mark.parametrize("size", [100, 31, 0])
def test_an_image_size_that_no_detector_takes_is_refused_before_any_work(
    size: int, bureau: type[Bureau], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"image size {size} of a network.*multiple of 32"):
        start(tmp_path, [replace(OWN[0], network=replace(OWN[0].network, image_size=size))])
    assert not bureau.opened and not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", [["measure", SMALLEST], ["bench", SMALLEST, "--out", "out"], ["onboard"]])
def test_the_target_has_an_image_size_that_no_detector_takes(
    verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*verb, "--target", "onnxruntime:fp32@100", "--latency-db", "l.sqlite"]) == 2
    error = capsys.readouterr().err
    assert "image size 100" in error and "a multiple of 32" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_published_accuracy_is_not_that_of_a_network_with_options(tmp_path: Path) -> None:
    usual = reference_artifact("yolov8n")
    other = space_of(usual.architecture).with_options(usual.architecture, branch_classes=100)
    files = [
        write_artifact(tmp_path / f"{name}.json", replace(usual, name=name, architecture=a))
        for name, a in (("usual", usual.architecture), ("other", other))
    ]
    found = {m.name: m for m in resolve_models([str(path) for path in files])}
    assert found["usual"].accuracy is not None and found["other"].accuracy is None
    assert found["other"].family == found["usual"].family == "YOLOv8"
