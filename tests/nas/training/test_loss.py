"""Label assignment against its definition in plain Python, the terms of the loss against hand values, and learning."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nas.training import assigner
from nas.training.assigner import TOP_K, Assignment, assign, pairwise_iou
from nas.training.loss import DetectionLoss, Truth, distribution_focal, giou
from search_spaces.heads.base import Predictions, grid
from search_spaces.spaces import SPACES

LEVELS, SIDE = ((12, 12), (6, 6), (3, 3)), 96


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / max((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared, 1e-9)


def oracle(
    scores: Tensor, boxes: Tensor, points: Tensor, truth: Tensor, labels: Tensor, image_index: Tensor
) -> dict[tuple[int, int], tuple[int, float]]:
    """(image, anchor) -> (box, target), straight from the definition: alignment score * IoU^6, 13 best inside each
    box, conflicts to the highest IoU."""
    wanted: dict[tuple[int, int], list[tuple[float, int, float]]] = {}
    for m, (box, label, image) in enumerate(zip(truth.tolist(), labels.tolist(), image_index.tolist(), strict=True)):
        inside = []
        for a, (x, y) in enumerate(points.tolist()):
            if box[0] < x < box[2] and box[1] < y < box[3]:
                overlap = iou(box, boxes[image, a].tolist())
                inside.append((float(scores[image, a, label]) * overlap**6, a, overlap))
        for alignment, a, overlap in sorted(inside, key=lambda c: -c[0])[:TOP_K]:
            wanted.setdefault((image, a), []).append((overlap, m, alignment))
    kept = {place: max(claims, key=lambda c: (c[0], -c[1])) for place, claims in wanted.items()}
    most: dict[int, tuple[float, float]] = {}
    for overlap, m, alignment in kept.values():
        top, top_overlap = most.get(m, (0.0, 0.0))
        most[m] = max(top, alignment), max(top_overlap, overlap)
    return {place: (m, alignment / (most[m][0] + 1e-9) * most[m][1]) for place, (_, m, alignment) in kept.items()}


def scene(
    seed: int, images: int, boxes_per_image: list[int], classes: int = 3
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Random predictions that overlap the truth, on 189 anchors of a 96 px image."""
    rng = torch.Generator().manual_seed(seed)
    points, strides = grid(LEVELS, (SIDE, SIDE), "cpu")
    sides = torch.rand(images, len(points), 4, generator=rng) * 5 * strides + 2
    boxes = torch.cat([points - sides[..., :2], points + sides[..., 2:]], -1)
    scores = torch.rand(images, len(points), classes, generator=rng) * 0.9 + 0.05
    count = sum(boxes_per_image)
    centre, size = torch.rand(count, 2, generator=rng) * SIDE, torch.rand(count, 2, generator=rng) * 50 + 4
    truth = torch.cat([centre - size / 2, centre + size / 2], 1).clamp(0, SIDE)
    labels = torch.randint(0, classes, (count,), generator=rng)
    index = torch.repeat_interleave(torch.arange(images), torch.tensor(boxes_per_image))
    return scores, boxes, points, truth, labels, index


def table(a: Assignment) -> dict[tuple[int, int], tuple[int, float]]:
    rows = zip(a.image.tolist(), a.anchor.tolist(), a.box.tolist(), a.score.tolist(), strict=True)
    out = {(image, anchor): (box, score) for image, anchor, box, score in rows}
    assert len(out) == len(a.image), "an anchor answers for two boxes"
    return out


CASES = [[3, 4], [0, 5], [5, 0, 2], [1], [40, 60], [0, 0], [200]]


@pytest.mark.parametrize("counts", CASES, ids=str)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_assignment_follows_its_definition(counts: list[int], seed: int) -> None:
    arguments = scene(seed, len(counts), counts)
    got, expected = table(assign(*arguments)), oracle(*arguments)
    assert got.keys() == expected.keys() and {k: v[0] for k, v in got.items()} == {k: v[0] for k, v in expected.items()}
    assert all(got[k][1] == pytest.approx(expected[k][1], rel=1e-4, abs=1e-7) for k in got)
    assert bool(got) == bool(sum(counts))


@pytest.mark.parametrize("counts", CASES, ids=str)
@pytest.mark.parametrize("pairs", [1, 189, 189 * 7])
def test_chunks_change_nothing(counts: list[int], pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = scene(5, len(counts), counts)
    whole = assign(*arguments)
    monkeypatch.setattr(assigner, "MAX_PAIRS", pairs)
    for a, b in zip(whole[:4], assign(*arguments)[:4], strict=True):
        assert torch.equal(a, b)


def test_assignment_by_hand() -> None:
    """Two boxes, three anchors: the middle one is wanted by both and goes to the higher IoU."""
    points = torch.tensor([[4.0, 4.0], [12.0, 4.0], [20.0, 4.0]])
    truth = torch.tensor([[0.0, 0.0, 16.0, 8.0], [8.0, 0.0, 24.0, 8.0]])
    boxes = torch.tensor([[[0.0, 0.0, 16.0, 8.0], [4.0, 0.0, 16.0, 8.0], [8.0, 0.0, 16.0, 8.0]]])
    scores = torch.tensor([[[0.5, 0.1], [0.8, 0.2], [0.3, 0.4]]])
    a = assign(scores, boxes, points, truth, torch.tensor([0, 1]), torch.tensor([0, 0]))
    assert sorted(zip(a.anchor.tolist(), a.box.tolist(), strict=True)) == [(0, 0), (1, 0), (2, 1)]
    target = table(a)
    # box 0: alignments 0.5 * 1 and 0.8 * 0.75^6, best IoU 1; box 1 has one anchor, IoU 0.5
    assert (
        target[0, 0][1] == pytest.approx(1.0)
        and target[0, 1][1] == pytest.approx(0.8 * 0.75**6 / 0.5)
        and target[0, 2][1] == pytest.approx(0.5)
    )


def test_anchors_are_found_before_anything_overlaps() -> None:
    """At the start of training IoU^6 is next to nothing; a box still gets anchors inside it, and only inside."""
    scores, _, points, truth, labels, index = scene(0, 1, [3])
    nothing = torch.cat([points - 1e-3, points + 1e-3], 1)[None]
    a = assign(scores, nothing, points, truth, labels, index)
    inside = ((points > truth[:, None, :2]) & (points < truth[:, None, 2:])).all(-1)
    assert set(a.box.tolist()) == set(torch.nonzero(inside.any(1)).flatten().tolist())
    assert inside[a.box, a.anchor].all() and torch.isfinite(a.score).all()


def test_truth_outside_every_anchor_is_left_alone() -> None:
    scores, boxes, points, *_ = scene(0, 1, [0])
    a = assign(scores, boxes, points, torch.tensor([[4.5, 4.5, 5.0, 5.0]]), torch.tensor([0]), torch.tensor([0]))
    assert len(a.score) == 0


def test_targets_are_scores() -> None:
    for seed in range(5):
        a = assign(*scene(seed, 2, [10, 30]))
        assert (a.score >= 0).all() and (a.score <= 1).all()


class Largest(TorchDispatchMode):
    """The largest tensor that any operator writes."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.elements = max(
            [
                self.elements,
                *(t.untyped_storage().nbytes() // t.element_size() for t in tree_leaves(out) if isinstance(t, Tensor)),
            ]
        )
        return out


def test_a_crowded_batch_stays_within_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    points, strides = grid(((32, 32), (16, 16), (8, 8)), (256, 256), "cpu")
    rng = torch.Generator().manual_seed(0)
    assert len(points) == 1344
    boxes = torch.cat([points - 2 * strides, points + 2 * strides], 1).expand(2, -1, -1)
    scores = torch.rand(2, len(points), 2, generator=rng)
    corner = torch.rand(4000, 2, generator=rng) * 230
    truth = torch.cat([corner, corner + 8 + torch.rand(4000, 2, generator=rng) * 16], 1)
    labels, index = torch.randint(0, 2, (4000,), generator=rng), torch.arange(2).repeat_interleave(2000)
    monkeypatch.setattr(assigner, "MAX_PAIRS", 1 << 18)
    with Largest() as largest:
        a = assign(scores, boxes, points, truth, labels, index)
    assert len(a.score) > 1000
    # four coordinates for every pair of a chunk, and nothing that grows with boxes x anchors (5.4 M)
    assert largest.elements <= 4 * (1 << 18)


def test_a_crowded_image_is_trained_within_its_memory() -> None:
    """2,000 boxes in an image of 640 px with 80 classes: nothing in loss and gradients grows with boxes x anchors (x
    classes)."""
    points, strides = grid(((80, 80), (40, 40), (20, 20)), (640, 640), "cpu")
    rng = torch.Generator().manual_seed(0)
    logits, sides = (torch.randn(1, len(points), n, generator=rng).requires_grad_() for n in (80, 68))
    corner = torch.rand(2000, 2, generator=rng) * 600
    boxes = torch.cat([corner, corner + 8 + torch.rand(2000, 2, generator=rng) * 30], 1)
    truth = Truth(boxes, torch.randint(0, 80, (2000,), generator=rng), torch.zeros(2000, dtype=torch.long))
    with Largest() as largest:
        loss, _, matched = DetectionLoss()(Predictions(logits, sides, points, strides), truth)
        loss.backward()
    assert len(matched.score) > 2000 and loss.isfinite()
    # the predictions themselves (672,000), four coordinates of a chunk's pairs; all pairs at once would be 2,000 x
    # 8,400 x 4 = 67 M
    assert largest.elements <= 4 * assigner.MAX_PAIRS


def test_pairwise_iou_agrees_with_plain_python() -> None:
    rng = random.Random(0)
    a, b = (
        [
            (x, y, x + rng.random() * 9, y + rng.random() * 9)
            for x, y in ((rng.random() * 9, rng.random() * 9) for _ in range(20))
        ]
        for _ in range(2)
    )
    got = pairwise_iou(torch.tensor(a)[:, None], torch.tensor(b)[None])
    assert all(float(got[i, j]) == pytest.approx(iou(a[i], b[j]), abs=1e-5) for i in range(20) for j in range(20))


# terms


def test_giou_by_hand() -> None:
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0]] * 4)
    b = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0], [2.0, 0.0, 4.0, 2.0], [4.0, 0.0, 6.0, 2.0]])
    assert torch.allclose(giou(a, b), torch.tensor([1.0, 1 / 3, 0.0, -1 / 3])) and torch.equal(giou(a, b), giou(b, a))
    flat = torch.zeros(1, 4)
    assert giou(flat, flat).isfinite().all()


def test_distribution_focal_by_hand() -> None:
    uniform = torch.zeros(1, 4, 17)
    assert distribution_focal(uniform, torch.tensor([[0.0, 3.5, 16.0, 99.0]])).item() == pytest.approx(math.log(17))
    logits = torch.randn(3, 4, 17, generator=torch.Generator().manual_seed(0))
    sides = torch.tensor([[0.0, 3.25, 15.99, 20.0], [1.0, 2.0, -4.0, 0.5], [7.75, 8.0, 14.0, 15.5]])
    log = logits.log_softmax(-1)
    for p in range(3):
        terms = []
        for s in range(4):
            side = min(max(float(sides[p, s]), 0.0), 15.99)  # clipped so that both neighbours exist
            left, share = math.floor(side), side - math.floor(side)
            terms.append(-(float(log[p, s, left]) * (1 - share) + float(log[p, s, left + 1]) * share))
        assert distribution_focal(logits, sides)[p].item() == pytest.approx(sum(terms) / 4, rel=1e-4)


def test_derivatives_agree_with_finite_differences() -> None:
    rng = torch.Generator().manual_seed(0)
    corner = torch.rand(6, 2, generator=rng, dtype=torch.float64) * 4
    a, b = (
        torch.cat([corner + shift, corner + shift + 1 + 3 * torch.rand(6, 2, generator=rng, dtype=torch.float64)], 1)
        for shift in (0.0, 0.7)
    )
    assert torch.autograd.gradcheck(giou, (a.requires_grad_(), b.requires_grad_()))
    logits = torch.randn(3, 4, 9, generator=rng, dtype=torch.float64, requires_grad=True)
    sides = torch.rand(3, 4, generator=rng, dtype=torch.float64) * 7
    assert torch.autograd.gradcheck(lambda x: distribution_focal(x, sides), (logits,))


def predictions(seed: int, images: int, classes: int = 3, dtype: torch.dtype = torch.float32) -> Predictions:
    rng = torch.Generator().manual_seed(seed)
    points, strides = grid(LEVELS, (SIDE, SIDE), "cpu")
    logits, boxes = (
        torch.randn(images, len(points), n, generator=rng, dtype=dtype).requires_grad_() for n in (classes, 68)
    )
    return Predictions(logits, boxes, points, strides)


def truth_of(seed: int, counts: list[int]) -> Truth:
    _, _, _, boxes, labels, index = scene(seed, len(counts), counts)
    return Truth(boxes, labels, index)


def test_loss_by_its_definition() -> None:
    out, truth = predictions(0, 2), truth_of(0, [3, 4])
    loss, terms, matched = DetectionLoss()(out, truth)
    p, total = out.logits.detach().sigmoid(), 0.0
    target = torch.zeros_like(p)
    for (image, anchor), (box, score) in table(matched).items():
        target[image, anchor, truth.labels[box]] = score
    for q, chance in zip(target.flatten().tolist(), p.flatten().tolist(), strict=True):
        entropy = -(q * math.log(chance) + (1 - q) * math.log(1 - chance))
        total += entropy * (q if q > 0 else 0.75 * chance**2)
    norm = max(1.0, float(matched.score.sum()))
    assert float(terms["cls"]) == pytest.approx(total / norm, rel=1e-4)
    own = oracle_boxes(out)
    overlaps = [giou(own[i, a][None], truth.boxes[m][None]).item() for (i, a), (m, _) in table(matched).items()]
    expected = 2.5 * sum((1 - g) * s for g, (_, s) in zip(overlaps, table(matched).values(), strict=True)) / norm
    assert float(terms["iou"]) == pytest.approx(expected, rel=1e-4)
    assert loss.item() == pytest.approx(sum(float(t) for t in terms.values()), rel=1e-6) and set(terms) == {
        "cls",
        "iou",
        "dfl",
    }


def oracle_boxes(out: Predictions) -> Tensor:
    """Decoding in so many words: each side is the mean of its distribution, in strides."""
    sides = (out.boxes.detach().reshape(*out.boxes.shape[:2], 4, 17).softmax(-1) * torch.arange(17.0)).sum(
        -1
    ) * out.strides
    return torch.cat([out.points - sides[..., :2], out.points + sides[..., 2:]], -1)


@pytest.mark.parametrize("counts", [[0, 0], [0, 3], [150, 2]], ids=str)
def test_loss_is_finite_and_differentiable(counts: list[int]) -> None:
    student, truth = predictions(1, 2), truth_of(2, counts)
    loss, terms, matched = DetectionLoss()(student, truth)
    loss.backward()
    assert (
        loss.isfinite()
        and student.logits.grad is not None
        and student.logits.grad.isfinite().all()
        and student.logits.grad.any()
    )
    assert (
        student.boxes.grad is not None
        and student.boxes.grad.isfinite().all()
        and bool(student.boxes.grad.any()) == bool(sum(counts))
    )
    assert all(not t.requires_grad for t in terms.values())
    other = predictions(2, 2)
    distilled, _ = DetectionLoss().distill(other, student, matched)
    student.logits.grad = None
    distilled.backward()
    assert distilled.isfinite() and student.logits.grad is None
    assert other.logits.grad is not None and bool(other.logits.grad.any()) == bool(
        sum(counts)
    )  # the teacher speaks at assigned anchors only


def test_grids_of_an_evaluation_serve_a_training() -> None:
    """They are kept from call to call, and tensors of inference mode cannot be differentiated through."""
    anchors = SPACES["yolov5"].build(SPACES["yolov5"].smallest, 2)
    with torch.inference_mode():
        kept = grid(((3, 1), (2, 1)), (24, 8), "cpu")
        predictions = anchors(torch.rand(1, 3, 32, 224))
    assert not any(t.is_inference() for t in (*kept, predictions.priors, predictions.points, predictions.strides))


def test_no_box_leaves_only_the_background() -> None:
    _, terms, matched = DetectionLoss()(predictions(0, 2), truth_of(0, [0, 0]))
    assert len(matched.score) == 0 and float(terms["iou"]) == float(terms["dfl"]) == 0 and float(terms["cls"]) > 0


def test_a_student_equal_to_its_teacher_has_nothing_to_learn_from_it() -> None:
    teacher, truth = predictions(0, 2), truth_of(0, [3, 4])
    loss, ours, matched = DetectionLoss()(teacher, truth)
    _, terms = DetectionLoss().distill(teacher, teacher, matched)
    assert float(terms["cls"]) == pytest.approx(0, abs=1e-3) and float(terms["dfl"]) == pytest.approx(0, abs=1e-5)
    again, same = DetectionLoss().assigned(teacher, truth, matched)
    assert again.item() == pytest.approx(loss.item()) and same["iou"].item() == pytest.approx(ours["iou"].item())


def test_a_student_learns_its_teachers_classes_and_sides() -> None:
    teacher, student, truth = predictions(0, 2), predictions(5, 2), truth_of(0, [3, 4])
    matched = DetectionLoss()(teacher, truth)[2]
    before, _ = DetectionLoss().distill(student, teacher, matched)
    before.backward()
    assert student.logits.grad is not None and student.boxes.grad is not None
    stepped = student._replace(
        logits=student.logits - 0.5 * student.logits.grad, boxes=student.boxes - 0.5 * student.boxes.grad
    )
    assert DetectionLoss().distill(stepped, teacher, matched)[0] < before


def test_a_tiny_network_learns_one_batch() -> None:
    torch.manual_seed(0)
    space = SPACES["yolo-nano"]
    detector = space.build(space.smallest, 3).train()
    images = torch.rand(2, 3, SIDE, SIDE)
    truth = Truth(
        torch.tensor([[8.0, 8, 48, 48], [40, 30, 90, 80], [20, 20, 70, 60]]),
        torch.tensor([0, 1, 2]),
        torch.tensor([0, 0, 1]),
    )
    for box, label, image in zip(
        truth.boxes.int().tolist(), truth.labels.tolist(), truth.image_index.tolist(), strict=True
    ):
        images[image, label, box[1] : box[3], box[0] : box[2]] += 1
    optimizer = torch.optim.AdamW(detector.parameters(), lr=5e-3)
    losses = []
    for _ in range(40):
        loss, _, _ = DetectionLoss()(detector(images), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5]), losses
