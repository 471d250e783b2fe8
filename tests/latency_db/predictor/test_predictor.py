"""Latency predicted from few measurements: right where the physics is right, honest about its error, silent where it
knows nothing."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.collect_latencies import spread_over_macs
from benchmarks.latency_predictor import chosen_rows, evaluated, split
from benchmarks.yolobench_networks import family, operations
from latency_db.core.measurement import LatencyKey
from latency_db.core.profiler import Network
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.predictor.database import nominal_speed_ms, rows_of
from latency_db.predictor.features import BASIS, SUMMARY, Array, Features, features, network_features
from latency_db.predictor.fit import folds
from latency_db.predictor.kernels import covariance
from latency_db.predictor.model import OutOfDomain, Predictor, Row, spread
from latency_db.predictor.prior import Prior
from nas.estimators.base import Context
from nas.estimators.predicted_latency import PredictedLatency
from search_spaces.errors import InputError
from search_spaces.op import Op
from search_spaces.spaces import SPACES
from search_spaces.trace import trace
from tests._measured import DEVICE, measurement

NANO = SPACES["yolo-nano"].restrict({"image_size": (96, 128, 160, 192)})
CONV = Op("conv", ((16, 8, 8),), (32, 8, 8), kernel=3, macs=16 * 32 * 9 * 64, params=16 * 32 * 9 + 32)


@cache
def networks(count: int = 70, seed: int = 0) -> tuple[Network, ...]:
    rng = random.Random(seed)
    return tuple(Network(a, 3, int(a["image_size"])) for a in (NANO.sample(rng) for _ in range(count)))


def ms_of(network: Network, compute: float = 2e6, move: float = 4e5, start: float = 0.01) -> float:
    """A made-up device that the predictor has no column of: MACs and elements per ms, and ms to start an operation;
    fewer than 16 channels are slow."""
    total = 0.0
    for op in trace(NANO.graph(network.architecture), network.classes, network.image_size).ops:
        moved = sum(map(math.prod, op.inputs)) + math.prod(op.output)
        slow = 1.5 if op.output[0] < 16 else 1.0
        total += start + max(slow * op.macs / compute, moved / move) ** 0.95
    return total


def rows_of_device(count: int, noise: float = 0.01, seed: int = 0, **device: float) -> list[Row]:
    rng = np.random.default_rng(seed)

    def noisy(n: Network) -> float:
        return ms_of(n, **device) * float(np.exp(noise * rng.standard_normal()))

    return [Row(network_features(n), noisy(n), n.architecture.id, 2 * noise) for n in networks()[:count]]


@cache
def predictor() -> Predictor:
    return Predictor.fit(rows_of_device(40))


def missed(p: Predictor, rows: Sequence[Row]) -> Array:
    found = p.predict_all([row.features for row in rows])
    return np.array([abs(f.ms / row.ms - 1) for f, row in zip(found, rows, strict=True)])


# Features


def test_columns_by_hand() -> None:
    f = features([CONV, Op("concat", ((32, 8, 8), (32, 8, 8)), (64, 8, 8))], 64)
    basis, summary = dict(zip(BASIS, f.basis, strict=True)), dict(zip(SUMMARY, f.summary, strict=True))
    assert (basis["fixed"], basis["matrix products"], basis["other operations"]) == (1, 1, 1)
    assert basis["GMACs, 3x3 and larger"] == pytest.approx(CONV.macs / 1e9) and basis["GMACs, 1x1"] == 0
    assert basis["M elements moved, products"] == pytest.approx(48 * 64 / 1e6)
    assert basis["M elements moved, concatenations"] == pytest.approx(128 * 64 / 1e6)
    assert basis["GMACs in tiles of 128x64"] == pytest.approx(
        128 * 64 * 16 * 9 / 1e9
    )  # one tile, half of both sides empty
    assert basis["GMACs in waves of 4 tiles of 32x32"] == pytest.approx(
        4 * 32 * 32 * 16 * 9 / 1e9
    )  # two tiles, four run
    assert basis["GMACs, channels padded to 32"] == pytest.approx(2 * CONV.macs / 1e9)
    assert basis["unaligned products"] == 0
    assert summary["log MACs"] == pytest.approx(math.log(CONV.macs)) and summary["log image size"] == pytest.approx(
        math.log(64)
    )


def test_a_batch_moves_and_computes_more_with_the_same_weights() -> None:
    one, four = (dict(zip(BASIS, features([CONV], 64, batch).basis, strict=True)) for batch in (1, 4))
    assert four["GMACs, 3x3 and larger"] == pytest.approx(4 * one["GMACs, 3x3 and larger"])
    assert four["M elements moved, products"] == pytest.approx(4 * one["M elements moved, products"])
    assert four["M weights"] == one["M weights"] and four["matrix products"] == one["matrix products"]


def test_channels_that_fill_no_vector_are_told_apart() -> None:
    odd = replace(CONV, output=(30, 8, 8))
    stem = replace(CONV, inputs=((3, 8, 8),))  # the three channels of an image are no mistake of the architecture
    assert dict(zip(BASIS, features([odd, stem], 64).basis, strict=True))["unaligned products"] == 1


def test_features_are_values() -> None:
    f = network_features(networks()[0])
    assert Features.from_dict(json.loads(json.dumps(f.to_dict()))) == f and f.family == "yolo-nano"
    with pytest.raises(InputError, match="without convolutions"):
        features([], 64)
    with pytest.raises(InputError, match="another version"):
        Features.from_dict({**f.to_dict(), "basis": [1.0]})


# The parts of the model


def test_the_prior_is_never_negative_and_finds_the_device() -> None:
    rng = np.random.default_rng(0)
    columns = rng.uniform(1, 10, (200, 4)) * [1, 100, 0.01, 0]
    true = np.array([3.0, 0.0, 50.0, 7.0])
    found = Prior.fit(columns, columns @ true)
    assert min(found.coefficients) >= 0 and found.coefficients[3] == 0  # nothing was measured with the last
    assert found.ms(columns) == pytest.approx(columns @ true, rel=0.05)


def test_the_covariance_s_gradient() -> None:
    """By finite differences: the order of hyperparameters in our kernels is the one that scikit-learn expects."""
    rng = np.random.default_rng(0)
    inputs = np.column_stack(
        [rng.standard_normal((6, 2)), [0, 0, 1, 1, 2, -1], [96, 128, 96, 128, 96, 96], rng.standard_normal(6)]
    )
    kernel = covariance([0, 1], 2, 3, [4])
    value, gradient = kernel(inputs, eval_gradient=True)
    for i, step in enumerate(1e-6 * np.eye(len(kernel.theta))):
        moved = kernel.clone_with_theta(kernel.theta + step)(inputs)
        np.testing.assert_allclose((moved - value) / 1e-6, gradient[:, :, i], atol=1e-5)


def test_a_group_is_never_parted_and_everything_is_held_out_once() -> None:
    groups = [f"g{i % 7}" for i in range(40)]
    masks = folds(groups)
    assert (np.sum(masks, axis=0) == 1).all()
    for mask in masks:
        assert not {g for g, out in zip(groups, mask, strict=True) if out} & {
            g for g, out in zip(groups, mask, strict=True) if not out
        }


# The predictor


def test_unseen_networks_are_predicted() -> None:
    rows = rows_of_device(70)
    error = missed(predictor(), rows[40:])
    assert (error < 0.1).mean() >= 0.95 and error.mean() < 0.03
    inside = [
        p.low_ms <= row.ms <= p.high_ms
        for row, p in zip(rows[40:], predictor().predict_all([r.features for r in rows[40:]]), strict=True)
    ]
    assert np.mean(inside) >= 0.85


def test_the_report_is_the_cross_validated_error() -> None:
    report = predictor().report()
    errors = predictor().errors()
    assert (report.rows, report.groups) == (40, 40) and len(errors) == 40
    assert report.mape == pytest.approx(errors.mean()) and report.within_10 == pytest.approx((errors <= 0.1).mean())
    assert report.coverage >= 0.95 and report.tau > 0.9
    assert "within ±5 %" in str(report) and "40 networks of 40 architectures" in str(report)
    assert sum(predictor().explain().values()) == pytest.approx(1)


def test_intervals_are_wide_where_the_error_is_large() -> None:
    """A device of mere noise: the report says so and the intervals hold."""
    rng = np.random.default_rng(1)
    rows = [
        replace(row, ms=row.ms * float(np.exp(0.3 * rng.standard_normal())), half_width=0.0)
        for row in rows_of_device(70)
    ]
    p = Predictor.fit(rows[:40])
    assert p.report().within_10 < 0.6 and p.report().coverage >= 0.95
    found = p.predict_all([row.features for row in rows[40:]])
    assert np.mean([f.low_ms <= row.ms <= f.high_ms for f, row in zip(found, rows[40:], strict=True)]) >= 0.85


def test_a_network_unlike_the_measured_ones_is_refused() -> None:
    known = networks()[0]
    far = network_features(replace(known, image_size=1280))
    with pytest.raises(
        OutOfDomain, match=r"of a network; expected between .* and .*, near what was measured; .*nas onboard"
    ) as error:
        predictor().predict(far)
    assert isinstance(error.value, InputError) and "\n" not in str(error.value)
    assert predictor().outside(network_features(known)) is None


def test_saved_and_loaded_it_predicts_the_same(tmp_path: Path) -> None:
    small = Predictor.fit(rows_of_device(12), [Predictor.fit(rows_of_device(15, compute=5e6))])
    loaded = Predictor.load(small.save(tmp_path / "predictor.json"))
    f = network_features(networks()[50])
    assert loaded == small and loaded.predict(f) == small.predict(f)
    for text, said in (("{", "cannot read"), ("{}", "not a latency predictor"), ('{"version": 99}', "version 99")):
        (tmp_path / "broken.json").write_text(text)
        with pytest.raises(InputError, match=said):
            Predictor.load(tmp_path / "broken.json")


def test_too_little_is_said() -> None:
    with pytest.raises(InputError, match="5 measured networks of 5 architectures; expected at least 6 of 3"):
        Predictor.fit(rows_of_device(5))
    with pytest.raises(InputError, match="2 architectures"):
        Predictor.fit([replace(row, group=str(i % 2)) for i, row in enumerate(rows_of_device(10))])
    with pytest.raises(InputError, match="finite positive"):
        replace(rows_of_device(1)[0], ms=float("nan"))


def test_another_device_helps() -> None:
    """Both devices are slow where the stem is narrow, by a law that the physics does not hold; eight measurements do
    not show it, the other device's do."""

    def quirk(row: Row, n: Network) -> Row:
        return replace(
            row, ms=row.ms * (1.4 if n.architecture["stage2_block"] == "c2f" and n.architecture["width"] == 8 else 1.0)
        )

    here = [quirk(row, n) for row, n in zip(rows_of_device(70), networks(), strict=True)]
    there = [
        quirk(row, n)
        for row, n in zip(rows_of_device(70, compute=8e6, move=1e6, start=0.002, seed=1), networks(), strict=True)
    ]
    alone, helped = (Predictor.fit(here[:12], transfer) for transfer in ([], [Predictor.fit(there)]))
    test = [row for row in here[12:] if alone.outside(row.features) is None]
    assert missed(helped, test).mean() < missed(alone, test).mean()


# What to measure next


def test_the_most_informative_lessen_the_doubt_more_than_chance() -> None:
    p = Predictor.fit(rows_of_device(10))
    pool = [network_features(n) for n in networks(60, seed=5)]

    def doubt(positions: Sequence[int]) -> float:
        covariance, noise = p._fit.covariance(pool)
        chosen = covariance[np.ix_(positions, positions)] + noise * np.eye(len(positions))
        return float(np.trace(covariance - covariance[:, positions] @ np.linalg.solve(chosen, covariance[positions])))

    best = p.next_informative(pool, 8)
    assert len(set(best)) == 8
    assert doubt(best) <= min(
        doubt(np.random.default_rng(seed).choice(60, 8, replace=False).tolist()) for seed in range(20)
    )
    assert sorted(p.next_informative(pool[:3], 8)) == [0, 1, 2] and p.next_informative([], 3) == []


def test_the_first_are_spread() -> None:
    pool = [network_features(n) for n in networks()]
    first = spread(pool, 12)
    assert len(set(first)) == 12 and spread(pool, 12) == first and spread([], 3) == [] and len(spread(pool[:2], 3)) == 2

    def width(positions: Sequence[int]) -> float:
        return float(np.ptp([pool[i].summary for i in positions], axis=0).sum())

    assert width(first) > np.mean(
        [width(np.random.default_rng(s).choice(len(pool), 12, replace=False).tolist()) for s in range(10)]
    )


# The database and the estimator


@pytest.fixture
def database(tmp_path: Path) -> LatencyDB:
    """25 networks measured by onnxruntime, some of them at a slower moment of the machine."""
    db = LatencyDB(tmp_path / "latencies.sqlite")
    for i, n in enumerate(networks()[:25]):
        slow = 1.25 if i % 5 == 0 else 1.0
        anchor = {"wall_ms": 2.0 * slow, "cpu_ms": 2.0 * slow}
        db.put(LatencyKey(n.key, "onnxruntime:fp32", "1.0", DEVICE.id), measurement(n, slow * ms_of(n), anchor=anchor))
    return db


def test_rows_of_one_target_version_and_device_at_the_usual_speed(database: LatencyDB) -> None:
    n = networks()[30]
    for key, target in (("1.0", "openvino:fp32"), ("2.0", "onnxruntime:fp32"), ("1.0", "onnxruntime:fp32/t2")):
        database.put(LatencyKey(n.key, target, key, DEVICE.id), replace(measurement(n), target=Target.read(target)))
    sized = Target.read("onnxruntime:fp32@96")
    database.put(LatencyKey(n.key, str(sized), "1.0", DEVICE.id), replace(measurement(n, ms_of(n)), target=sized))
    unnamed = measurement(n)
    file = replace(unnamed, workload="onnx/0123", environment={**unnamed.environment, "network": None})
    database.put(LatencyKey("onnx/0123", "onnxruntime:fp32", "1.0", DEVICE.id), file)
    rows = rows_of(database, LatencyKey("", "onnxruntime:fp32@128", "1.0", DEVICE.id))
    assert {row.group for row in rows} == {m.architecture.id for m in (*networks()[:25], n)}
    true = {m.architecture.id: ms_of(m) for m in networks()}
    assert [row.ms for row in rows] == pytest.approx([true[row.group] for row in rows])
    assert rows_of(database, LatencyKey("", "onnxruntime:fp32", "1.0", "another")) == []


def test_networks_that_do_not_follow_the_anchor_in_proportion() -> None:
    rng = np.random.default_rng(0)
    described = [network_features(n) for n in networks()]
    weights, macs = (
        np.array([f.summary[SUMMARY.index(name)] for f in described]) for name in ("log weights", "log MACs")
    )
    density = ((weights - macs) - (weights - macs).mean()) / (weights - macs).std()
    slow = np.where(rng.random(len(described)) < 0.5, 1.0, 1.3)  # a machine of two speeds
    true = np.array([ms_of(n) for n in networks()])
    raw = true * slow ** (1.2 + 0.5 * density)
    kept = [
        measurement(n, float(ms), anchor={"wall_ms": 2 * s, "cpu_ms": 2 * s})
        for n, ms, s in zip(networks(), raw, slow, strict=True)
    ]

    usual = 2 * float(np.median(slow))
    there = true * (usual / 2) ** (1.2 + 0.5 * density)  # what each takes at the usual speed
    fitted, proportional = (
        nominal_speed_ms(kept, described),
        np.array([m.at_nominal_speed(usual).median_ms for m in kept]),
    )
    assert np.std(np.log(fitted / there)) < 0.2 * np.std(np.log(proportional / there))
    few = 2 * float(np.median(slow[:30]))
    assert nominal_speed_ms(kept[:30], described[:30]) == pytest.approx(
        [m.at_nominal_speed(few).median_ms for m in kept[:30]]
    )


def test_the_estimator_predicts_from_the_database(database: LatencyDB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latency_db.runtimes.onnxruntime.OnnxRuntime.version", classmethod(lambda cls: "1.0"))
    monkeypatch.setattr("latency_db.core.profiler.Profiler.fingerprint", lambda self: DEVICE)
    context = Context(NANO, 3, target=Target.parse("onnxruntime:fp32"), database=database)
    estimator = PredictedLatency(context)
    n = networks()[60]
    found = estimator(n.architecture)
    assert (found.source, found.target, found.unit) == ("predicted", "onnxruntime:fp32", "ms")
    assert found.value == pytest.approx(ms_of(n), rel=0.15) and found.low is not None and found.low < found.value
    assert "onnxruntime:fp32" in estimator.note and "cross-validated over 25 networks" in estimator.note
    with pytest.raises(InputError, match="0 measured networks"):
        PredictedLatency(replace(context, target=Target.parse("onnxruntime:fp32/t2")))


# What the benchmarks stand on


@pytest.mark.parametrize(
    "name, params, gmacs",
    [
        ("yolo3n", 3220088, 2.664763),
        ("yolo5d67w25", 3216336, 2.578133),
        ("yolo6s-d33w25", 4826720, 3.713083),
        ("yolo6m-d6w5", 14660664, 10.706115),
        ("yolo7s", 11263744, 9.627797),
        ("yolo8m", 25886080, 22.200955),
    ],
)
def test_networks_of_yolobench(name: str, params: int, gmacs: float) -> None:
    """Counts at 480 px from the published table (Deeplite/deeplite-torch-zoo, results/yolobench), which left norms of
    some families unfolded."""
    ops = operations(name, 480)
    dfl = 64 * sum((480 // s) ** 2 for s in (8, 16, 32))
    assert sum(op.macs for op in ops) + dfl == pytest.approx(gmacs * 1e9, rel=1e-6)
    assert sum(op.params for op in ops) + 16 == pytest.approx(params, rel=2e-3)
    assert name.startswith(family(name))


@pytest.mark.parametrize("name", ["yolo9s", "yolo6-d1w1", "yolo5l-d1w1", "yolo5", "resnet"])
def test_names_that_are_no_networks_of_yolobench(name: str) -> None:
    with pytest.raises(InputError, match=name):
        operations(name, 480)


def test_networks_are_collected_evenly_over_their_macs() -> None:
    found = spread_over_macs(NANO, 16, seed=3)
    assert found == spread_over_macs(NANO, 16, seed=3) and len({a.id for a in found}) == 16
    logs = sorted(math.log(trace(NANO.graph(a), 80).macs) for a in found)
    assert max(np.diff(logs)) < 4 * (logs[-1] - logs[0]) / 15
    with pytest.raises(InputError, match="16 networks"):
        spread_over_macs(NANO.restrict({c.name: c.values[:1] for c in NANO.choices}), 16, seed=0)


def test_the_benchmark_parts_architectures_and_counts_refusals_as_misses() -> None:
    rows = [replace(row, group=f"g{i // 2}") for i, row in enumerate(rows_of_device(60))]
    train, test = split(rows, np.random.default_rng(0), 0.25)
    assert not {r.group for r in train} & {r.group for r in test} and len(train) + len(test) == 60
    taken = chosen_rows(train, 30)
    assert len({row.features for row in taken}) == 30
    p = Predictor.fit(taken)
    far = replace(test[0], features=network_features(replace(networks()[0], image_size=1280)))
    figures, with_far = evaluated(p, test), evaluated(p, [*test, far])
    assert with_far["refused"] > figures["refused"] and with_far["within_10"] < figures["within_10"]
