"""A recorded table is a runtime: a whole search runs from it with no hardware, and what it does not hold is never a
number."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from latency_db.core.measurement import LatencyKey
from latency_db.core.profiler import Network, Workload
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB, MissingLatency
from latency_db.database.table_io import Row, read_table, write_table
from latency_db.runtimes import open_profiler
from latency_db.runtimes.recorded import SHIPPED, tables
from nas.cli import main
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES, space_of
from tests._measured import DEVICE, measurement

NANO = SPACES["yolo-nano"]
FREE = {
    "width": NANO["width"].values[:3],
    "stage2_block": NANO["stage2_block"].values[:2],
    "stage3_depth": NANO["stage3_depth"].values[:2],
}
SPACE = NANO.restrict({c.name: FREE.get(c.name, c.values[:1]) for c in NANO.choices})
NETWORKS = [Network(a, 3, int(a["image_size"])) for a in SPACE.enumerate()]


def row(network: Network, precision: str = "fp32", slow: float = 1.0) -> Row:
    """Wider and deeper takes longer; each was measured while the machine ran at a speed of its own (``slow``)."""
    ms = (1 + int(network.architecture["width"]) * int(network.architecture["stage3_depth"]) / 16) * slow
    m = measurement(network, ms, anchor={"wall_ms": 2 * slow, "cpu_ms": 2 * slow})
    m = replace(m, target=Target("onnxruntime", precision))
    return LatencyKey(m.workload, str(m.target), "1.0", DEVICE.id), m


ROWS = [row(n, slow=1 + 0.1 * (i % 3 - 1)) for i, n in enumerate(NETWORKS)]


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of tables, named by the environment."""
    folder = tmp_path / "tables"
    folder.mkdir()
    monkeypatch.setenv("NAS_TABLES", str(folder))
    write_table(folder / "desk.csv", ROWS, "me")
    return folder


def workload(network: Network) -> Workload:
    def never() -> Path:
        raise AssertionError("a recorded table needs no ONNX")

    return Workload(network.key, never, network)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".sqlite"])
def test_a_row_is_replayed_as_it_is_and_not_kept_again(shelf: Path, tmp_path: Path, suffix: str) -> None:
    if suffix == ".sqlite":
        with LatencyDB(shelf / "other.sqlite") as database:
            database.merge(ROWS)
    else:
        if suffix == ".parquet":
            pytest.importorskip("pyarrow")
        write_table(shelf / f"other{suffix}", ROWS, "me")
    target = Target.parse("recorded:fp32/other")
    with open_profiler(target) as profiler, LatencyDB(tmp_path / "mine.sqlite") as mine:
        for network, (key, m) in zip(NETWORKS, ROWS, strict=True):
            found = mine.measure_cached(profiler, workload(network))
            where = {"name": "other", "target": "onnxruntime:fp32", "version": "1.0", "device": key.device}
            assert found == replace(m, source="table", target=target, environment={**m.environment, "table": where})
        assert mine.all() == []
        assert profiler.fingerprint() == DEVICE and profiler.key("w").device == DEVICE.id


def test_every_shipped_table_can_be_opened_and_its_networks_built() -> None:
    for name, path in tables().items():
        if path.parent == SHIPPED:
            rows = read_table(path).rows
            assert rows and path.stat().st_size < 250_000
            for key, m in rows:
                network = Network.from_dict(m.environment["network"])
                assert network.key == key.workload and m.verdict != "throttled"
                space_of(network.architecture)
            t = rows[0][1].target
            open_profiler(Target("recorded", t.precision, name, batch=t.batch, threads=t.threads)).close()


def test_what_is_not_in_the_table_is_missing(shelf: Path) -> None:
    stranger = Network(NANO.largest, 3, 96)
    with open_profiler(Target.parse("recorded/desk")) as profiler:
        with pytest.raises(MissingLatency) as error:
            profiler.measure(workload(stranger))
        assert all(part in str(error.value) for part in (stranger.key, "table desk", f"{len(ROWS)} networks", "--fix"))
        with pytest.raises(MissingLatency, match=NETWORKS[0].key):
            profiler.measure(workload(replace(NETWORKS[0], classes=80)))
        with pytest.raises(MissingLatency, match="onnx/0123"):
            profiler.measure(Workload("onnx/0123", Path("none.onnx")))


def test_others_of_the_space_are_predicted_where_the_target_says_so(shelf: Path) -> None:
    """Every third network is left out of the table, and predicted within 5 % (the numbers follow a simple law); one
    far away is refused."""
    rows = [r for i, r in enumerate(ROWS) if i % 3]
    write_table(shelf / "part.csv", rows, "me")
    with open_profiler(Target.parse("recorded:fp32/part:predict")) as profiler:
        for i, network in enumerate(NETWORKS):
            found = profiler.measure(workload(network))
            assert found.source == ("table" if i % 3 else "predicted") and found.target == profiler.target
            if i % 3 == 0:
                assert found.median_ms == pytest.approx(
                    1.05 * row(network)[1].median_ms, rel=0.05
                )  # 1.05: the usual speed of those in the table
                assert found.runs == 0 and found.reference_ms is None and found.environment["table"]["name"] == "part"
        with pytest.raises(MissingLatency, match="none can be predicted"):
            profiler.measure(workload(Network(NANO.largest, 3, 1280)))
        with pytest.raises(MissingLatency, match="onnx/0123"):
            profiler.measure(Workload("onnx/0123", Path("none.onnx")))
    with (
        open_profiler(Target.parse("recorded:fp32/part")) as profiler,
        pytest.raises(MissingLatency, match="part:predict"),
    ):
        profiler.measure(workload(NETWORKS[0]))


def test_a_target_names_one_series_of_one_table(shelf: Path) -> None:
    int8 = [row(n, "int8") for n in NETWORKS]
    write_table(shelf / "both.csv", [*ROWS, *int8], "me")
    write_table(shelf / "mixed.csv", [*ROWS[:3], *((replace(k, version="2.0"), m) for k, m in ROWS[3:])], "me")
    with open_profiler(Target.parse("recorded:int8/both")) as profiler:
        assert profiler.measure(workload(NETWORKS[0])).median_ms == int8[0][1].median_ms
    for text, words in {
        "recorded:fp32/dsk": ("'dsk'", "did you mean 'desk'", "NAS_TABLES"),
        "recorded:fp32": ("'none'", "desk"),
        "recorded:fp16/desk": ("nothing for recorded:fp16/desk", "recorded:fp32/desk"),
        "recorded:fp32/b8/desk": ("recorded:fp32/desk",),
        "recorded:fp32/mixed": ("1.0 on", "2.0 on", "nas db export"),
    }.items():
        with pytest.raises(InputError) as error:
            open_profiler(Target.parse(text))
        assert "\n" not in str(error.value) and all(word in str(error.value) for word in words), str(error.value)


def test_places_of_tables(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(tmp_path / "desk.csv", ROWS[:1], "me")
    monkeypatch.setenv("NAS_TABLES", f"{tmp_path / 'desk.csv'}:{shelf}")
    assert tables()["desk"] == tmp_path / "desk.csv"
    monkeypatch.setenv("NAS_TABLES", str(tmp_path / "none"))
    with pytest.raises(InputError, match="NAS_TABLES names .*none"):
        tables()
    monkeypatch.delenv("NAS_TABLES")
    assert "desk" not in tables()


def test_a_published_table_is_replayed_by_name(shelf: Path, tmp_path: Path) -> None:
    """As YOLOBench's: no space has these networks."""
    (tmp_path / "bench.csv").write_text("model,ms\nyolo_160,1.5\nyolo_192,2.5\n")
    database = str(shelf / "yolobench-a40.sqlite")
    options = ["--key", "model", "--value", "ms", "--target", "tensorrt:fp16", "--device-name", "NVIDIA A40"]
    assert main(["db", "import", str(tmp_path / "bench.csv"), *options, "--latency-db", database]) == 0
    with open_profiler(Target.parse("recorded:fp16/yolobench-a40")) as profiler:
        found = profiler.measure(Workload("yolo_192", tmp_path / "none.onnx"))
        assert (found.median_ms, found.source) == (2.5, "table") and profiler.fingerprint().accelerator == "NVIDIA A40"


@pytest.mark.parametrize("accuracy", ["synflow", "nwot", "elements"])
def test_a_whole_search_from_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accuracy: str) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    fixed = [part for c in SPACE.choices for part in ("--fix", f"{c.name}={','.join(map(str, c.values))}")]
    argv = [
        "search",
        "--accuracy",
        accuracy,
        "--num-classes",
        "3",
        "--trials",
        str(len(NETWORKS)),
        "--sampler",
        "random",
        *fixed,
    ]
    assert main([*argv, "--target", "recorded:fp32/desk", "--out", str(tmp_path / "run")]) == 0
    front = json.loads((tmp_path / "run" / "front.json").read_text())
    at_usual_speed = {
        n.architecture.id: row(n)[1].median_ms for n in NETWORKS
    }  # the anchor's median is that of a machine at speed 1
    assert front["candidates"]
    for candidate in front["candidates"]:
        latency = next(e for e in candidate["estimates"] if e["name"] == "latency_ms")
        assert (latency["source"], latency["target"]) == ("table", "recorded:fp32/desk")
        assert latency["value"] == pytest.approx(at_usual_speed[candidate["architecture"]["id"]])
    assert {p.name for p in (tmp_path / "run").glob("[SML].json")}
    assert not (tmp_path / "run" / "candidate.onnx").exists()
