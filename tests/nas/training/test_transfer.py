"""Weights of one detector for another, and what is frozen or learns slower."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nas.core.architecture_file import Artifact, DataRecord
from nas.core.references import NO_STUDY
from nas.data.loader import Loader, LoaderConfig
from nas.data.source import open_data
from nas.supernet.batchnorm import recalibrate
from nas.supernet.supernet import Supernet
from nas.supernet.weights import save_detector, save_supernet
from nas.training.initialization import initialize
from nas.training.layers import LayerConfig, nodes_of
from nas.training.loop import fit
from nas.training.recipe import Recipe
from nas.training.tasks import DetectorTask
from nas.training.transfer import transfer
from search_spaces.architecture import Architecture
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace
from search_spaces.spaces import SPACES

NANO = SPACES["yolo-nano"]
QSP = NANO.restrict(
    {c.name: ("qci",) for c in NANO.choices if not c.ordered}
    | {"width": (8, 16), "head_width": (0.5, 1.0), "image_size": (96,)}
)
"""Without alternatives: every architecture is a slice of the largest."""
AB, NUMBERS = ("a", "b"), tuple("0123456789")


def built(space: SearchSpace, architecture: Architecture, classes: int, seed: int) -> Detector:
    """With values of its own everywhere, statistics included."""
    torch.manual_seed(seed)
    detector = space.build(architecture, classes)
    with torch.no_grad():
        for tensor in detector.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + seed)
    return detector


def same(a: nn.Module, b: nn.Module) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)


def test_the_same_architecture_is_taken_whole() -> None:
    source, target = (built(QSP, QSP.smallest, 2, seed) for seed in (1, 2))
    report = transfer(source, AB, target, AB)
    assert (
        same(source, target)
        and not report.sliced
        and not report.partial
        and not report.new
        and not report.unused
        and report.classes == 2
    )
    count = sum(p.numel() for p in target.parameters())
    said = report.to_dict()["taken"]
    assert (
        said["tensors"] == len(list(target.parameters()))
        and said["parameters"] == said["values_taken"] == count
        and len(said["names"]) == 20
    )
    assert report.lines() == [f"taken whole: {said['tensors']} tensors, {count:,} parameters"]


@pytest.mark.parametrize("seed", range(3))
def test_a_narrower_one_takes_what_the_supernet_would_cut(seed: int) -> None:
    supernet = Supernet(QSP, 2)
    with torch.no_grad():
        for p in supernet.parameters():
            p.copy_(torch.rand_like(p))
    largest = supernet.extract(QSP.largest)
    small = QSP.sample(random.Random(seed)) if seed else QSP.smallest
    target = built(QSP, small, 2, 3)
    report = transfer(largest, AB, target, AB)
    wanted = dict(supernet.extract(small).named_parameters())
    assert all(torch.equal(p, wanted[name]) for name, p in target.named_parameters())
    assert not report.new and not report.partial and (report.sliced or not seed)
    assert all(p.taken == p.size for p in (*report.taken, *report.sliced))


def test_a_wider_one_is_filled_in_part() -> None:
    source, target = built(QSP, QSP.smallest, 2, 1), built(QSP, QSP.largest, 2, 5)
    report = transfer(source, AB, target, AB)
    stem, wide = (
        next(p for n, p in d.named_parameters() if "stage1_down" in n and p.dim() == 4) for d in (source, target)
    )
    out, into = stem.shape[:2]
    assert torch.equal(wide[:out, :into], stem) and (wide[out:] >= 5).all() and (wide[:, into:] >= 5).all()
    part = next(p for p in report.partial if "stage1_down" in p.name)
    assert part.size == wide.numel() and part.taken == stem.numel()
    assert sum(p.size for p in (*report.taken, *report.partial, *report.new)) == sum(
        p.numel() for p in target.parameters()
    )
    assert sum(p.taken for p in (*report.taken, *report.partial)) <= sum(p.numel() for p in source.parameters())
    assert (
        any("bottlenecks.1" in p.name for p in report.new)
        and not report.sliced
        and "in part" in report.lines()[1]
        and "left new" in report.lines()[2]
    )


def class_convs(detector: Detector) -> list[nn.Conv2d]:
    return [m for m in detector.modules() if hasattr(m, "class_rows")]  # type: ignore[misc]


@pytest.mark.parametrize("name", ["yolo-nano", "yolov8", "yolo26", "yolov5"])
def test_other_classes_go_by_name(name: str) -> None:
    """What both know keeps its weights at its new place, the rest is fresh, with the bias of the prior; of every kind
    of head."""
    space, architecture = SPACES[name], SPACES[name].smallest
    source = space.build(architecture, 3)
    fresh, target = space.build(architecture, 4), space.build(architecture, 4)
    target.load_state_dict(fresh.state_dict())
    report = transfer(source, ("cat", "dog", "bird"), target, ("bird", "eel", "Dog", "fox"))
    assert report.classes == 2
    pairs = list(zip(class_convs(source), class_convs(target), class_convs(fresh), strict=True))
    assert len(pairs) >= 3
    for old, new, blank in pairs:
        groups, others = new.class_rows  # type: ignore[misc]
        a, b, c = (conv.weight.reshape(groups, -1, *conv.weight.shape[1:]) for conv in (old, new, blank))
        p, q, r = (conv.bias.reshape(groups, -1) for conv in (old, new, blank))  # type: ignore[union-attr]
        assert torch.equal(b[:, :others], a[:, :others]) and torch.equal(q[:, :others], p[:, :others])
        for here, there in ((0, 2), (2, 1)):
            assert torch.equal(b[:, others + here], a[:, others + there]) and torch.equal(
                q[:, others + here], p[:, others + there]
            )
        for here in (1, 3):
            assert torch.equal(b[:, others + here], c[:, others + here]) and torch.equal(
                q[:, others + here], r[:, others + here]
            )
    tagged = {
        f"{n.removeprefix('cells.')}.{kind}"
        for n, m in target.named_modules()
        if hasattr(m, "class_rows")
        for kind in ("weight", "bias")
    }
    assert not report.new and {p.name for p in report.partial} == tagged


def test_no_class_in_common_leaves_the_prior() -> None:
    source, target = NANO.build(NANO.smallest, 365), NANO.build(NANO.smallest, 1203)
    report = transfer(source, [f"thing {i}" for i in range(365)], target, [f"object {i}" for i in range(1203)])
    convs = class_convs(target)
    assert report.classes == 0 and len(report.new) == 2 * len(convs) and not report.partial
    assert all((conv.bias == -math.log(99)).all() for conv in convs if conv.bias is not None)
    again = transfer(target, [f"object {i}" for i in range(1203)], source, [f"object {3 * i}" for i in range(365)])
    assert again.classes == 365 and torch.equal(
        class_convs(source)[0].weight, class_convs(target)[0].weight[: 3 * 365 : 3]
    )


def test_nothing_that_fits_is_an_error() -> None:
    class Other(nn.Module):
        weights = nn.Parameter(torch.ones(3))

    with pytest.raises(InputError, match="nothing fits"):
        transfer(Other(), AB, NANO.build(NANO.smallest, 2), AB)  # type: ignore[arg-type]


def artifact(architecture: Architecture, classes: tuple[str, ...]) -> Artifact:
    return Artifact("S", architecture, (), NO_STUDY, classes, DataRecord("digits", "0" * 16))


def test_beginning_with_a_file(tmp_path: Path) -> None:
    """A detector's or a supernet's, the latter also for other classes; from scratch otherwise, with the seed's
    values."""
    small = QSP.smallest
    source = built(QSP, QSP.largest, 2, 1)
    save_detector(tmp_path / "L.safetensors", source, artifact(QSP.largest, AB), {})
    found, report = initialize(artifact(small, ("b", "c")), tmp_path / "L.safetensors")
    own, its = (class_convs(d)[0].weight for d in (found, source))
    assert report.classes == 1 and not report.new and torch.equal(own[0], its[1, : own.shape[1]])
    supernet = Supernet(QSP, 2)
    save_supernet(tmp_path / "supernet.safetensors", supernet, AB, {})
    found, report = initialize(artifact(small, AB), tmp_path / "supernet.safetensors")
    wanted = dict(supernet.extract(small).named_parameters())
    assert all(torch.equal(p, wanted[n]) for n, p in found.named_parameters()) and not report.new and not report.unused
    torch.manual_seed(4)
    scratch, nothing = initialize(artifact(small, AB), None)
    torch.manual_seed(4)
    assert same(scratch, QSP.build(small, 2)) and not nothing.taken
    with pytest.raises(InputError, match="no weights file"):
        initialize(artifact(small, AB), tmp_path / "none.safetensors")


def test_patterns_of_nodes() -> None:
    graph = NANO.graph(NANO.smallest)
    assert [n.name for n in nodes_of(graph, ("stage1", "stem"))] == ["stem", "stage1_down", "stage1_block"]
    regions = [[n.name for n in nodes_of(graph, (r,))] for r in ("backbone", "neck", "head")]
    assert (
        regions[0][0] == "stem"
        and regions[0][-1] == "spp"
        and regions[1][0] == "neck1_reduce"
        and regions[2] == ["head"]
    )
    assert [name for region in regions for name in region] == [n.name for n in (*graph.nodes, graph.head)]
    assert [n.name for n in nodes_of(graph, ("neck*_down",))] == ["neck3_down", "neck4_down"]
    with pytest.raises(InputError, match="no node 'stage9'; expected backbone, neck, head, stem, stage1"):
        nodes_of(graph, ("stage9",))
    with pytest.raises(InputError, match="everything is frozen"):
        LayerConfig(("*",)).freeze(NANO.build(NANO.smallest, 2))
    with pytest.raises(InputError, match="rate 0"):
        LayerConfig(rates=(("stem", 0.0),))


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Loader:
    data = open_data("digits@64:train=8,val=4", cache=tmp_path_factory.mktemp("cache"))
    return Loader(data.train, LoaderConfig(4, 64, shuffle=True, drop_last=True, workers=0))


def test_frozen_weights_and_statistics_do_not_move(loader: Loader) -> None:
    recipe = Recipe(epochs=1, batch_size=4, warmup_steps=1, precision="fp32")
    detector = NANO.restrict({"width": (8,)}).build(NANO.smallest, 10)
    tuning = LayerConfig(("backbone",), (("neck*", 0.1),))
    task = DetectorTask(detector, "toy", layers=tuning)
    assert task.identity == "toy frozen backbone rates neck*=0.1"
    before = {k: v.clone() for k, v in detector.state_dict().items()}
    averaged = fit(task, loader, recipe)
    still = [averaged.cell(n) for n in nodes_of(detector.graph, tuning.frozen)]  # type: ignore[operator]
    recalibrate(averaged, [batch.images.float() / 255 for batch in loader.epoch(0)], still)
    frozen = tuple(f"cells.{n}" for n in ("stem", "stage", "spp"))
    for after in (detector.state_dict(), averaged.state_dict()):
        assert all(torch.equal(before[k], v) for k, v in after.items() if k.startswith(frozen))
        moved = [
            k
            for k, v in after.items()
            if not k.startswith(frozen) and v.is_floating_point() and not torch.equal(before[k], v)
        ]
        assert (
            any("running_mean" in k for k in moved)
            and any("neck1" in k for k in moved)
            and any("head" in k for k in moved)
        )


def test_rates_of_nodes() -> None:
    detector = NANO.build(NANO.smallest, 2)
    task = DetectorTask(detector, "toy", layers=LayerConfig(rates=(("backbone", 0.1), ("stem", 0.5))))
    names = {id(p): n for n, p in detector.named_parameters()}
    groups = [
        {"params": [p for p in detector.parameters() if (p.dim() > 1) == wide], "weight_decay": decay}
        for wide, decay in ((True, 0.1), (False, 0.0))
    ]
    divided = task.groups(groups, 1e-2)
    found = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in divided for p in g["params"]}
    assert found.keys() == set(names.values()) and divided[0]["lr"] == 1e-2
    for name, parameter in detector.named_parameters():
        rate = 5e-3 if "cells.stem" in name else 1e-3 if name.startswith(("cells.stage", "cells.spp")) else 1e-2
        assert found[name] == (pytest.approx(rate), 0.1 if parameter.dim() > 1 else 0.0)
    plain = DetectorTask(detector, "toy")
    assert plain.groups(groups, 1e-2) is groups and plain.identity == "toy"


def test_slower_nodes_move_less(loader: Loader) -> None:
    loader = Loader(loader.dataset, LoaderConfig(8, 64, shuffle=True, drop_last=True, workers=0))

    def moved(tuning: LayerConfig) -> Tensor:
        torch.manual_seed(0)
        detector = NANO.build(NANO.smallest, 10)
        stem = next(detector.cell(detector.graph.nodes[0]).parameters())
        before = stem.detach().clone()
        fit(
            DetectorTask(detector, "toy", layers=tuning),
            loader,
            replace(Recipe(precision="fp32", weight_decay=0.0), epochs=1, batch_size=8),
        )
        return (stem.detach() - before).abs().mean()

    assert moved(LayerConfig(rates=(("stem", 0.1),))).item() == pytest.approx(
        0.1 * moved(LayerConfig()).item(), rel=0.02
    )
