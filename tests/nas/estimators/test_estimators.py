"""The contract of every estimator in the registry, on the smallest pieces each can work with."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from latency_db.core.profiler import Network
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.runtimes import open_profiler
from nas.core.estimate import Estimate, Objective
from nas.data.source import open_data
from nas.estimators import ESTIMATORS
from nas.estimators.base import Context, Estimator
from nas.supernet.supernet import Supernet
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES
from search_spaces.trace import trace
from tests._measured import measurement

NANO = SPACES["yolo-nano"]
SPACE = NANO.restrict({"width": (8, 16), "stage1_hidden": (8,), "stage4_hidden": (32, 48), "image_size": (96,)})
PARTS = ("data", "target", "database", "supernet")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    """Everything an estimator may ask for: 8 + 4 images, an untrained supernet, a target, a database of its own."""
    folder = tmp_path_factory.mktemp("estimators")
    torch.manual_seed(0)
    data = open_data("digits@96:train=8,val=4", cache=folder)
    with LatencyDB(folder / "latency.sqlite") as database:
        target = Target.parse("onnxruntime:fp32")
        remember(database, target, len(data.classes))
        supernet = Supernet(SPACE, len(data.classes))
        yield Context(SPACE, len(data.classes), data, target, database, supernet, calibration_images=4, scratch=folder)


def remember(database: LatencyDB, target: Target, classes: int) -> None:
    """Latencies of twelve networks that nobody measured, in proportion to their MACs: something to predict from."""
    with open_profiler(target) as profiler:
        ends = [end.replace(head_width=0.75) for end in (SPACE.smallest, SPACE.largest)]
        for a in (*ends, *(SPACE.sample(random.Random(i)) for i in range(10))):
            network = Network(a, classes, int(a["image_size"]))
            database.put(
                profiler.key(network.key), measurement(network, 0.1 + trace(SPACE.graph(a), classes).macs / 1e8)
            )


@pytest.fixture(scope="module")
def estimators(context: Context) -> Iterator[dict[str, Estimator]]:
    made = {name: ESTIMATORS[name](context) for name in ESTIMATORS if ESTIMATORS[name].available() is None}
    yield made
    for estimator in made.values():
        estimator.close()


def without(context: Context, part: str) -> Context:
    change: dict[str, Any] = {part: None}
    return replace(context, **change)


def estimate(estimators: dict[str, Estimator], name: str, architecture: Architecture) -> Estimate:
    if reason := ESTIMATORS[name].available():
        pytest.skip(reason)
    return estimators[name](architecture)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_contract(estimators: dict[str, Estimator], name: str) -> None:
    """One finite number with the class's name and unit; the same when asked again; the state of others untouched."""
    kind, architecture = ESTIMATORS[name], SPACE.smallest
    if name == "supernet-large":
        with pytest.raises(InputError, match="no such object"):  # in images of 96 px
            estimate(estimators, name, architecture)
        return
    state = torch.random.get_rng_state()
    first = estimate(estimators, name, architecture)
    assert (first.name, first.unit) == (kind.name, kind.unit)
    assert estimate(estimators, name, architecture) == first
    assert torch.equal(torch.random.get_rng_state(), state)
    assert kind.objective() == Objective(kind.name, kind.direction, kind.unit)
    assert Estimate.from_dict(first.to_dict()) == first
    if name not in ("activations", "engine-activations") and not name.startswith(
        "supernet"
    ):  # the peak may be the stem's; 4 images and no training: both may be 0
        assert estimate(estimators, name, SPACE.largest).value != first.value


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_an_estimator_cannot_do_without_is_named(context: Context, name: str) -> None:
    """With each part of the context taken away it works, or says in one line which part it needs."""
    kind = ESTIMATORS[name]
    for part in PARTS:
        try:
            kind(without(context, part)).close()
        except InputError as error:
            said = str(error)
            assert name in said and part in said and "\n" not in said
    try:
        estimator = kind(Context(SPACE, 10))
    except InputError as error:
        said = str(error)
        assert "; " in said  # what is lacking; what to do
        return
    if kind.available():
        return
    estimator(SPACE.smallest)
    estimator.close()


@pytest.mark.parametrize(
    "name, part", [("latency", "target"), ("latency", "database"), ("supernet", "supernet"), ("supernet", "data")]
)
def test_missing_parts(context: Context, name: str, part: str) -> None:
    with pytest.raises(InputError, match=f"estimator {name} has no .*{part}") as error:
        ESTIMATORS[name](without(context, part))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_name_means_one_quantity(name: str) -> None:
    """Estimators that give an estimate of one name are ways to know the same number: unit and direction agree, and
    one of them bears its name."""
    kind = ESTIMATORS[name]
    same = [other for other in ESTIMATORS if ESTIMATORS[other].name == kind.name]
    assert len({(ESTIMATORS[other].unit, ESTIMATORS[other].direction) for other in same}) == 1
    assert all(
        other.endswith(same[0]) for other in same
    )  # latency, predicted_latency: a bound on latency_ms means the first
    assert kind.direction in ("min", "max")


@pytest.mark.parametrize("name", ["params", "macs"])
def test_every_larger_value_costs_more(name: str) -> None:
    """Raising one ordered choice that has weights never makes a network smaller; from smallest to largest it grows."""
    estimator = ESTIMATORS[name](Context(NANO, 10))
    rng = random.Random(0)
    for c in NANO.choices:
        if not c.ordered or not c.weights or len(c.values) < 2:
            continue
        architecture = NANO.sample(rng)
        low, high = (estimator(architecture.replace(**{c.name: v})).value for v in (c.values[0], c.values[-1]))
        assert low < high, c.name
    assert estimator(NANO.smallest).value < estimator(NANO.largest).value


def test_macs_grow_with_the_image_and_params_do_not() -> None:
    small, large = (NANO.smallest.replace(image_size=size) for size in (96, 192))
    params, macs, memory = (ESTIMATORS[name](Context(NANO, 10)) for name in ("params", "macs", "activations"))
    assert params(small).value == params(large).value
    assert macs(large).value == pytest.approx(4 * macs(small).value, rel=1e-3)
    assert memory(large).value == pytest.approx(4 * memory(small).value, rel=0.05)


@pytest.mark.parametrize("name", ["nwot", "synflow", "elements"])
def test_the_largest_network_scores_above_the_smallest(name: str) -> None:
    estimator = ESTIMATORS[name](Context(SPACE, 10))
    assert estimator(SPACE.largest).value > estimator(SPACE.smallest).value


@pytest.mark.parametrize("name", ["nwot", "synflow"])
def test_zero_cost_scores_follow_the_seed_only(name: str) -> None:
    scores = []
    for seed, disturb in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(disturb)
        scores.append(ESTIMATORS[name](Context(SPACE, 10, seed=seed))(SPACE.smallest))
    assert scores[0] == scores[1] != scores[2]


def test_nwot_extends_to_large_images() -> None:
    """At 160 px measured, beyond extended: the score rises with the image all the way."""
    estimator = ESTIMATORS["nwot"](Context(NANO, 10))
    scores = [estimator(NANO.smallest.replace(image_size=size)).value for size in (96, 128, 160, 192, 320, 640)]
    assert scores == sorted(scores) and len(set(scores)) == len(scores)


@pytest.mark.parametrize("name", ["params", "macs", "elements", "nwot", "synflow"])
def test_an_architecture_of_another_space_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="yolo-nas"):
        ESTIMATORS[name](Context(SPACE, 10))(SPACES["yolo-nas"].smallest)


def test_latency_is_measured_once_and_again_when_asked(context: Context, estimators: dict[str, Estimator]) -> None:
    from nas.estimators.latency import Latency

    latency = estimators["latency"]
    assert isinstance(latency, Latency)
    first = latency(SPACE.smallest)
    assert (first.source, first.target) == ("measured", "onnxruntime:fp32")
    assert first.low is not None and first.high is not None and first.low <= first.value <= first.high
    second = Latency(context)
    assert second(SPACE.smallest).value == pytest.approx(
        first.value, rel=0.2
    )  # the same record; the usual speed may be known better now
    second.close()
    assert context.database is not None
    alone = [m for m in context.database.all() if "end to end" not in m.environment["runtime_version"]]
    assert len([m for m in alone if m.workload.split("/")[1] == SPACE.smallest.id]) == 1


def test_the_supernet_s_score_is_that_of_the_extracted_network(
    context: Context, estimators: dict[str, Estimator]
) -> None:
    """Scoring changes neither the supernet nor the images."""
    assert context.supernet is not None
    before = {name: t.clone() for name, t in context.supernet.state_dict().items()}
    found = estimators["supernet"](SPACE.largest)
    assert 0 <= found.value <= 1 and found.source == "predicted"
    for name, tensor in context.supernet.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_the_part_of_the_val_split_is_spread_evenly(tmp_path: Path) -> None:
    from nas.data.subsets import first_samples

    val = open_data("digits@96:train=1,val=9", cache=tmp_path).val
    assert [s.id for s in first_samples(val, 3).samples] == [val.samples[i].id for i in (0, 3, 6)]
    assert first_samples(val, 0) is val and first_samples(val, 9) is val


def test_the_supernet_s_score_says_something_early_and_how_sure_it_is(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Early figures are those of the first images, the last that of all; intervals come from the same drawn
    images for every candidate."""
    from nas.estimators import supernet_evaluation
    from nas.estimators.shared import SharedEvaluators
    from nas.estimators.supernet_map import SupernetMap, SupernetMap50

    monkeypatch.setattr(supernet_evaluation, "FEW", 1)
    fresh = dataclasses.replace(context, shared=SharedEvaluators())
    estimator, other = SupernetMap(fresh), SupernetMap50(fresh)
    rungs = list(estimator.rungs(SPACE.largest))
    assert [e.name for e in rungs][-1] == "map" and all(e.name.startswith("map@") for e in rungs[:-1])
    assert (
        rungs[-1].low is not None and rungs[-1].high is not None and rungs[-1].low <= rungs[-1].value <= rungs[-1].high
    )
    assert len(rungs[-1].replicates) in (0, supernet_evaluation.REPLICATES)
    evaluated = []
    monkeypatch.setattr(supernet_evaluation.SupernetEvaluator, "_evaluated", lambda self, a: evaluated.append(a))
    assert [e.name for e in other.rungs(SPACE.largest)] == ["map50"] and not evaluated  # from the same evaluation
