"""The interval tells the truth about correlated samples; the protocol stops, judges and chooses its clock by the
samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latency_db.core.cpu import CpuTime, busy_elsewhere, core_siblings, cpu_times, order_by_use, steal_share
from latency_db.core.device import DeviceFingerprint
from latency_db.core.profiler import Protocol, Workload
from latency_db.core.target import Target
from latency_db.timing.cpu_timer import CpuSession, CpuTimer
from latency_db.timing.statistics import median_interval, quantile
from latency_db.timing.timing_samples import Block, Sample, drift, run_rounds, summarise
from search_spaces.errors import InputError


def correlated_blocks(rng: np.random.Generator, blocks: int = 40, size: int = 5) -> np.ndarray:
    """Blocks with a shared state each, of more weight than the noise of a sample; true median 10."""
    return 10 + rng.normal(0, 1.0, (blocks, 1)) + rng.normal(0, 0.4, (blocks, size))


def test_blocks_cover_the_true_median_where_single_samples_do_not() -> None:
    rng = np.random.default_rng(0)
    trials = 300
    covered = {"blocks": 0, "samples": 0}
    for _ in range(trials):
        data = correlated_blocks(rng)
        for name, blocks in (("blocks", data), ("samples", data.reshape(-1, 1))):
            low, high = median_interval(blocks, rng, replicates=300)
            covered[name] += low <= 10 <= high
    assert 0.90 <= covered["blocks"] / trials <= 0.99
    assert covered["samples"] / trials < 0.80


@pytest.mark.parametrize("sizes", [[5] * 9, [1, 5, 2, 4, 3, 5, 1], [2, 2, 2, 2]])
def test_interval_equals_the_bootstrap_written_out(sizes: list[int]) -> None:
    values = np.random.default_rng(1)
    blocks = [np.round(values.normal(10, 2, n), 1) for n in sizes]
    draws = np.random.default_rng(7).integers(len(blocks), size=(500, len(blocks)))
    medians = [np.median(np.concatenate([blocks[i] for i in row])) for row in draws]
    low, high = median_interval(blocks, np.random.default_rng(7), replicates=500)
    assert (low, high) == pytest.approx(tuple(np.quantile(medians, [0.025, 0.975])))


def test_interval_of_odd_inputs() -> None:
    rng = np.random.default_rng(0)
    assert median_interval([[2.0, 2.0], [2.0]], rng) == (2.0, 2.0)
    assert median_interval([[1.0, 3.0]], rng) == (2.0, 2.0)
    assert median_interval([[], [1.0], []], rng) == (1.0, 1.0)
    with pytest.raises(ValueError, match="no samples"):
        median_interval([[], []], rng)


def test_same_seed_same_interval() -> None:
    data = correlated_blocks(np.random.default_rng(3))
    assert median_interval(data, np.random.default_rng(5)) == median_interval(data, np.random.default_rng(5))
    assert median_interval(data, np.random.default_rng(5)) != median_interval(data, np.random.default_rng(6))


def test_quantiles() -> None:
    assert quantile(range(101), 0.9) == 90.0


def machine(rng: np.random.Generator, busy: float, noise: float = 0.01, size: int = 5) -> Callable[[], Block]:
    """A model of 2 ms of CPU time on a machine where a share ``busy`` of the samples is interrupted for 3 ms."""

    def block() -> Block:
        samples = []
        for _ in range(size):
            cpu = 2.0 * (1 + rng.normal(0, noise))
            waits = 3.0 if rng.random() < busy else 0.0
            samples.append(Sample(cpu + waits, cpu, int(waits > 0), waits))
        return samples

    return block


def measured(busy: float, protocol: Protocol, noise: float = 0.01) -> tuple[list[Block], list[Block], bool]:
    rng = np.random.default_rng(0)
    return run_rounds(machine(rng, busy, noise), machine(rng, busy, noise), protocol, threads=1)


def test_quiet_machine_gives_wall_time_of_clean_samples() -> None:
    blocks, anchors, converged = measured(0.2, Protocol())
    summary = summarise(blocks, 1, 0.5, seed=0)
    assert converged and len(blocks) == len(anchors) == Protocol().min_rounds
    assert (summary.clock, summary.verdict) == ("wall", "clean")
    assert summary.p99_ms < 2.2 and summary.median_ms == pytest.approx(2.0, rel=0.02)
    assert summary.runs == round(summary.clean_share * 40) < 40


def test_busy_machine_gives_cpu_time_and_says_so() -> None:
    summary = summarise(measured(0.8, Protocol())[0], 1, 0.5, seed=0)
    assert (summary.clock, summary.verdict, summary.runs) == ("cpu", "contended", 40)
    assert summary.median_ms == pytest.approx(2.0, rel=0.02)


def test_busy_machine_with_two_threads_stays_with_wall_time() -> None:
    """CPU time of two threads is the sum of both: no latency."""
    summary = summarise(measured(0.8, Protocol())[0], 2, 0.5, seed=0)
    assert (summary.clock, summary.verdict) == ("wall", "contended")
    assert summary.median_ms == pytest.approx(5.0, rel=0.02)


def test_without_a_clean_sample_there_is_still_an_answer() -> None:
    summary = summarise(measured(1.0, Protocol())[0], 1, 0.5, seed=0)
    assert (
        summary.clean_share == 0
        and summary.median_ms == pytest.approx(2.0, rel=0.02)
        and summary.wall_median_ms == pytest.approx(5.0, rel=0.02)
    )


def test_where_the_system_tells_nothing_wall_against_cpu_time_decides() -> None:
    assert Sample(2.0, 1.99, 0, None).clean(threads=1)
    assert not Sample(2.0, 1.5, 0, None).clean(threads=1)
    assert Sample(2.0, 3.5, 0, None).clean(threads=2)
    assert not Sample(2.0, 2.0, 1, 0.0).clean(threads=1)
    assert not Sample(2.0, 2.0, 0, 0.05).clean(threads=1)


def test_noise_is_answered_with_more_rounds_up_to_the_cap() -> None:
    few, _, _ = measured(0.0, Protocol(half_width=0.05), noise=0.1)
    many, _, converged = measured(0.0, Protocol(half_width=0.01, max_rounds=1000), noise=0.1)
    capped, _, reached = measured(0.0, Protocol(half_width=0.001, max_rounds=20), noise=0.1)
    assert len(few) < len(many) and converged
    assert summarise(many, 1, 0.5, seed=0).half_width <= 0.01
    assert len(capped) == 20 and not reached


def test_seconds_cap_it_too() -> None:
    ticks = iter(range(1000))
    rng = np.random.default_rng(0)
    blocks, _, converged = run_rounds(
        machine(rng, 0),
        machine(rng, 0),
        Protocol(min_rounds=50, max_rounds=60, max_s=7.0),
        1,
        clock=lambda: float(next(ticks)),
    )
    assert len(blocks) == 7 and not converged


def test_candidate_and_anchor_take_turns_in_drawn_order() -> None:
    turns: list[str] = []

    def source(name: str) -> Callable[[], Block]:
        def block() -> Block:
            turns.append(name)
            return [Sample(2.0 + 0.1 * (len(turns) % 7), 2.0, 0, 0.0)]

        return block

    run_rounds(source("c"), source("a"), Protocol(min_rounds=20, max_rounds=20), 1)
    rounds = ["".join(turns[i : i + 2]) for i in range(0, len(turns), 2)]
    assert set(rounds) == {"ca", "ac"} and len(rounds) == 20


def test_drift_of_the_anchor() -> None:
    slow, fast = [Sample(3.0, 3.0, 0, 0.0)], [Sample(2.0, 2.0, 0, 0.0)]
    assert drift([slow, slow, fast, fast]) == pytest.approx(-1 / 3)
    assert drift([slow]) == 0.0


@pytest.mark.parametrize(
    "fields",
    [
        {"block": 0},
        {"min_rounds": 9, "max_rounds": 8},
        {"half_width": 0.0},
        {"max_s": 0.0},
        {"seed": -1},
        {"clean_share": 1.5},
    ],
)
def test_a_protocol_without_sense_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(InputError, match="measuring protocol"):
        Protocol(**fields)  # type: ignore[arg-type]


def test_the_quietest_cpu_and_the_last_of_equals() -> None:
    before = {c: CpuTime(0, 0, 0) for c in range(4)}
    after = {0: CpuTime(0, 0, 10), 1: CpuTime(9, 0, 10), 2: CpuTime(1, 0, 10), 3: CpuTime(5, 0, 10)}
    assert order_by_use(before, after, [0, 1, 2, 3]) == (2, 0, 3, 1)
    assert order_by_use({}, {}, [0, 1]) == (1, 0)


def test_stolen_time_is_read_per_cpu(tmp_path) -> None:  # type: ignore[no-untyped-def]
    stat = tmp_path / "stat"
    stat.write_text("cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 10 0 0 80 0 0 0 10 0 0\ncpu1 50 0 0 50 0 0 0 0 0 0\nintr 1 2 3\n")
    times = cpu_times(stat)
    zero = {c: CpuTime(0, 0, 0) for c in times}
    assert times[0] == CpuTime(20, 10, 100)
    assert (
        steal_share(zero, times, [0]) == 0.1
        and steal_share(zero, times, [0, 1]) == 0.05
        and steal_share({}, {}, [0]) == 0.0
    )


def test_a_busy_neighbour_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {c: CpuTime(0, 0, 0) for c in range(4)}
    after = {0: CpuTime(100, 0, 100), 1: CpuTime(90, 0, 100), 2: CpuTime(0, 0, 100), 3: CpuTime(0, 0, 100)}
    monkeypatch.setattr("latency_db.core.cpu.core_siblings", lambda cpu: {cpu})
    assert busy_elsewhere(before, after, [0]) == pytest.approx(0.3)
    assert busy_elsewhere(before, after, [0, 1]) == 0.0
    assert busy_elsewhere(before, after, [0, 1, 2, 3]) == busy_elsewhere({}, {}, [0]) == 0.0
    monkeypatch.setattr("latency_db.core.cpu.core_siblings", lambda cpu: {0, 1})
    assert busy_elsewhere(before, after, [0]) == pytest.approx(0.9)


def test_siblings_are_cpus_of_this_machine() -> None:
    assert core_siblings(0) <= set(range(4096))
    assert core_siblings(10**6) == set()


def test_slow_networks_get_short_blocks() -> None:
    protocol = Protocol()
    assert protocol.for_runs_of(0.002) == protocol
    assert (protocol.for_runs_of(0.2).block, protocol.for_runs_of(0.2).settle) == (2, 0)
    assert protocol.for_runs_of(0.6).min_rounds == 12 and protocol.for_runs_of(0.01).min_rounds == protocol.min_rounds
    assert (protocol.for_runs_of(3.0).block, protocol.for_runs_of(0.09).settle) == (1, protocol.settle)


def test_an_effort_divided_over_processes() -> None:
    parts = Protocol(min_rounds=20, max_rounds=400, half_width=0.02, max_s=60.0, processes=4).parts()
    assert len(parts) == 4 and len({part.seed for part in parts}) == 4
    assert [(part.min_rounds, part.max_rounds, part.max_s, part.processes) for part in parts] == [(5, 100, 15.0, 1)] * 4
    assert parts[0].half_width == pytest.approx(0.04)
    assert Protocol().parts() == [Protocol()]
    assert len(replace(Protocol(processes=3), most_processes=7).parts()) == 7 and all(
        p.most_processes == 0 for p in Protocol(most_processes=3).parts()
    )


@pytest.mark.parametrize(
    "medians, sat", [((10.0, 10.01, 10.02), 3), ((10.0, 12.0, 9.0, 10.1, 10.0, 10.1), 6), ((10.0, 10.6, 10.1, 10.2), 4)]
)
def test_processes_that_differ_get_company(
    medians: tuple[float, ...], sat: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least 3 processes, until the interval over them is within 3 %, at most 6."""
    left = list(medians)

    class Nobody:
        def __enter__(self) -> Nobody:
            return self

        def __exit__(self, *error: object) -> None: ...

    def sit(self: CpuTimer, client: object, model: Path, cpus: object, part: Protocol, watch: object) -> CpuSession:
        ms = left.pop(0)
        blocks: list[Block] = [[Sample(ms, ms, 0, 0.0)] * 5] * 4
        return CpuSession(blocks, blocks, part, True, {}, 0.0, 0.0, 0, [0.0, 0.0])

    monkeypatch.setattr(CpuTimer, "new_client", lambda self: Nobody())
    monkeypatch.setattr(CpuTimer, "time_process", sit)
    model = tmp_path / "m.onnx"
    model.write_bytes(b"model")
    bench = CpuTimer("nothing:engine", Target("onnxruntime"), Protocol(half_width=0.03, processes=3, most_processes=6))
    measured = bench.measure(Workload("w", model), "1", DeviceFingerprint.read())
    assert measured.environment["processes_ms"] == list(medians[:sat]) and len(left) == len(medians) - sat
    assert (measured.half_width <= 0.03) == (sat < 6)


def test_the_interval_covers_what_processes_differ_by() -> None:
    blocks = [[Sample(10.0 + 0.01 * i, 10.0, 0, 0.0) for i in range(5)]] * 8
    summary = summarise(blocks, 1, 0.5, 0)
    assert summary.covering([10.02]) == summary and summary.half_width < 0.01
    wide = summary.covering([9.5, 10.0, 10.5, 10.1])
    assert (
        wide.high_ms - wide.median_ms
        == pytest.approx(wide.median_ms - wide.low_ms)
        == pytest.approx(1.96 * 0.411 / 2, rel=0.01)
    )


def test_a_long_run_meets_the_kernel_and_is_judged_by_its_delay() -> None:
    assert Sample(1000.0, 999.0, 8, 3.0).clean(1) and Sample(50.0, 50.0, 0, 0.1).clean(1)
    assert not Sample(1000.0, 999.0, 12, 3.0).clean(1) and not Sample(1000.0, 960.0, 2, 40.0).clean(1)
    assert not Sample(50.0, 50.0, 1, 0.0).clean(1)
