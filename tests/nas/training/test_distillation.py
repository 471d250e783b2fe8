"""A detector that learns from another one, too: what is compared, that it moves towards it, exact resume, several
heads, classes and processes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nas.core import distributed as processes
from nas.core.architecture_file import Artifact, DataRecord
from nas.core.references import NO_STUDY
from nas.core.training_progress import Watch
from nas.data.loader import Loader, LoaderConfig
from nas.data.source import DataPair, open_data
from nas.supernet.batchnorm import recalibrate
from nas.supernet.supernet import Supernet
from nas.supernet.weights import save_detector, save_supernet
from nas.training.distillation import (
    FINAL_SHARE,
    MIN_CONFIDENCE,
    DistillationTask,
    Teacher,
    branch_pairs,
    check_pair,
    confident,
    distillation_loss,
    distillation_share,
    feature_loss,
    open_teacher,
)
from nas.training.loop import fit
from nas.training.loss import DetectionLoss, Terms, Truth
from nas.training.recipe import Recipe
from nas.training.tasks import detached
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.heads.base import Predictions, decode_boxes, grid
from search_spaces.spaces import SPACES
from tests.nas.training.test_training import equal

SPACE = SPACES["yolo-nano"].restrict({"width": (8, 16)})
RECIPE = Recipe(
    epochs=3, batch_size=4, warmup_steps=2, precision="fp32", lr=1e-3, distill_features=0.5, distill_temperature=2.0
)
DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataPair:
    return open_data("digits@64:train=8,val=4", cache=tmp_path_factory.mktemp("cache"))


def loader_of(data: DataPair, share: tuple[int, int] = (0, 1)) -> Loader:
    return Loader(
        data.train,
        LoaderConfig(
            RECIPE.batch_size,
            32,
            data.augmentation,
            seed=0,
            shuffle=True,
            drop_last=True,
            workers=0,
            share=share,
        ),
    )


def sure_teacher(classes: int = 10) -> Teacher:
    """A larger network with random weights whose scores are not all at the prior."""
    torch.manual_seed(7)
    detector = (
        SPACE.build(SPACE.architecture(**{**dict(SPACE.smallest.choices), "width": 16}), classes)
        .eval()
        .requires_grad_(False)
    )
    for level in detector.head.levels:  # type: ignore[union-attr]
        level.cls.bias.zero_()
        level.cls.weight.mul_(20)
    return Teacher(detector, "big 0")


def task_of(teacher: Teacher, recipe: Recipe = RECIPE, steps: int = 6) -> DistillationTask:
    torch.manual_seed(0)
    return DistillationTask(SPACE.build(SPACE.smallest, 10), "toy", teacher, recipe, steps)


def batch_of(data: DataPair) -> tuple[Tensor, Truth]:
    batch = next(iter(loader_of(data).epoch(0)))
    return batch.images.float() / 255, Truth(batch.boxes, batch.labels, batch.image_index)


# What is compared


def predictions(seed: int, bins: int = 17, classes: int = 3, scale: float = 2.0) -> Predictions:
    rng = torch.Generator().manual_seed(seed)
    points, strides = grid(((4, 4), (2, 2), (1, 1)), (32, 32), "cpu")
    logits, boxes = (scale * torch.randn(2, len(points), n, generator=rng) for n in (classes, 4 * bins))
    return Predictions(logits.requires_grad_(), boxes.requires_grad_(), points, strides)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_loss_by_its_definition(temperature: float) -> None:
    """Bernoulli and categorical divergences at every anchor over the least confidence, weighted by it."""
    student, teacher = predictions(0), detached(predictions(1))
    value = distillation_loss(DetectionLoss(), student, teacher, temperature)
    student, total, norm = detached(taken := student), 0.0, 0.0
    for image in range(2):
        for anchor in range(len(teacher.points)):
            weight = float(teacher.logits[image, anchor].sigmoid().max())
            if weight <= MIN_CONFIDENCE:
                continue
            norm += weight
            p, q = ((x.logits[image, anchor] / temperature).sigmoid() for x in (teacher, student))
            classes = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum()
            a, b = ((x.boxes[image, anchor].view(4, 17) / temperature).softmax(-1) for x in (teacher, student))
            sides = (a * (a / b).log()).sum(-1).mean()
            total += weight * temperature**2 * float(classes + 0.5 * sides)
    assert norm > 1 and value.item() == pytest.approx(total / norm, rel=1e-4)
    value.backward()
    assert all(t.grad is not None and t.grad.isfinite().all() and t.grad.any() for t in (taken.logits, taken.boxes))


def test_an_unsure_teacher_says_nothing() -> None:
    teacher = predictions(1)
    silent = teacher._replace(
        logits=torch.full_like(teacher.logits, math.log(MIN_CONFIDENCE / (1 - MIN_CONFIDENCE)) - 0.1)
    )
    assert (
        len(confident(silent).score) == 0
        and distillation_loss(DetectionLoss(), predictions(0), silent, 1.0).item() == 0
    )


def test_boxes_coded_otherwise_are_compared_as_boxes() -> None:
    """16 bins or none against 17: the generalised IoU of the boxes replaces distributions; equal boxes cost nothing."""
    teacher = detached(predictions(1))
    for bins in (16, 1):
        student = predictions(0, bins)
        if bins == 1:  # sides themselves, of boxes that are some
            student = student._replace(boxes=(student.boxes.detach().abs() + 0.5).requires_grad_())
        same = teacher._replace(boxes=student.boxes)
        value = (
            distillation_loss(DetectionLoss(), student, teacher, 1.0)
            - DetectionLoss().distill(student, teacher, confident(teacher))[0]
        )
        assert 0 < value.item() < 5
        value.backward()
        assert student.boxes.grad is not None and student.boxes.grad.any()
        sides = (
            (decode_boxes(same) - same.points.repeat(1, 2)) / same.strides * torch.tensor([-1.0, -1, 1, 1])
        ).detach()
        twin = same._replace(boxes=sides)  # the same boxes in another coding
        both = (
            distillation_loss(DetectionLoss(), twin, same, 1.0)
            - DetectionLoss().distill(twin, same, confident(same))[0]
        )
        assert abs(both.item()) < 1e-4


def test_features_are_compared_by_their_correlation() -> None:
    torch.manual_seed(0)
    own = torch.randn(3, 4, 5, 5)
    assert (
        feature_loss(own, own * torch.tensor([1.0, 9, 0.1, 3]).view(1, 4, 1, 1) + 5).item() < 1e-3
    )  # scale and shift are nothing
    assert feature_loss(own, -own).item() == pytest.approx(2, abs=1e-3)
    other = torch.randn_like(own)
    wanted = [torch.corrcoef(torch.stack([own[:, c].flatten(), other[:, c].flatten()]))[0, 1].item() for c in range(4)]
    assert feature_loss(own, other).item() == pytest.approx(1 - sum(wanted) / 4, abs=1e-3)


def test_weight_falls_along_a_cosine() -> None:
    assert (
        distillation_share(0, 101) == 1
        and distillation_share(100, 101) == pytest.approx(FINAL_SHARE)
        and distillation_share(50, 101) == pytest.approx((1 + FINAL_SHARE) / 2)
    )
    values = [distillation_share(i, 20) for i in range(20)]
    assert values == sorted(values, reverse=True) and distillation_share(0, 1) == 1


def test_branches_learn_from_their_like() -> None:
    a, b = predictions(0), predictions(1)
    two, other = a._replace(auxiliary=predictions(2)), b._replace(auxiliary=predictions(3))
    assert branch_pairs(a, b) == [(a, b)]
    assert [(x is two.auxiliary, y is b) for x, y in branch_pairs(two, b)] == [(True, True)]
    assert [(x is a, y is other.auxiliary) for x, y in branch_pairs(a, other)] == [(True, True)]
    assert [(x is two.auxiliary, y is other.auxiliary) for x, y in branch_pairs(two, other)] == [
        (True, True),
        (False, False),
    ]


def saved(path: Path, detector: Detector, classes: tuple[str, ...]) -> Path:
    architecture = SPACE.architecture(**{**dict(SPACE.smallest.choices), "width": 16})
    return save_detector(
        path, detector, Artifact("L", architecture, (), NO_STUDY, classes, DataRecord("digits", "0" * 16)), {}
    )


def test_classes_in_another_order(tmp_path: Path) -> None:
    """By name; a teacher may know more of them, not less. Deployed it says the same."""
    known = ("cat", "dog", "eel", "fox")
    original = sure_teacher(4).detector
    path = saved(tmp_path / "L.safetensors", original, known)
    images = torch.rand(2, 3, 64, 64)
    teacher = open_teacher(path, ("fox", "cat"), torch.device("cpu"), list)
    said, features = teacher(images)
    whole = original(images)
    assert said.logits.shape[-1] == 2 and torch.allclose(said.logits, whole.logits[..., [3, 0]], atol=1e-3)
    assert len(features) == 3 and not said.logits.requires_grad and teacher.identity.startswith("L.safetensors ")
    assert torch.allclose(
        open_teacher(path, known, torch.device("cpu"), list)(images)[0].logits, whole.logits, atol=1e-3
    )
    with pytest.raises(InputError, match=r"lacks the classes \['gnu'\]"):
        open_teacher(path, ("cat", "gnu"), torch.device("cpu"), list)
    with pytest.raises(InputError, match="no weights file"):
        open_teacher(tmp_path / "none.safetensors", known, torch.device("cpu"), list)


def test_the_largest_of_a_supernet(tmp_path: Path) -> None:
    space = SPACE.restrict({c.name: c.values[:1] for c in SPACE.choices if c.name != "width"})
    supernet = Supernet(space, 2)
    path = save_supernet(tmp_path / "supernet.safetensors", supernet, ("a", "b"), {})
    batch = torch.rand(4, 3, 64, 64)
    own = supernet.extract(space.largest)
    recalibrate(own, [batch])
    asked: list[int] = []

    def images() -> list[Tensor]:
        asked.append(1)
        return [batch]

    teacher = open_teacher(path, ("a", "b"), torch.device("cpu"), images)
    assert asked == [1] and torch.allclose(teacher(batch)[0].logits, own(batch).logits, atol=1e-3)
    assert teacher.detector.graph == space.graph(space.largest)


def test_pairs_that_cannot_be(tmp_path: Path) -> None:
    anchors, free = (space.build(space.smallest, 2).eval() for space in (SPACES["yolov5"], SPACE))
    with pytest.raises(InputError, match=r"252 anchor points at 64 px, its student with 84"):
        check_pair(free, Teacher(anchors, "x"), 64, False)
    check_pair(free, Teacher(SPACE.build(SPACE.largest, 2), "x"), 96, True)
    check_pair(free, Teacher(SPACES["yolov8"].build(SPACES["yolov8"].smallest, 2), "x"), 64, True)


# Learning


def divergence(detector: Detector, teacher: Teacher, images: Tensor) -> float:
    with torch.no_grad():
        return distillation_loss(DetectionLoss(), detector(images), teacher(images)[0], 1.0).item()


def test_a_student_moves_towards_its_teacher(data: DataPair) -> None:
    """With nothing but the teacher: no label has a say."""
    teacher = sure_teacher()
    recipe = replace(RECIPE, distill_features=0.0, distill_temperature=1.0)
    task = task_of(teacher, recipe, 1000)
    images, _ = batch_of(data)
    none = Truth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    task.model.train()
    before = divergence(task.detector, teacher, images)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=5e-3)
    for step in range(12):
        ((_, terms),) = [(loss.backward(), terms) for loss, terms in task.losses(images, none, step)]
        assert set(terms) == {"cls", "iou", "dfl", "distill"}
        optimizer.step()
        optimizer.zero_grad()
    assert divergence(task.detector, teacher, images) < 0.85 * before
    assert all(p.grad is None for p in teacher.detector.parameters()) and not teacher.detector.training


def test_resumed_equals_uninterrupted_bit_for_bit(data: DataPair, tmp_path: Path) -> None:
    """Projections included; another teacher is refused."""
    teacher, loader, recipe = sure_teacher(), loader_of(data), replace(RECIPE, epochs=2)
    whole, broken, resumed = (task_of(teacher) for _ in range(3))
    projections = [p.clone() for p in whole.student.projections.parameters()]
    average = fit(whole, loader, recipe)
    assert len(projections) == 6 and all(
        not torch.equal(a, b) for a, b in zip(projections, whole.student.projections.parameters(), strict=True)
    )
    path = tmp_path / "checkpoint.pt"
    losses = broken.losses

    def until(images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        if step == 2:
            raise KeyboardInterrupt
        return losses(images, truth, step)

    broken.losses = until  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        fit(broken, loader, recipe, path, save_every=1)
    assert torch.load(path, weights_only=True)["step"] == 2
    torch.manual_seed(99)  # nothing may come from the global state
    again = fit(resumed, loader, recipe, path)
    assert equal(again, average) and equal(resumed.model, whole.model)
    other = task_of(replace(teacher, identity="another 1"))
    with pytest.raises(InputError, match="taught by big 0.*expected 'toy taught by another 1'"):
        fit(other, loader, recipe, path)


def train(data: DataPair, out: Path, watch: Watch) -> None:
    """Two steps without BatchNorm and without features, whose statistics are those of a process's share."""
    task = task_of(sure_teacher(), replace(RECIPE, distill_features=0.0), 2)
    for module in list(task.detector.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    batches = loader_of(data, (processes.rank(), processes.world_size()))
    fit(task, batches, replace(RECIPE, epochs=1, distill_features=0.0), None, watch)
    if not processes.rank():
        torch.save(task.model.state_dict(), out)


def test_two_processes_teach_as_one(data: DataPair, tmp_path: Path) -> None:
    processes.launch(partial(train, data, tmp_path / "two.pt"), 2)
    train(data, tmp_path / "one.pt", lambda p: None)
    one, two = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in ("one", "two"))
    assert max(float((one[k] - two[k]).abs().max()) for k in one) < 1e-4


def test_under_autocast(data: DataPair) -> None:
    """In bf16 it costs about the same, and its gradients are finite."""
    images, truth = batch_of(data)
    values = []
    for enabled in (False, True):
        task = task_of(sure_teacher())
        with torch.autocast("cpu", torch.bfloat16, enabled):
            ((loss, _),) = task.losses(images, truth, 0)
        loss.backward()
        grads = [p.grad for p in task.model.parameters() if p.grad is not None]
        assert len(grads) == len(list(task.model.parameters())) and all(g.isfinite().all() for g in grads)
        values.append(loss.item())
    assert values[1] == pytest.approx(values[0], rel=0.1)
