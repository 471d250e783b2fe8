"""The supernet is the network it was derived from: masked-largest equality, equality with extracted networks,
gradients."""

from __future__ import annotations

import copy
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from nas.supernet.supernet import Cut, Supernet, cut, layouts
from search_spaces.architecture import Architecture
from search_spaces.blocks import BLOCKS
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.heads import HEADS
from search_spaces.heads.base import Predictions
from search_spaces.space import SearchSpace
from search_spaces.spaces import SPACES
from tests._networks import (
    axes_of,
    case,
    draw,
    laid_out,
    make,
    mask_like,
    naive_positions,
    positions,
    randomise,
    scatter,
    without_statistics,
)

KINDS = sorted([*BLOCKS, *HEADS])
SIDE = 64


def small(name: str) -> SearchSpace:
    """The space with all its alternatives, but no wider than a test can afford, at one image size."""
    space = SPACES[name]
    most = {"hidden": 2, "width": 2} if name != "yolo-nano" else {}
    return space.restrict(
        {c.name: c.values[: most.get(c.name.rpartition("_")[2], 3)] for c in space.choices if c.ordered and c.weights}
        | {"image_size": space["image_size"].values[-1:]}
    )


def points_of(space: SearchSpace, seed: int, at_least: int) -> list[Architecture]:
    """The smallest, the largest, and points in rounds: in each round every choice goes through all its values, in an
    order of its own."""
    rng = random.Random(seed)
    length = max(len(c.values) for c in space.choices if c.weights)
    points = [space.smallest, space.largest]
    while len(points) < 2 + at_least:
        orders = {c.name: rng.sample(c.values, len(c.values)) for c in space.choices}
        points += [
            space.architecture(**{name: order[i % len(order)] for name, order in orders.items()}) for i in range(length)
        ]
    return points


@pytest.fixture(scope="module", params=sorted(SPACES))
def single(request: pytest.FixtureRequest) -> Supernet:
    """The supernet of every space, one at a time. Tests leave its weights as they are."""
    return supernet_of(small(request.param))


@pytest.fixture(scope="module")
def double(single: Supernet) -> Supernet:
    """The same in double precision."""
    return copy.deepcopy(single).double()


@pytest.fixture(scope="module")
def nano() -> Supernet:
    return supernet_of(small("yolo-nano"))


def supernet_of(space: SearchSpace) -> Supernet:
    torch.manual_seed(0)
    supernet = Supernet(space, 3)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in supernet.weights.items():
            if p.dim() <= 1:
                low = 0.5 if name.endswith(("norm/weight", "norm3/weight", "alpha")) else -0.5
                p.copy_(low + torch.rand(p.shape, generator=rng))
    return supernet


def container(space: SearchSpace, architecture: Architecture) -> Architecture:
    """The network all of whose weights the supernet owns and of which ``architecture`` is a part: largest in what is
    ordered, same families."""
    fixed = {c.name: architecture[c.name] if not c.ordered or not c.weights else c.values[-1] for c in space.choices}
    return space.architecture(**{k: "qci" if v == "qsp" and "qci" in space[k].values else v for k, v in fixed.items()})


def owner(supernet: Supernet, architecture: Architecture) -> Detector:
    """A detector whose parameters are the supernet's own tensors, whole and uncut."""
    with torch.device("meta"):
        detector = supernet.space.build(architecture, supernet.num_classes)
    without_statistics(detector)
    state = {
        name: supernet.weights[name.removeprefix("cells.").replace(".", "/")].detach()
        for name, _ in detector.named_parameters()
    }
    state |= {name: value.clone() for name, value in state.items() if name.endswith("alpha")}  # mask_like sets some
    for name, p in detector.named_parameters():
        assert p.shape == state[name].shape, (
            f"{name}: the supernet owns {tuple(state[name].shape)}, the largest network needs {tuple(p.shape)}"
        )
    detector.load_state_dict(state, assign=True)
    return detector


def skeleton(space: SearchSpace, architecture: Architecture) -> Detector:
    with torch.device("meta"):
        return space.build(architecture, 3)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-9) -> bool:
    return a.shape == b.shape and float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


# masked-largest equality


def test_masked_largest_equality_of_architectures(double: Supernet) -> None:
    supernet, space = double, double.space
    images = torch.rand(2, 3, SIDE, SIDE // 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    points = points_of(space, seed=0, at_least=9 if space.name == "yolo-nano" else 6)
    unequal = different = 0
    with torch.no_grad():
        for point in points:
            ours, whole = supernet(images, point), container(space, point)
            masked = owner(supernet, whole)
            if point in points[2:5]:
                unequal += not close(ours.logits, masked(images).logits)
                different += point != whole
            mask_like(masked, skeleton(space, point))
            theirs = masked(images)
            # statistics over a handful of values amplify rounding: 1.4e-9 seen, where others are at 1e-13
            assert close(ours.logits, theirs.logits, 1e-7) and close(ours.boxes, theirs.boxes, 1e-7), point
    assert unequal == different > 0  # the masks do something


@pytest.mark.parametrize("kind", KINDS)
def test_masked_largest_equality_of_blocks(kind: str) -> None:
    assert_masked_equality(kind, draws=30)


def assert_masked_equality(kind: str, draws: int, rule=positions, full: str | None = None) -> None:  # type: ignore[no-untyped-def]
    """``full``: the kind that owns the weights, where it is another of the same family (QCI owns QSP's)."""
    n, c_in = draw(full or kind, None)
    torch.manual_seed(0)
    largest = without_statistics(randomise(make(full or kind, n, c_in)).double())
    shared, owned = dict(largest.named_parameters()), layouts(largest)
    rng = random.Random(0)
    for i in range(draws):
        n, c_small = draw(kind, rng)
        with torch.device("meta"):
            subnet = without_statistics(make(kind, n, c_small))
        own = layouts(subnet)
        assert {name for name, p in subnet.named_parameters() if p.numel() > 1} == set(own)
        weights = {
            name: cut(owned.get(name, ()), own.get(name, ()), p.shape, shared[name].shape)(shared[name])
            for name, p in subnet.named_parameters()
        }
        assert all(weights[name].shape == p.shape for name, p in subnet.named_parameters())
        masked = copy.deepcopy(largest)
        mask_like(masked, subnet, rule)
        inputs = case(kind).inputs(c_small, torch.float64, seed=i)
        padded = tuple(nn.functional.pad(x, (0, 0, 0, 0, 0, c - x.shape[1])) for x, c in zip(inputs, c_in, strict=True))
        with torch.no_grad():
            ours, theirs = functional_call(subnet, weights, inputs), masked(*padded)
        if isinstance(ours, Tensor):
            assert close(ours, theirs[:, : ours.shape[1]]) and not theirs[:, ours.shape[1] :].any()
        else:
            assert all(
                close(a, b) for pair, whole in zip(ours, theirs, strict=True) for a, b in zip(pair, whole, strict=True)
            )


def test_qsp_is_a_part_of_qci() -> None:
    assert_masked_equality("qsp", 30, full="qci")


@pytest.mark.parametrize("kind", ["qci", "c2f", "c3", "csp", "spp", "bifusion"])
def test_first_n_channels_would_be_wrong(kind: str) -> None:
    """The check can fail: with the naive rule, concatenations are cut in the wrong places."""
    with pytest.raises(AssertionError):
        assert_masked_equality(kind, draws=10, rule=naive_positions)


def test_first_n_channels_would_be_wrong_for_whole_networks(nano: Supernet) -> None:
    supernet, space, rng = copy.deepcopy(nano).double(), nano.space, random.Random(0)
    images = torch.rand(2, 3, SIDE, SIDE // 2, dtype=torch.float64)
    wrong = 0
    with torch.no_grad():
        for _ in range(5):
            point = space.sample(rng)
            masked = owner(supernet, container(space, point))
            mask_like(masked, skeleton(space, point), naive_positions)
            wrong += not close(supernet(images, point).logits, masked(images).logits, 1e-6)
    assert wrong == 5


# cuts by hand


def test_cut_by_hand() -> None:
    shared = torch.arange(6 * 10.0).reshape(6, 10)
    assert cut(((6,), (4, 6)), ((2,), (1, 2)), torch.Size((2, 3)), shared.shape)(shared).tolist() == [
        [0, 4, 5],
        [10, 14, 15],
    ]
    assert cut(((6,), (4, 2, 4)), ((1,), (3, 0, 2)), torch.Size((1, 5)), shared.shape)(shared).tolist() == [
        [0, 1, 2, 6, 7]
    ]
    whole = cut(((6,), (4, 6)), ((6,), (4, 6)), shared.shape, shared.shape)
    assert whole(shared).data_ptr() == shared.data_ptr()
    prefix = cut(((6,), (4, 6)), ((6,), (4,)), torch.Size((6, 4)), shared.shape)
    assert torch.equal(prefix(shared), shared[:, :4])


def test_cut_takes_the_centre_of_a_kernel() -> None:
    shared = torch.arange(2 * 2 * 25.0).reshape(2, 2, 5, 5)
    assert torch.equal(
        cut(((2,), (2,)), ((1,), (2,)), torch.Size((1, 2, 3, 3)), shared.shape)(shared), shared[:1, :, 1:4, 1:4]
    )


def test_cut_of_two_concatenated_axes() -> None:
    shared = torch.arange(64.0).reshape(8, 8)
    both = cut(((4, 4), (4, 4)), ((2, 2), (1, 3)), torch.Size((4, 4)), shared.shape)
    assert torch.equal(both(shared), shared[[0, 1, 4, 5]][:, [0, 4, 5, 6]])
    gradient, own = torch.zeros(8, 8), torch.rand(4, 4)
    both.add(own, gradient)
    assert torch.equal(both(gradient), own) and gradient.count_nonzero() == 16


def test_cut_is_a_value() -> None:
    assert Cut(((slice(0, 2),),)) == cut(((4,),), ((2,),), torch.Size((2,)), torch.Size((4,)))


# subnet and extracted network


def test_subnet_equals_extracted_network_bit_for_bit(single: Supernet) -> None:
    supernet = single
    images = torch.rand(2, 3, SIDE, SIDE // 2)
    for point in points_of(single.space, seed=3, at_least=3):
        detector = supernet.extract(point)
        assert detector.training and type(detector) is Detector
        with torch.no_grad():
            ours, theirs = supernet(images, point), detector(images)
        assert torch.equal(ours.logits, theirs.logits) and torch.equal(ours.boxes, theirs.boxes), point


def test_an_extracted_network_is_a_copy(nano: Supernet) -> None:
    supernet = nano
    before = {k: v.clone() for k, v in supernet.state_dict().items()}
    detector = supernet.extract(supernet.space.largest)
    with torch.no_grad():
        for p in detector.parameters():
            p.add_(1.0)
    assert all(torch.equal(before[k], v) for k, v in supernet.state_dict().items())


def scattered(supernet: Supernet, point: Architecture, grads: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of an extracted network laid at their places in the shared tensors."""
    own, whole = skeleton(supernet.space, point), skeleton(supernet.space, container(supernet.space, point))
    theirs, out = dict(laid_out(whole)), {}
    places: dict[str, list[list[int]]] = {}
    for name, layer in laid_out(own):
        o, i = (
            positions(w, s)
            for w, s in zip(axes_of(theirs[name]), axes_of(layer), strict=True)
            if w is not None and s is not None
        )
        for parameter, p in layer.named_parameters(recurse=False):
            one = len(layer.layouts) == 1 or p.dim() == 1  # type: ignore[arg-type]
            places[f"{name}.{parameter}"] = (
                [o] if one else ([i, o] if isinstance(layer, nn.ConvTranspose2d) else [o, i])
            )
    for name, grad in grads.items():
        key = name.removeprefix("cells.").replace(".", "/")
        out[key] = scatter(grad, places[name], supernet.weights[key].shape) if name in places else grad
    return out


def objective(out: Predictions) -> Tensor:
    rng = torch.Generator().manual_seed(5)
    maps = [t for p in (out, out.auxiliary) if p is not None for t in (p.logits, p.boxes)]
    return sum(
        ((t * torch.randn(t.shape, generator=rng, dtype=t.dtype)).sum() for t in maps),
        torch.zeros((), dtype=out[0].dtype),
    )


def test_gradients_are_those_of_the_extracted_network(double: Supernet) -> None:
    """At their places, zero elsewhere; those of two architectures add up."""
    supernet, space, rng = double, double.space, random.Random(4)
    supernet.zero_grad()
    images = torch.rand(2, 3, SIDE, SIDE // 2, dtype=torch.float64)
    expected: dict[str, Tensor] = {}
    for point in (space.sample(rng), space.sample(rng), space.smallest):
        objective(supernet(images, point)).backward()
        detector = supernet.extract(point).double()
        with torch.no_grad():
            for p, own in zip(detector.parameters(), supernet.parameters_of(point).values(), strict=True):
                p.copy_(own)  # extract builds in float32
        objective(detector(images)).backward()
        grads = scattered(supernet, point, {k: p.grad for k, p in detector.named_parameters() if p.grad is not None})
        for key, grad in grads.items():
            expected[key] = expected.get(key, 0) + grad
        for key, p in supernet.weights.items():
            if key in expected:
                assert p.grad is not None and close(p.grad, expected[key], 1e-8), key
            else:
                assert p.grad is None, key
    assert any((g == 0).any() and (g != 0).any() for g in expected.values())


def test_batchnorm_is_private_to_an_image_size() -> None:
    fixed = {c.name: c.values for c in small("yolo-nano").choices if c.weights}
    space = SPACES["yolo-nano"].restrict(fixed | {"image_size": (96, 128, 160)})
    supernet, point, images = Supernet(space, 3), space.smallest, torch.rand(2, 3, SIDE, SIDE)
    at = {size: point.replace(image_size=size) for size in (64, 96, 128, 160, 192)}

    def of(size: int) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in supernet.parameters_of(at[size]).items()}

    before = of(96)
    assert all(torch.equal(of(size)[name], value) for size in at for name, value in before.items())  # at first
    objective(supernet(images, at[128])).backward()
    with torch.no_grad():
        for parameter in supernet.parameters():
            if parameter.grad is not None:
                parameter.add_(0.1)
    bn = {
        f"cells.{n}.{p}"
        for n, m in supernet.extract(point).cells.named_modules()
        if isinstance(m, nn.BatchNorm2d)
        for p in ("weight", "bias")
    }
    for name, value in before.items():
        changed = {size for size in at if not torch.equal(of(size)[name], value)}
        assert changed == ({128} if name in bn else set(at)), name
    detector = supernet.extract(at[128])
    assert all(torch.equal(p, of(128)[name]) for name, p in detector.named_parameters())
    supernet.fill(at[160], detector)  # at all sizes
    assert all(torch.equal(of(size)[name], p) for size in at for name, p in detector.named_parameters())


def test_nothing_is_remembered_between_architectures(nano: Supernet) -> None:
    supernet, space, rng = nano, nano.space, random.Random(5)
    images = torch.rand(2, 3, SIDE, SIDE)
    state = {k: v.clone() for k, v in supernet.state_dict().items()}
    points = [space.sample(rng) for _ in range(5)]
    with torch.no_grad():
        first = [supernet(images, p).logits for p in points]
        again = [supernet(images, p).logits for p in reversed(points)][::-1]
        supernet.eval()  # batch statistics all the same
        evaluated = [supernet(images, p).logits for p in points]
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(first, again, evaluated, strict=True))
    assert all(torch.equal(state[k], v) for k, v in supernet.state_dict().items()) and list(
        supernet.state_dict()
    ) == list(state)


def test_a_copy_computes_with_its_own_weights(nano: Supernet) -> None:
    """The average of a supernet is a deep copy whose weights then go their own way."""
    supernet, images, point = nano, torch.rand(2, 3, SIDE, SIDE), nano.space.largest
    with torch.no_grad():
        before = supernet(images, point).logits
        other = copy.deepcopy(supernet)
        for p in other.parameters():
            p.mul_(0.5)
        assert torch.equal(supernet(images, point).logits, before) and not torch.equal(
            other(images, point).logits, before
        )
        assert torch.equal(other.extract(point)(images).logits, other(images, point).logits)


def test_weights_go_through_a_file(nano: Supernet, tmp_path: Path) -> None:
    space = nano.space
    a, b = nano, Supernet(space, 3)
    torch.save(a.state_dict(), tmp_path / "w.pt")
    b.load_state_dict(torch.load(tmp_path / "w.pt", weights_only=True))
    images = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        assert torch.equal(a(images, space.smallest).logits, b(images, space.smallest).logits)


def test_head_of_an_architecture_decodes(nano: Supernet) -> None:
    supernet, space = nano, nano.space
    with torch.no_grad():
        out = supernet(torch.rand(1, 3, SIDE, SIDE), space.smallest)
        boxes, scores = supernet.head_of(space.smallest).decode(out)
    assert boxes.shape == (1, 84, 4) and scores.shape == (1, 84, 3) and boxes.isfinite().all()


def test_a_supernet_of_one_image_size_gives_its_weights_at_any() -> None:
    space = SPACES["yolo-nano"].restrict({"image_size": (96,), "width": SPACES["yolo-nano"]["width"].values[:1]})
    supernet = Supernet(space, 3)
    other = space.smallest.replace(image_size=128)
    detector = supernet.extract(other)
    assert detector.graph.image_size == 128
    assert all(
        torch.equal(p, q)
        for p, q in zip(detector.parameters(), supernet.extract(space.smallest).parameters(), strict=True)
    )
    with pytest.raises(InputError, match="width"):
        supernet.extract(other.replace(width=SPACES["yolo-nano"]["width"].values[1]))
